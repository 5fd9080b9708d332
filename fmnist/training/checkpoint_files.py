"""The files of a checkpoint and their sums. Imports neither Keras nor TensorFlow."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from fmnist.errors import IntegrityError, first_line
from fmnist.files import sha256_of
from fmnist.training.history import History

VARIABLES = "variables.npz"
HISTORY = "history.json"
SUMS = "sums.json"
FILES = (VARIABLES, HISTORY, SUMS)


def write_sums(folder: Path) -> None:
    """Writes the sha256 of a checkpoint's files beside them."""
    (folder / SUMS).write_text(json.dumps({name: sha256_of(folder / name) for name in (VARIABLES, HISTORY)}))


def read_history(folder: Path) -> History:
    """Returns a checkpoint's history, after comparing its files with their sums.

    Of a checkpoint of an earlier version, which has none, the arrays are compared with the sums in their file.

    Raises:
        IntegrityError: if the checkpoint is damaged or incomplete.
    """
    try:
        if (folder / SUMS).exists():
            for name, expected in json.loads((folder / SUMS).read_text()).items():
                if sha256_of(folder / name) != expected:
                    raise IntegrityError(f"{name}: not what was written")
        else:
            with zipfile.ZipFile(folder / VARIABLES) as arrays:
                if broken := arrays.testzip():
                    raise IntegrityError(f"{VARIABLES}: damaged at {broken}")
        return History(tuple(json.loads((folder / HISTORY).read_text())))
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise IntegrityError(first_line(error)) from error
