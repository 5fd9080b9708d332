"""The saved model of a run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fmnist.errors import RunError
from fmnist.runs import MODEL, RunFolder


def check_model(run: RunFolder) -> None:
    """Checks that a run has finished and has a model.

    Raises:
        RunError: if it has not.
    """
    manifest = run.manifest()
    if not any(file.path == MODEL for file in manifest.files):
        raise RunError(f"{run.location}: a {manifest.job} run has no {MODEL}, expected one of train, tune or transfer")


def load_run_model(run: RunFolder) -> Any:
    """Loads the model that a run has saved."""
    from fmnist.training.inference import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        run.get_file(MODEL, path)
        return load_model(path)
