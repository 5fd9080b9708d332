"""What a process computes with: versions of packages and the machine, without names of users or hosts."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import fmnist
from fmnist.training.devices import cpu_field

PACKAGES = ("fmnist", "tensorflow", "keras", "ray", "numpy", "pandas", "scikit-learn", "boto3", "matplotlib")


def environment() -> dict[str, Any]:
    """Returns what ``environment.json`` has of this process: Python, system, machine and the versions of packages."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu_field("model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **{package: version_of(package) for package in PACKAGES},
    }


def version_of(package: str) -> str:
    """Returns a package's version; of our own as its source says, which may be imported without being installed."""
    return fmnist.__version__ if package == "fmnist" else metadata.version(package)
