"""``fmnist runs reproduce``: a finished run again, and whether its numbers are the same."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist import data
from fmnist.config import JobConfig
from fmnist.console import aside
from fmnist.errors import RunError, printable
from fmnist.job import Job
from fmnist.options import parse_config, settings_yaml
from fmnist.runs import CONFIG, DATA, ENVIRONMENT, RunFolder
from fmnist.runs.documents import Names
from fmnist.runs.inputs import INPUTS, inputs_of
from fmnist.runs.lifecycle import check_run
from fmnist.runs.reproduction import compare_epochs, environment_differences
from fmnist.workflows import JOBS

REPRODUCIBLE = ("train", "tune", "crossval", "transfer")


@dataclass(frozen=True)
class _Data:
    sha256: dict[str, str]


def reproduce_run(run: RunFolder, new_id: str, source: str | None, workers: int | None) -> int:
    """Runs a finished run's job again in a new run of the same store; returns 1 if a number differs.

    The new run has the settings, images and lanes of the old one. After a kill the same call resumes it; one that has
    finished is compared only.

    Args:
        new_id: of the new run.
        source: of the images, as the setting ``data``; None for the run's own.
        workers: data-parallel processes, which share the processors of this cluster; None for the run's own.

    Raises:
        RunError: if the run has not finished, its job cannot be reproduced, or its images are not those of the source.
    """
    manifest = run.manifest()
    if manifest.job not in REPRODUCIBLE:
        raise RunError(f"{run.location}: found a {manifest.job} run, expected one of {', '.join(REPRODUCIBLE)}")
    if new_id == run.run_id:
        raise RunError(f"run-id: found {new_id}, expected another than that of the run")
    job = JOBS[manifest.job]
    config = _config(run, job)
    config = replace(config, run_id=new_id, artifacts=run.store.location)
    config = replace(config, overwrite=False, skip_finished=True, track=None)
    config = replace(config, data=source or config.data)
    if workers is not None and hasattr(config, "workers"):
        config = replace(config, workers=workers, cpus_per_worker="auto")  # type: ignore[call-arg]
    opened = check_run(job.name, config)
    if not opened.done:
        _check_data(run, config.data)
        _print_differences(run, config)
    if opened.entry == "new" and (lanes := run.get_record(ENVIRONMENT, Names).get("lanes")):
        # The job goes on with it as with a run that has no epoch yet: gradients are summed in this order.
        opened.folder.put_json(ENVIRONMENT, {"lanes": lanes})
    job.run(config)
    found = compare_epochs(run, RunFolder(run.store, new_id))
    if found.first is None:
        print(f"run {new_id} reproduces run {run.run_id}: {found.epochs} epochs and all scores equal to the last digit")
        return 0
    print(f"run {new_id} differs from run {run.run_id}, first in {found.first}")
    return 1


def _print_differences(run: RunFolder, config: JobConfig) -> None:
    recorded = run.get_record(ENVIRONMENT, Names)
    differences = environment_differences(recorded)
    inputs = recorded.get(INPUTS)
    for name, digest in inputs_of(config, {}, {}).items():
        if isinstance(inputs, dict) and inputs.get(name, digest) != digest:
            differences[name] = inputs[name], digest
    for name, (then, now) in differences.items():
        print(printable(f"differs here: {name} was {then}, is {now}"))
    if not differences:
        print("nothing differs here: images, code, Python, packages and machine are the run's")


def _config(run: RunFolder, job: Job) -> JobConfig:
    """Returns a run's settings; those that its version did not have yet are the defaults."""
    settings = run.get_yaml(CONFIG, Names)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, CONFIG)
        file.write_text(settings_yaml(settings))
        config = parse_config(job.Config, f"fmnist {job.name}", [f"--config={file}"])
    assert config
    return config


def _check_data(run: RunFolder, source: str) -> None:
    recorded = run.get_record(DATA, _Data).sha256
    found = data.load(source, progress=aside.print).source.sha256
    if set(recorded.values()) != set(found.values()):
        name = next((name for name, digest in recorded.items() if digest not in found.values()), DATA)
        raise RunError(f"data: {source} has other images than run {run.run_id} ({name}); --data names the run's own")
