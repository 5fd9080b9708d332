"""In which order a pipeline's stages run, and which of them share a cluster."""

from __future__ import annotations

import pytest

from fmnist.distributed.cluster import Resources
from fmnist.errors import UserError
from fmnist.workflows.pipeline.config import PipelineConfig
from fmnist.workflows.pipeline.job import _sides
from fmnist.workflows.pipeline.stages import plan


def sides(cpus: float, gpus: float = 0, **settings: object) -> list[list[list[str]]]:
    config = PipelineConfig(**settings)  # type: ignore[arg-type]
    resources = Resources(cpus=cpus, gpus=gpus, nodes=1, cpus_of_largest_node=cpus, started_here=True)
    stages = [stage for stage in plan(config, "night") if stage.left_out is None]
    return [[[stage.name for stage in side] for side in step] for step in _sides(config, stages, resources)]


def test_a_laptops_stages_run_one_after_the_other() -> None:
    [[order]] = sides(2, backbone="vgg16")

    assert order == [
        *("train-lenet5", "train-lenet5-1998", "tune-notebook", "tune-extended", "crossval-lenet5"),
        *("transfer-vgg16-notebook", "transfer-vgg16-sound"),
    ]


def test_on_a_bigger_cluster_folds_share_it_with_trainings_and_a_search_has_it_alone() -> None:
    shared, alone = sides(16, backbone="vgg16")

    assert shared == [
        ["train-lenet5", "train-lenet5-1998", "transfer-vgg16-notebook", "transfer-vgg16-sound"],
        ["crossval-lenet5"],
    ]
    assert alone == [["tune-notebook", "tune-extended"]]


@pytest.mark.parametrize(
    ("cpus", "gpus", "settings"),
    [
        (16, 0, {"side_by_side": "off"}),
        (16, 0, {"stages": "train,tune"}),
        (16, 0, {"stages": "crossval"}),
        (16, 0, {"workers": 9}),
        (16, 2, {"workers": 2, "gpus_per_worker": 1}),
        (16, 1, {"gpus_per_task": 1}),
    ],
)
def test_stages_do_not_share_what_is_not_enough_for_both(cpus: float, gpus: float, settings: dict[str, object]) -> None:
    assert all(len(step) == 1 for step in sides(cpus, gpus, **settings))


def test_two_halves_of_one_processor_are_taken_only_if_wanted() -> None:
    assert len(sides(2, side_by_side="auto")[0]) == 1
    assert len(sides(2, side_by_side="on")[0]) == 2
    with pytest.raises(UserError, match="side_by_side: found on, expected off or auto on 1 CPUs"):
        sides(1, side_by_side="on")
