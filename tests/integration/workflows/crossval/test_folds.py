"""Folds on a real Ray: the same numbers whatever runs beside them, and whatever happens to their processes."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import ray
from kills import Killer, task_processes

from fmnist.errors import TrainingError
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.workflows.crossval.config import CrossvalConfig
from fmnist.workflows.crossval.job import crossval

# With dropout, whose random numbers have a state from step to step too.
HYPERPARAMETERS = {
    "CONV_1_FILTER": 32,
    "KERNEL_1_FILTER": 3,
    "CONV_2_FILTER": 32,
    "KERNEL_2_FILTER": 3,
    "DROPOUT_1": 0.3,
    "learning_rate": 0.001,
}


def settings(data: Path, artifacts: str, **more: object) -> CrossvalConfig:
    defaults = {"run_id": "folds", "limit": 900, "folds": 3, "epochs": 4, "batch_size": 8}
    defaults |= {"model": "notebook", "hyperparameters": HYPERPARAMETERS}
    return CrossvalConfig(data=str(data), artifacts=artifacts, **(defaults | more))


def tables(run: RunFolder, weights: str = "fresh") -> list[pd.DataFrame]:
    """What the run has found, without what it took."""
    found = [pd.read_csv(io.BytesIO(run.get_bytes(name))) for name in ("folds.csv", "history.csv", "predictions.csv")]
    found = [table[table["weights"] == weights] if "weights" in table else table for table in found]
    return [table.drop(columns=["seconds", "images_per_second"], errors="ignore") for table in found]


def assert_same(run: RunFolder, undisturbed: RunFolder, weights: str = "fresh") -> None:
    """To the last digit."""
    assert run.verify() == []
    for table, expected in zip(tables(run, weights), tables(undisturbed, weights), strict=True):
        pd.testing.assert_frame_equal(table, expected, check_exact=True)


class Watch:
    """Counts the processes that train folds while the block runs."""

    def __enter__(self) -> Watch:
        self.most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, len(task_processes("train_folds")))


def fold_killer(fold: Path, kills: int) -> Killer:
    """Kills the process of a fold each time that the fold has come to an epoch that was not killed at before."""
    return Killer("train_folds", kills, lambda killed: (fold / f"epoch-{1 + killed:04d}").exists())


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run of two folds at once, with the study's protocol beside them."""
    with Watch() as watch:
        run = crossval(settings(small_data, str(tmp_path_factory.mktemp("undisturbed")), carry_weights=True))
    # More would share the two processors.
    assert watch.most == 2
    yield run


# tests/acceptance/test_crossval_job.py kills a driver, and tests/integration/distributed/test_tasks.py tasks.
@pytest.mark.slow
def test_fold_that_is_lost_is_trained_by_the_same_command_and_kills_change_no_number(
    undisturbed: RunFolder, small_data: Path, tmp_path: Path
) -> None:
    config = settings(small_data, str(tmp_path), concurrency=1, max_failures=0, carry_weights=True)
    with (
        Watch() as watch,
        fold_killer(tmp_path / "folds/folds/carried-0002", kills=1),
        pytest.raises(TrainingError, match=r"run folds: the folds with carried weights: .*the same command") as error,
    ):
        crossval(config)
    assert watch.most == 1
    run = RunFolder(FolderStore(tmp_path), "folds")
    assert run.state() == "unfinished"
    assert "\n" not in str(error.value)
    outcomes = sorted(path for path in run.files() if path.endswith("outcome.json"))
    assert [path.split("/")[1] for path in outcomes] == ["carried-0001", "fresh-0001", "fresh-0002", "fresh-0003"]
    before = {path: run.get_bytes(path) for path in outcomes}

    with fold_killer(tmp_path / "folds/folds/carried-0003", kills=2) as killer:
        crossval(replace(config, max_failures=3))

    assert killer.killed == 2
    assert_same(run, undisturbed, "fresh")
    assert_same(run, undisturbed, "carried")
    assert run.get_json("metrics.json")["restarts"] == 2
    assert not [path for path in run.files() if path.startswith("folds/")]
    # What had ended was not trained again: it would have taken another time.
    seconds = pd.read_csv(io.BytesIO(run.get_bytes("history.csv"))).set_index(["weights", "fold", "epoch"])["seconds"]
    for path, outcome in before.items():
        weights, fold = path.split("/")[1].split("-")
        for row in pd.read_json(io.BytesIO(outcome), typ="series")["rows"]:
            assert seconds[weights, int(fold), row["epoch"]] == pytest.approx(row["seconds"], rel=1e-9)


@pytest.mark.slow
def test_fold_that_diverges_in_its_first_epoch_is_a_row_and_the_others_count(
    ray_cluster: str, small_data: Path, tmp_path: Path
) -> None:
    more = {"model": "builders:unlucky", "hyperparameters": {"units": 8}, "epochs": 2, "carry_weights": True}
    run = crossval(settings(small_data, str(tmp_path), **more))

    assert run.verify() == []
    table = pd.read_csv(io.BytesIO(run.get_bytes("folds.csv"))).set_index(["weights", "fold"])
    assert table["epochs"].tolist() == [2, 0, 2] * 2 and table["kept_epoch"]["fresh", 2] == 0
    assert "the loss is" in table["diverged"]["fresh", 2]
    # With carried weights, what the fold was given is measured.
    assert table["held_out_accuracy"]["fresh", 2] < 0.3 < table["held_out_accuracy"]["carried", 2]
    metrics = run.get_json("metrics.json")
    assert metrics["held_out"]["accuracy"] == pytest.approx(table["held_out_accuracy"]["fresh"].mean())
    assert metrics["train"]["loss"] == pytest.approx(table["loss"]["fresh"].dropna().mean())


@pytest.mark.slow
def test_folds_that_all_diverge_at_once_end_the_run_with_one_line(
    ray_cluster: str, small_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        TrainingError, match=r"^run folds: no fold has trained an epoch: epoch 1, step \d+ of \d+: the loss is nan"
    ) as error:
        crossval(settings(small_data, str(tmp_path), model="lenet5", hyperparameters=None, learning_rate=1e30))

    assert not ray.is_initialized()
    assert "\n" not in str(error.value)
    assert RunFolder(FolderStore(tmp_path), "folds").state() == "unfinished"


# A small experiment: docs/results has the large one.
@pytest.mark.slow
def test_carried_weights_leak_and_fresh_ones_do_not(undisturbed: RunFolder) -> None:
    table = pd.read_csv(io.BytesIO(undisturbed.get_bytes("folds.csv"))).set_index(["weights", "fold"])
    accuracy = table["held_out_accuracy"]

    assert table.loc["fresh", "train_images"].tolist() == [540] * 3
    assert table.loc["carried", "train_images"].tolist() == [600] * 3
    assert table.loc["carried", "val_images"].tolist() == [300] * 3
    assert accuracy["carried", 3] > accuracy["carried", 1] + 0.05
    assert abs(accuracy["fresh", 3] - accuracy["fresh", 1]) < 0.05
    history = pd.read_csv(io.BytesIO(undisturbed.get_bytes("history.csv"))).set_index(["weights", "fold", "epoch"])
    # The second fold goes on where the first one was, with fresh weights it begins anew.
    assert history.loc[("carried", 2, 1), "loss"] < history.loc[("carried", 1, 4), "loss"] + 0.2
    assert history.loc[("fresh", 2, 1), "loss"] > history.loc[("fresh", 1, 4), "loss"] + 0.2
