"""What a job says of Ray Train's errors: these are Ray's own classes, as a real run raises them."""

from __future__ import annotations

import pickle

import pytest
import ray
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from fmnist.boundary import lasting
from fmnist.errors import DataError
from fmnist.storage import MissingKeyError

FULL = DataError("images.csv: found 3 columns, expected 785")
GONE = MissingKeyError("s3://bucket/run/model.keras: no such file")


def task_error(cause: Exception) -> Exception:
    return ray.exceptions.RayTaskError("task", "Traceback: ...", cause, "ray::task", 1, "127.0.0.1")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (WorkerGroupError("Traceback", {0: FULL}), FULL),
        (WorkerGroupError("Traceback", {0: ValueError("odd"), 1: GONE}), GONE),
        (WorkerGroupError("Traceback", {0: UserExceptionWithTraceback(GONE, "Traceback")}), GONE),
        (ControllerError(FULL), FULL),
        (ControllerError(task_error(GONE)), GONE),
        (WorkerGroupError("fmnist.errors.DataError: only a text", {0: ValueError("odd")}), None),
        (ControllerError(task_error(ValueError("odd"))), None),
    ],
)
def test_error_for_people_is_found_in_what_ray_train_raises(
    error: TrainingFailedError, cause: Exception | None
) -> None:
    for found in (lasting(error), lasting(pickle.loads(pickle.dumps(error)))):
        assert (type(found), str(found)) == (type(cause), str(cause))
