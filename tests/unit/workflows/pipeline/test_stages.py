"""What a pipeline's profiles make of the study: which runs, with which settings."""

from __future__ import annotations

from dataclasses import fields

import pytest

from fmnist.study import ROWS
from fmnist.workflows.crossval.config import CrossvalConfig
from fmnist.workflows.pipeline.config import STAGES, PipelineConfig
from fmnist.workflows.pipeline.stages import Stage, plan
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.transfer.config import BACKBONES, TransferConfig
from fmnist.workflows.tune.config import TuneConfig

# What a pipeline decides for its stages, whatever the profile.
GIVEN = {"run_id", "skip_finished", "compare_with", "backbone", "recipe", "carry_weights", "space", "model"}


def stages(**settings: object) -> dict[str, Stage]:
    return {stage.name: stage for stage in plan(PipelineConfig(**settings), "night")}  # type: ignore[arg-type]


def changed(stage: Stage) -> dict[str, object]:
    """The stage's settings that are not the job's own defaults."""
    defaults = type(stage.config)()
    values = {field.name: getattr(stage.config, field.name) for field in fields(stage.config)}
    return {name: value for name, value in values.items() if value != getattr(defaults, name) and name not in GIVEN}


def test_every_row_of_the_study_has_its_stages() -> None:
    named = {name for row in ROWS for name in (row.reproduced, row.sound) if name}

    assert named <= set(stages())


def test_stages_are_those_that_can_be_named() -> None:
    assert tuple(stages()) == STAGES


@pytest.mark.parametrize("wanted", [*STAGES, "tune-extended,train"])
def test_a_stage_is_wanted_by_its_name_or_its_jobs(wanted: str) -> None:
    run = {name for name, stage in stages(stages=wanted).items() if stage.left_out is None}

    assert run == {name for name in STAGES if {name, name.split("-")[0]} & set(wanted.split(","))}


def test_every_stage_has_a_run_id_under_the_pipelines() -> None:
    planned = stages()

    assert [stage.config.run_id for stage in planned.values()] == [f"night-{name}" for name in planned]


def test_laptop_takes_each_jobs_own_defaults() -> None:
    assert {name: changed(stage) for name, stage in stages(max_failures=1).items()} == {
        name: {} if stage.job == "tune" else {"max_failures": 1} for name, stage in stages().items()
    }


def test_full_differs_from_laptop_in_the_fine_tuning_only() -> None:
    laptop, full = stages(profile="laptop"), stages(profile="full")

    different = [name for name in laptop if laptop[name].config != full[name].config]

    assert different == [f"transfer-{backbone}-sound" for backbone in BACKBONES]
    assert changed(full["transfer-vgg16-sound"]) == {"fine_tune_epochs": 4, "fine_tune_stages": 3}


def test_smoke_is_small_everywhere_and_needs_no_internet() -> None:
    for stage in stages(profile="smoke").values():
        assert stage.config.limit is not None and stage.config.limit <= 1_000
        if isinstance(stage.config, TransferConfig):
            assert stage.config.weights == "none"
        if not isinstance(stage.config, TuneConfig):
            assert stage.config.epochs <= 2  # type: ignore[attr-defined]


def test_settings_of_the_pipeline_reach_every_stage_that_has_them() -> None:
    planned = stages(
        data="s3://there",
        artifacts="s3://here",
        seed=7,
        limit=900,
        val_fraction=0.3,
        precision="bfloat16",
        workers=3,
        gpus_per_worker=1,
        gpus_per_task=0.5,
        max_failures=9,
        weights="s3://weights",
    ).values()

    for stage in planned:
        config = stage.config
        assert (config.data, config.artifacts, config.seed, config.limit) == ("s3://there", "s3://here", 7, 900)
        assert config.precision == "bfloat16" and config.max_failures == 9  # type: ignore[attr-defined]
        assert config.val_fraction == (CrossvalConfig.val_fraction if isinstance(config, CrossvalConfig) else 0.3)
        if isinstance(config, TrainConfig | TuneConfig | TransferConfig):
            assert config.workers == 3 and config.gpus_per_worker == 1
        per_task = {CrossvalConfig: "gpus_per_fold", TuneConfig: "gpus_per_trial", TransferConfig: "gpus_per_shard"}
        if name := per_task.get(type(config)):
            assert getattr(config, name) == 0.5
        if isinstance(config, TransferConfig):
            assert config.weights == "s3://weights"


def test_what_is_left_out_says_by_which_setting() -> None:
    reasons = {name: stage.left_out for name, stage in stages(stages="train,transfer", backbone="vgg16").items()}

    assert reasons["train-lenet5"] is None and reasons["transfer-vgg16-sound"] is None
    assert reasons["crossval-lenet5"] == reasons["tune-notebook"] == "--stages train,transfer"
    assert reasons["transfer-resnet152v2-sound"] == "--backbone vgg16"


@pytest.mark.parametrize("wanted", ["all", "transfer"])
def test_backbones_are_compared_with_the_pipelines_own_lenet5(wanted: str) -> None:
    config = stages(stages=wanted)["transfer-vgg16-sound"].config

    assert isinstance(config, TransferConfig) and config.compare_with == "night-train-lenet5"
