"""Opening a run: new, resumed, or refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import yaml

from fmnist.config import JobConfig
from fmnist.console import plain_console
from fmnist.errors import RunError
from fmnist.options import settings_yaml
from fmnist.runs import CONFIG, DATA, ENVIRONMENT, RunFolder, new_run_id
from fmnist.runs.environment import describe_environment
from fmnist.storage import open_store


def open_run(job: str, config: JobConfig) -> RunFolder:
    """Finds the folder of a run, without writing into it.

    An unfinished run of the same id and settings is resumed, so the same command after a crash goes on where it was,
    with ``overwrite`` too.

    Args:
        job: name of the job, for the id of a new run.
        config: the job's settings.

    Raises:
        StoreError: if the artifact store cannot be used.
        RunError: if the id is taken by one of other settings and ``overwrite`` is off, or by a finished one and
            ``skip_finished`` is off too.
    """
    if config.overwrite and config.skip_finished:
        raise RunError("overwrite, skip_finished: found both, expected one of them at most")
    store = open_store(config.artifacts)
    store.check()
    run = RunFolder(store, config.run_id or new_run_id(job))
    conflict = changed_setting(run, config) if is_done(run, config) else _conflict(run, config)
    if conflict and not config.overwrite:
        raise RunError(f"run {run.run_id} in {store.location}: {conflict}; take another --run-id, or --overwrite")
    if is_done(run, config):
        plain_console().print(f"run {run.run_id} in {store.location}: finished already, nothing to do", markup=False)
    return run


def is_done(run: RunFolder, config: JobConfig) -> bool:
    """Whether there is nothing to do, because the run has finished and ``skip_finished`` lets it be."""
    return config.skip_finished and run.state() == "finished"


def goes_on(run: RunFolder, config: JobConfig) -> bool:
    """Whether a job with this configuration goes on from what the run's folder has, once it has begun."""
    return run.state() == "unfinished" and _conflict(run, config) is None


def begin_run(run: RunFolder, config: JobConfig, data_summary: dict[str, Any]) -> dict[str, Any]:
    """Writes what is known before the work begins; returns the environment it wrote.

    What has to be overwritten is removed only here: the images have been read and the cluster has what the job takes.
    """
    if _conflict(run, config):
        run.remove()
    environment = describe_environment()
    run.put_bytes(CONFIG, settings_yaml({**asdict(config), "run_id": run.run_id}).encode())
    run.put_json(DATA, data_summary)
    run.put_json(ENVIRONMENT, environment)
    return environment


def _conflict(run: RunFolder, config: JobConfig) -> str | None:
    """Says why a job with this configuration cannot go on in the run's folder; None if it can."""
    return "finished already" if run.state() == "finished" else changed_setting(run, config)


def changed_setting(run: RunFolder, config: JobConfig) -> str | None:
    """Names the first setting that a job's numbers depend on and that differs from the run's; None if none does."""
    if run.exists(CONFIG):
        before = yaml.safe_load(run.get_bytes(CONFIG))
        for name, now in asdict(config).items():
            if name in config.fixed_settings() and before.get(name) != now:
                return f"started with {name} {before.get(name)}, found {now}"
    return None
