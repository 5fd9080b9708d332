"""The jobs: each is a package of this one that declares itself as ``JOB``."""

from __future__ import annotations

import importlib
import pkgutil

from fmnist.job import Job

JOBS: dict[str, Job] = {
    name: importlib.import_module(f"{__name__}.{name}").JOB for _, name, _ in pkgutil.iter_modules(__path__)
}
