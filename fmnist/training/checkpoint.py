"""A checkpoint: everything that the next epoch depends on, in two files of a folder, and their sums in a third.

``variables.npz`` has the variables that training changes: the model's (weights, statistics, the state of random layers)
and the optimizer's. ``history.json`` has the epochs so far. Seed and epoch decide the order of the images, which needs
no state.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np

from fmnist.errors import IntegrityError, first_line
from fmnist.models import changing_variables
from fmnist.training.checkpoint_files import HISTORY, VARIABLES, read_history, write_sums
from fmnist.training.history import History


def save(folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, history: History) -> None:
    """Writes a checkpoint into an existing, empty folder."""
    arrays = {f"model/{i}": np.asarray(variable) for i, variable in enumerate(changing_variables(model))}
    arrays |= {f"optimizer/{i}": np.asarray(variable) for i, variable in enumerate(optimizer.variables)}
    np.savez(folder / VARIABLES, allow_pickle=False, **arrays)
    (folder / HISTORY).write_text(json.dumps(history.rows))
    write_sums(folder)


def restore(folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None) -> History:
    """Loads a checkpoint into a model of the same architecture and, if given, an optimizer; returns its history.

    The same layers must be frozen as when it was saved, with the same weights.

    Raises:
        IntegrityError: if the checkpoint is damaged, or that of another model.
    """
    history = read_history(folder)
    try:
        with np.load(folder / VARIABLES) as arrays:
            for i, variable in enumerate(changing_variables(model)):
                variable.assign(arrays[f"model/{i}"])
            if optimizer is not None:
                optimizer.build(model.trainable_variables)
                for i, variable in enumerate(optimizer.variables):
                    variable.assign(arrays[f"optimizer/{i}"])
    # Arrays that are objects, are missing, or have the shapes of another model.
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"{VARIABLES}: {first_line(error)}") from error
    return history
