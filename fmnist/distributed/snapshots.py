"""Ray Train's record of its checkpoints in a run folder, compared with the checkpoints that are there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train

from fmnist.distributed.checkpoints import fetch_checkpoint
from fmnist.errors import IntegrityError
from fmnist.runs import SNAPSHOT, RunFolder
from fmnist.storage import MissingKeyError
from fmnist.storage.arrow import StoreHandler
from fmnist.training import checkpoint_files
from fmnist.training.history import History


def drop_damaged(run: RunFolder, folder: str, note: Callable[[str], None]) -> None:
    """Removes the checkpoints that training cannot resume from, so that Ray Train takes the last good one.

    A checkpoint is of use only with that of the best epoch until then, which training ends with.

    Args:
        folder: of the checkpoints, in the run folder.
        note: shows a line for each that is damaged.
    """
    if not run.exists(f"{folder}/{SNAPSHOT}"):
        return
    try:
        state = run.get_record(f"{folder}/{SNAPSHOT}", dict[str, Any])
        names = [one["checkpoint_dir_name"] for one in state["checkpoint_results"]]
        is_known = state["ray_version"] == ray.__version__
    except (IntegrityError, KeyError, TypeError):
        note(f"{run.location}/{folder}/{SNAPSHOT}: damaged; taken from the checkpoints themselves")
        names, is_known = run.store.folders(f"{run.run_id}/{folder}"), False
    histories = {}
    for name in names:
        try:
            histories[name] = _read(run, f"{folder}/{name}")
        except (IntegrityError, MissingKeyError) as error:
            note(f"{run.location}/{folder}/{name}: damaged checkpoint, not used: {error}")
    there = {history.epochs for history in histories.values()}
    of_use = {name: history for name, history in histories.items() if int(history.best["epoch"]) in there}
    if is_known and len(of_use) == len(names):
        return
    for name in set(names) - set(of_use):
        run.store.delete_folder(f"{run.run_id}/{folder}/{name}")
    if of_use:
        run.put_bytes(f"{folder}/{SNAPSHOT}", _snapshot(of_use))
    else:
        note("no checkpoint is left to resume from; training begins anew")
        run.delete(f"{folder}/{SNAPSHOT}")


@contextmanager
def fetched(checkpoint: ray.train.Checkpoint) -> Iterator[Path]:
    """Copies a checkpoint of Ray Train to a local folder for the block.

    Not `as_directory`, which lists its files: a listing may lag behind what was written.
    """
    handler: StoreHandler = checkpoint.filesystem.handler
    run_id, _, path = handler.key(checkpoint.path).partition("/")
    with tempfile.TemporaryDirectory() as folder:
        fetch_checkpoint(RunFolder(handler.store, run_id), path, Path(folder))
        yield Path(folder)


def _read(run: RunFolder, path: str) -> History:
    with tempfile.TemporaryDirectory() as temporary:
        fetch_checkpoint(run, path, Path(temporary))
        history = checkpoint_files.read_history(Path(temporary))
    if not history.rows:
        raise IntegrityError("no epoch")
    return history


def _snapshot(histories: dict[str, History]) -> bytes:
    """Returns Ray Train's record of these checkpoints, by their names."""
    results = {name: {"checkpoint_dir_name": name, "metrics": one.rows[-1]} for name, one in histories.items()}
    by_epoch = sorted(histories, key=lambda name: histories[name].epochs)
    # In the order of their scores, of equals the later last.
    by_score = sorted(by_epoch, key=lambda name: histories[name].rows[-1]["val_accuracy"])
    record = {
        "ray_version": ray.__version__,
        "checkpoint_results": [results[name] for name in by_score],
        "checkpoint_report_indices": [histories[name].epochs - 1 for name in by_score],
        "latest_checkpoint_result": results[by_epoch[-1]],
        "pending_training_results": [],
        "pending_validation_specs": [],
        "current_report_index": histories[by_epoch[-1]].epochs,
        "validated_checkpoint_dir_names": [],
        "timed_out_validation_checkpoint_dir_names": [],
        "failed_validation_checkpoint_dir_names": [],
    }
    return json.dumps(record).encode()
