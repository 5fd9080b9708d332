"""What a run folder keeps of a training that may have to go on from its last epoch."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from fmnist.distributed.checkpoints import TrainingState
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
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
