"""The jobs: each is a package of this one that declares itself as ``JOB``."""

from __future__ import annotations

import importlib
import os
import pkgutil

from fmnist.job import Job

# The jobs are written for this version of Ray Train, which Ray reads once, when it is imported.
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"

JOBS: dict[str, Job] = {
    name: importlib.import_module(f"{__name__}.{name}").JOB for _, name, _ in pkgutil.iter_modules(__path__)
}
