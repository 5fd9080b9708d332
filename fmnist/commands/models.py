"""The saved model of a run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fmnist.errors import RunError
from fmnist.runs import MODEL, RunFolder


def load_run_model(run: RunFolder) -> Any:
    """Loads the model that a finished run has saved.

    Raises:
        RunError: if the run has not finished, or has no model.
    """
    manifest = run.manifest()
    if not any(file.path == MODEL for file in manifest.files):
        raise RunError(f"{run.location}: a {manifest.job} run has no {MODEL}, expected one of train, tune or transfer")
    from fmnist.training.inference import load_model

    with tempfile.TemporaryDirectory() as folder:
        run.get_file(MODEL, Path(folder, MODEL))
        return load_model(Path(folder, MODEL))
