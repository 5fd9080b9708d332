"""What a job says of Ray Train's errors: these are Ray's own classes, as a real run raises them."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest
import ray
from ray.train import ControllerError, FailureConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ResizeDecision
from ray.train.v2._internal.execution.training_report import _TrainingReport
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerStatus

from fmnist.boundary import lasting
from fmnist.distributed.trainer import EpochEndPolicy, RestartPolicy
from fmnist.distributed.workers import _other_workers
from fmnist.errors import DataError, StoreError
from fmnist.storage import FolderStore, MissingKeyError
from fmnist.storage.arrow import store_filesystem, upload_folder
from fmnist.training.history import History

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


def test_full_disk_under_a_checkpoint_is_a_line_and_starts_no_worker_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    (tmp_path / "variables.npz").write_bytes(b"weights")
    filesystem, path = store_filesystem(FolderStore(tmp_path / "runs"))
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(StoreError) as caught:
        upload_folder(tmp_path, filesystem, f"{path}/run/checkpoints/epoch-0001")

    for cause in (caught.value, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/checkpoint")):
        error = WorkerGroupError("Traceback", {0: UserExceptionWithTraceback(cause, "Traceback")})
        assert RestartPolicy(FailureConfig(max_failures=3)).make_decision(error) is FailureDecision.RAISE
        assert str(lasting(error)).count("No space left on device") == 1 and "\n" not in str(lasting(error))


def test_number_of_workers_changes_when_all_have_reported_an_epoch_but_not_the_last(monkeypatch) -> None:
    resize = ResizeDecision(3, {"CPU": 1})
    # It would join a cluster.
    monkeypatch.setattr(ElasticScalingPolicy, "__init__", lambda *_: None)
    monkeypatch.setattr(ElasticScalingPolicy, "make_decision_for_running_worker_group", lambda *_: resize)
    monkeypatch.setattr(EpochEndPolicy, "_maybe_send_resource_request", lambda _: None)
    policy = EpochEndPolicy(ScalingConfig(num_workers=(1, 3)), epochs=3)

    def decides(*epochs: int | None) -> bool:
        reports = [epoch and _TrainingReport(None, {"epoch": epoch}, False) for epoch in epochs]
        statuses = {rank: WorkerStatus(running=True, training_report=one) for rank, one in enumerate(reports)}
        decision = policy.make_decision_for_running_worker_group(None, WorkerGroupPollStatus(statuses))
        assert decision is resize or isinstance(decision, NoopDecision)
        return decision is resize

    assert not decides(None, None)
    assert decides(1, 1)
    assert not decides(None, 2)
    assert decides(2, None)
    assert not decides(3, 3)


def test_other_number_of_workers_is_told_and_with_xla_what_it_does_to_the_numbers() -> None:
    one = History(({"epoch": 1, "workers": 1}, {"epoch": 2, "workers": 2}))

    assert _other_workers(one, 3, xla=False) == "3 workers from epoch 3 on"
    assert _other_workers(one, 1, xla=True) == (
        "1 worker from epoch 3 on; with XLA, the last digits of the numbers may differ from then on"
    )
    # The same; a run that begins; one of an earlier version, which does not say.
    for history in (one, History(), History(({"epoch": 1},))):
        assert _other_workers(history, 2, xla=True) is None
