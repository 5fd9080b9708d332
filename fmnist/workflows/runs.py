"""Opening a run: new, resumed, or refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import yaml

from fmnist.artifacts import CONFIG, DATA, ENVIRONMENT, RunFolder, new_run_id, open_store
from fmnist.config import JobConfig
from fmnist.environment import describe_environment
from fmnist.errors import RunError

# Where a run's files lie and how much of a cluster it takes may change between a start and its resumption; what its
# numbers depend on may not.
MAY_CHANGE = frozenset(
    {"artifacts", "run_id", "overwrite", "workers", "cpus_per_worker", "gpus_per_worker", "max_failures", "xla"}
)


def open_run(job: str, config: JobConfig) -> RunFolder:
    """Finds the folder of a run, without writing into it.

    An unfinished run of the same id and settings is resumed, so the same command after a crash goes on where it was.

    Args:
        job: name of the job, for the id of a new run.
        config: the job's settings.

    Raises:
        StoreError: if the artifact store cannot be used.
        RunError: if the id is taken by a finished run and ``overwrite`` is off, or by a run of other settings.
    """
    store = open_store(config.artifacts)
    store.check()
    run = RunFolder(store, config.run_id or new_run_id(job))
    state = run.state()
    if state == "finished":
        if not config.overwrite:
            raise RunError(
                f"run {run.run_id} in {store.location}: finished already; take another --run-id, or --overwrite"
            )
        run.remove()
    elif state == "unfinished" and run.exists(CONFIG):
        before = yaml.safe_load(run.get_bytes(CONFIG))
        for name, now in asdict(config).items():
            if name not in MAY_CHANGE and before.get(name) != now:
                raise RunError(
                    f"run {run.run_id} in {store.location}: started with {name} {before.get(name)}, found {now}; "
                    "resume it with the settings it was started with, or take another --run-id"
                )
    return run


def begin_run(run: RunFolder, config: JobConfig, data_summary: dict[str, Any]) -> dict[str, Any]:
    """Writes what is known before the work begins; returns the environment it wrote."""
    environment = describe_environment()
    run.put_bytes(CONFIG, yaml.safe_dump({**asdict(config), "run_id": run.run_id}, sort_keys=False).encode())
    run.put_json(DATA, data_summary)
    run.put_json(ENVIRONMENT, environment)
    return environment
