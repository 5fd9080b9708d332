"""What a run folder keeps of a training that may have to go on from its last epoch."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import ray.train

from fmnist.distributed import snapshots
from fmnist.distributed.checkpoints import TrainingState
from fmnist.distributed.snapshots import SNAPSHOT, drop_damaged, fetched
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.storage.arrow import store_filesystem
from fmnist.training import checkpoint, checkpoint_files
from fmnist.training.history import History

PARAMETERS = {"units": 3, "rate": 0.1}
VAL_ACCURACIES = [0.5, 0.8, 0.7, 0.6, 0.9]


def model_of(value: float) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign(np.full((2, 1), value))
    return model


def train(state: TrainingState, epochs: int) -> History:
    """Saves so many epochs, whose weights are their number."""
    history = History()
    for epoch in range(1, epochs + 1):
        history = history.add({"epoch": epoch, "val_accuracy": VAL_ACCURACIES[epoch - 1], "val_loss": 1.0})
        model, optimizer = model_of(epoch), keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)
        state.save(model, optimizer, history)
    return history


def weights(state: TrainingState, epoch: int) -> float:
    model = model_of(0)
    state.restore(epoch, model)
    return float(model.layers[0].kernel[0, 0])


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("run/part/epoch-*"))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(FolderStore(tmp_path), "run")


def test_only_the_last_epoch_is_kept(run: RunFolder, tmp_path: Path) -> None:
    history = train(TrainingState(run, "part", PARAMETERS), 3)

    again = TrainingState(run, "part", PARAMETERS)
    assert again.history() == history
    assert kept(tmp_path) == ["epoch-0003"]
    assert weights(again, 3) == 3


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, ["epoch-0001"]), (2, ["epoch-0002"]), (4, ["epoch-0002", "epoch-0004"]), (5, ["epoch-0005"])],
)
def test_best_epoch_is_kept_besides_where_it_is_wanted(
    run: RunFolder, tmp_path: Path, epochs: int, expected: list[str]
) -> None:
    state = TrainingState(run, "part", PARAMETERS, keep_best=True)
    history = train(state, epochs)

    assert kept(tmp_path) == expected
    assert weights(state, int(history.best["epoch"])) == history.best["epoch"]


def test_state_of_other_parameters_is_not_gone_on_from(run: RunFolder) -> None:
    train(TrainingState(run, "part", PARAMETERS), 2)

    assert TrainingState(run, "part", PARAMETERS | {"units": 4}).history() == History()


def test_history_stays_when_weights_are_dropped(run: RunFolder, tmp_path: Path) -> None:
    state = TrainingState(run, "part", PARAMETERS, keep_best=True)
    history = train(state, 4)

    state.drop_weights()

    assert kept(tmp_path) == []
    assert state.history() == history


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def resumed(state: TrainingState, lines: list[str]) -> tuple[int, float]:
    """The epoch that a training resumes after, and its weights."""
    model, optimizer = model_of(0), keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    epoch = state.resume(state.history(lines.append), model, optimizer, lines.append)
    return epoch, float(model.layers[0].kernel[0, 0])


@pytest.mark.parametrize("name", ["variables.npz", "history.json", "sums.json"])
@pytest.mark.parametrize(("damaged", "expected"), [((), 4), ((4,), 2), ((2,), 4), ((2, 4), 0)])
def test_damaged_checkpoint_is_skipped_with_a_line(
    run: RunFolder, tmp_path: Path, name: str, damaged: tuple[int, ...], expected: int
) -> None:
    state = TrainingState(run, "part", PARAMETERS, keep_best=True)
    train(state, 4)
    for epoch in damaged:
        flip(tmp_path / f"run/part/epoch-{epoch:04d}/{name}")
    lines: list[str] = []

    # Epoch 2 is the best: without it, the last one is of no use.
    assert resumed(state, lines)[0] == (0 if damaged == (2,) else expected)
    assert [line.split(":")[0][-10:] for line in lines] == [f"epoch-{epoch:04d}" for epoch in sorted(damaged)[::-1]]
    assert state.history().epochs == 4


def test_altered_history_is_not_gone_on_from(run: RunFolder, tmp_path: Path) -> None:
    state, lines = TrainingState(run, "part", PARAMETERS), []
    train(state, 3)
    file = tmp_path / "run/part/state.json"
    file.write_text(file.read_text().replace("0.7", "0.9"))

    assert state.history(lines.append) == History()
    assert len(lines) == 1 and "state.json: damaged, not what was written" in lines[0]


def test_state_of_an_earlier_version_has_no_sums_and_is_gone_on_from(run: RunFolder, tmp_path: Path) -> None:
    state = TrainingState(run, "part", PARAMETERS)
    history = train(state, 3)
    (tmp_path / "run/part/epoch-0003/sums.json").unlink()
    run.put_json("part/state.json", {"parameters": PARAMETERS, "rows": history.rows})

    assert resumed(state, []) == (3, 3)
    flip(tmp_path / "run/part/epoch-0003/variables.npz")
    assert resumed(state, [])[0] == 0


def snapshot_of(run: RunFolder) -> dict[str, Any]:
    return json.loads(run.get_bytes(f"checkpoints/{SNAPSHOT}"))


@pytest.fixture
def of_ray_train(run: RunFolder) -> RunFolder:
    """A run with the checkpoints that Ray Train keeps, the best and the last, and its record of them."""
    histories = {}
    history = History()
    for epoch in range(1, 5):
        history = history.add({"epoch": epoch, "val_accuracy": VAL_ACCURACIES[epoch - 1], "val_loss": 1.0})
        if epoch in (2, 4):
            model, optimizer = model_of(epoch), keras.optimizers.SGD(0.1)
            optimizer.build(model.trainable_variables)
            with tempfile.TemporaryDirectory() as folder:
                checkpoint.save(Path(folder), model, optimizer, history)
                run.put_folder(Path(folder), f"checkpoints/epoch-{epoch:04d}")
            histories[f"epoch-{epoch:04d}"] = history
    run.put_bytes(f"checkpoints/{SNAPSHOT}", snapshots._snapshot(histories))
    return run


@pytest.mark.parametrize(
    ("damaged", "left"), [((), ["epoch-0004", "epoch-0002"]), ((4,), ["epoch-0002"]), ((2,), []), ((2, 4), [])]
)
def test_ray_train_is_left_with_the_checkpoints_that_are_of_use(
    of_ray_train: RunFolder, tmp_path: Path, damaged: tuple[int, ...], left: list[str]
) -> None:
    for epoch in damaged:
        flip(tmp_path / f"run/checkpoints/epoch-{epoch:04d}/variables.npz")
    before, lines = of_ray_train.get_bytes(f"checkpoints/{SNAPSHOT}"), []

    drop_damaged(of_ray_train, "checkpoints", lines.append)

    assert sum("damaged checkpoint, not used" in line for line in lines) == len(damaged)
    if not left:
        assert of_ray_train.files() == {}
        return
    state = snapshot_of(of_ray_train)
    assert [one["checkpoint_dir_name"] for one in state["checkpoint_results"]] == left
    assert (of_ray_train.get_bytes(f"checkpoints/{SNAPSHOT}") == before) == (not damaged)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"checkpoint_results": 1}', None])
def test_damaged_record_of_ray_train_is_made_from_the_checkpoints(
    of_ray_train: RunFolder, content: bytes | None
) -> None:
    before = snapshot_of(of_ray_train)
    # None is that of another version of Ray, which refuses it.
    other = json.dumps({**before, "ray_version": "2.0"}).encode()
    of_ray_train.put_bytes(f"checkpoints/{SNAPSHOT}", other if content is None else content)

    drop_damaged(of_ray_train, "checkpoints", print)

    assert snapshot_of(of_ray_train) == before


def test_checkpoint_of_ray_train_is_fetched_where_the_stores_listing_lags(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = train(TrainingState(run, "checkpoints"), 1)
    filesystem, path = store_filesystem(run.store)
    monkeypatch.setattr(FolderStore, "entries", lambda *_: iter(()))

    with fetched(ray.train.Checkpoint(f"{path}/run/checkpoints/epoch-0001", filesystem)) as folder:
        assert checkpoint_files.read_history(folder) == history
