"""What a job may ask a cluster for, told before anything is trained."""

from __future__ import annotations

import pytest

from fmnist.distributed.cluster import Resources, check_room
from fmnist.distributed.spaces import check_model
from fmnist.errors import UserError

LAPTOP = Resources(cpus=2, gpus=0, nodes=1, cpus_of_largest_node=2, started_here=True)
GROWING = Resources(cpus=2, gpus=0, nodes=1, cpus_of_largest_node=2, started_here=False)


@pytest.mark.parametrize(
    ("kind", "count", "cpus", "gpus", "message"),
    [
        ("fold", 1, 3.0, 0, "cpus_per_fold: found 3, expected at most the 2 processors of this machine"),
        ("fold", 1, 1.0, 1, "gpus_per_fold: found 1, expected at most the 0 GPUs of this machine"),
        ("fold", 1, 1.0, 2, "gpus_per_fold: found 2, expected 0 to 1; several GPUs take several --workers"),
        ("trial", 1, 1000.0, 0, "cpus_per_trial: found 1000, expected at most the 2 processors of this machine"),
        ("trial", 1, 1.0, 2, "gpus_per_trial: found 2, expected 0 to 1"),
        ("trial", 1, 1.5, 0, "cpus_per_trial: found 1.5, expected a whole number, or a share of one processor"),
        ("worker", 2, 1.0, 0.5, "gpus_per_worker: found 0.5 and 2 workers, expected 1, or 1 worker: workers exchange"),
        ("worker", 3, 1.0, 0, "workers x cpus_per_worker: found 3 x 1, expected at most the 2 processors"),
    ],
)
def test_what_finds_no_room_is_refused_by_name(kind, count: int, cpus: float, gpus: float, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_room(LAPTOP, kind, count, cpus, gpus)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("cpus", [1, 2.0, 0.5])
def test_what_fits_is_not_refused(cpus: float) -> None:
    check_room(LAPTOP, "fold", 1, cpus, 0)


def test_cluster_that_may_grow_is_asked_for_more_than_it_has() -> None:
    check_room(GROWING, "fold", 1, 64.0, 1)


def test_hyperparameters_of_a_model_that_has_none_are_refused() -> None:
    check_model("lenet5", None)
    with pytest.raises(UserError, match=r"^hyperparameters: found some, expected none, for lenet5 is no search space$"):
        check_model("lenet5", {"units": 3})
