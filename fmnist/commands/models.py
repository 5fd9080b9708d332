"""The saved model of a run."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist.console import aside
from fmnist.data import CLASS_NAMES, LABELS, PixelStatistics
from fmnist.errors import IntegrityError, RunError, first_line, printable
from fmnist.runs import CONFIG, DATA, MODEL, RunFolder


@dataclass(frozen=True)
class _Settings:
    model: str = ""
    space: str = ""


@dataclass(frozen=True)
class TrainingData:
    """What a run's ``data.json`` says of its images; runs of earlier versions say less.

    Attributes:
        official: whether they are the published Fashion-MNIST.
        class_names: of the labels 0 to 9; None if it does not say.
        pixels: of the training images; None if it does not say.
    """

    official: bool = False
    class_names: tuple[str, ...] | None = None
    pixels: PixelStatistics | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels 0 to 9."""
        return self.class_names or (CLASS_NAMES if self.official else LABELS)


def training_data(run: RunFolder) -> TrainingData:
    """Returns what is known of the images that a finished run was trained on; an `IntegrityError` if it is damaged."""
    found = run.get_record(DATA, TrainingData)
    if len(found.names) != len(LABELS):
        raise IntegrityError(f"{run.location}/{DATA}: damaged, found {len(found.names)} class names, expected 10")
    return found


def load_run_model(run: RunFolder) -> Any:
    """Loads the model that a finished run has saved, after comparing it with the manifest.

    A model with own layers or activations needs the module that ``config.yaml`` names, which is imported.

    Raises:
        RunError: if the run has not finished, has no model, or its model cannot be loaded here.
        IntegrityError: if the model is not the one of the manifest.
    """
    manifest = run.manifest()
    expected = next((file for file in manifest.files if file.path == MODEL), None)
    if expected is None:
        raise RunError(f"{run.location}: a {manifest.job} run has no {MODEL}, expected one of train, tune or transfer")
    aside.print(f"model of {run.location}, a {manifest.job} run finished {manifest.created}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        run.get_verified(expected, path)
        from fmnist.training.inference import custom_names, load_strange_model

        if names := custom_names(path):
            _import_code(run, names)
            if names := custom_names(path):
                raise RunError(f"{run.location}/{MODEL}: needs {', '.join(sorted(names))}, which is registered nowhere")
        try:
            return load_strange_model(path)
        except RunError as error:
            raise RunError(f"{run.location}/{error}") from error


def _import_code(run: RunFolder, names: set[str]) -> None:
    """Imports the module of the builder that a run was trained with."""
    settings = run.get_yaml(CONFIG, _Settings)
    needed = printable(", ".join(sorted(names)))
    module, colon, _ = (settings.space or settings.model).partition(":")
    if not colon:
        raise RunError(f"{run.location}/{MODEL}: needs {needed}, and its {CONFIG} names no module that has it")
    # As for the job that trained it: a console script does not have the working directory on its path.
    sys.path.append(str(Path.cwd()))
    try:
        if found := importlib.util.find_spec(module):
            aside.print(
                f"importing {module} ({found.origin}), the code that {run.location}/{CONFIG} names, for {needed}"
            )
        importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise RunError(
            f"{run.location}/{MODEL}: needs {needed} of module {module}, not importable: {reason}"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
