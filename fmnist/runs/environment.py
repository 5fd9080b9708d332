"""Description of the machine for ``environment.json``: versions and hardware, no names of users or hosts."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from fmnist.training.devices import cpu_field

PACKAGES = ("fmnist", "tensorflow", "keras", "ray", "numpy", "pandas", "scikit-learn", "boto3", "matplotlib")


def describe_environment() -> dict[str, str | int | float]:
    """Returns versions, processor and memory of this machine."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu_field("model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **{package: metadata.version(package) for package in PACKAGES},
    }
