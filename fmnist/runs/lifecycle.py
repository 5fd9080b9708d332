"""Opening a run: new, resumed, or refused."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from typing import Any, TypeVar

from fmnist import data
from fmnist.config import JobConfig
from fmnist.console import plain_console
from fmnist.errors import RunError
from fmnist.options import settings_yaml
from fmnist.runs.documents import Names
from fmnist.runs.files import CONFIG, DATA, ENVIRONMENT
from fmnist.runs.folder import RunFolder
from fmnist.runs.run_id import new_run_id
from fmnist.storage import open_store
from fmnist.training.devices import cpu_field

PACKAGES = ("fmnist", "tensorflow", "keras", "ray", "numpy", "pandas", "scikit-learn", "boto3", "matplotlib")


Config = TypeVar("Config", bound=JobConfig)
Extends = Callable[[RunFolder, Config], bool]


def never(run: RunFolder, config: JobConfig) -> bool:
    """Of a job that continues no finished run."""
    return False


def open_run(job: str, config: Config, extends: Extends[Config] = never) -> RunFolder:
    """Finds the folder of a run, without writing into it, after `check_run`.

    An unfinished run of the same id and settings is resumed, with ``overwrite`` too, so the same command continues
    after a crash.
    """
    run = check_run(job, config, extends)
    if is_done(run, config, extends):
        plain_console().print(
            f"run {run.run_id} in {run.store.location}: finished already, nothing to do", markup=False
        )
    return run


def check_run(job: str, config: Config, extends: Extends[Config] = never) -> RunFolder:
    """Checks what can be checked before anything heavy is imported or started: store, run id and data source.

    Returns the run's folder; ``job`` is the job's name, for the id of a new run. A finished run that ``extends`` says
    lacks something is one to continue.

    Raises:
        StoreError: if the artifact store cannot be written.
        RunError: if the id is that of a run of other settings and ``overwrite`` is off, or of a finished one and
            ``skip_finished`` is off too.
        DataError: if there is no data where the settings say, unless the run is finished already.
    """
    if config.overwrite and config.skip_finished:
        raise RunError("overwrite, skip_finished: found both, expected one of them at most")
    store = open_store(config.artifacts)
    store.check()
    run = RunFolder(store, config.run_id or new_run_id(job))
    done = is_done(run, config, extends)
    extended = not done and is_extended(run, config, extends)
    conflict = changed_setting(run, config) if done or extended else _conflict(run, config)
    if conflict and not config.overwrite:
        raise RunError(f"run {run.run_id} in {store.location}: {conflict}; take another --run-id, or --overwrite")
    if not done:
        data.check_source(config.data)
    return run


def is_done(run: RunFolder, config: Config, extends: Extends[Config] = never) -> bool:
    """Whether there is nothing to do: the run has finished, lacks nothing, and ``skip_finished`` is set."""
    return config.skip_finished and run.state() == "finished" and not is_extended(run, config, extends)


def is_extended(run: RunFolder, config: Config, extends: Extends[Config]) -> bool:
    """Whether a job with this configuration continues the finished run in this folder."""
    if config.overwrite or run.state() != "finished" or changed_setting(run, config):
        return False
    return extends(run, config)


def goes_on(run: RunFolder, config: JobConfig) -> bool:
    """Whether a job with this configuration resumes the run in this folder."""
    return run.state() == "unfinished" and _conflict(run, config) is None


def begin_run(run: RunFolder, config: JobConfig, data_summary: dict[str, Any]) -> dict[str, Any]:
    """Writes settings, data summary and environment of a run that starts; returns the environment.

    A run to be overwritten is removed only here, after the images were read and the cluster's resources were checked.
    """
    if _conflict(run, config):
        run.remove()
    # No names of users or hosts.
    environment = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu_field("model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **{package: metadata.version(package) for package in PACKAGES},
    }
    run.put_bytes(CONFIG, settings_yaml({**asdict(config), "run_id": run.run_id}).encode())
    run.put_json(DATA, data_summary)
    run.put_json(ENVIRONMENT, environment)
    return environment


def _conflict(run: RunFolder, config: JobConfig) -> str | None:
    """Returns why a job with this configuration cannot resume the run in this folder; None if it can."""
    return "finished already" if run.state() == "finished" else changed_setting(run, config)


def changed_setting(run: RunFolder, config: JobConfig) -> str | None:
    """Names the first setting that a job's numbers depend on and that differs from the run's; None if none does."""
    if run.exists(CONFIG):
        before = run.get_yaml(CONFIG, Names)
        for name, now in asdict(config).items():
            if name in config.fixed_settings() and before.get(name) != now:
                return f"started with {name} {before.get(name)}, found {now}"
    return None
