"""What the jobs on Ray have in common around their work: how they begin, how they finish a run, and how they leave Ray.

The order of the end is the point. Results are written while Ray is still there, the manifest last; the work returns and
with it go its object references; the session's threads end; and only then `cluster.connected` leaves Ray.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from fmnist import clock
from fmnist.boundary import spared
from fmnist.config import JobConfig, own_builder, worker_range
from fmnist.console import console
from fmnist.distributed import cluster
from fmnist.distributed.gauges import publisher
from fmnist.distributed.logs import Logs
from fmnist.distributed.software import check_workers
from fmnist.distributed.tasks import TaskPool
from fmnist.runs import CONFIG, RunFolder
from fmnist.runs.documents import Names
from fmnist.runs.inputs import IDENTITY, origin
from fmnist.runs.lifecycle import OpenedRun, begin_run, with_inputs
from fmnist.runs.results import Results, finish_run
from fmnist.tracking.tracker import tracked
from fmnist.training import devices
from fmnist.training.progress import Publish

Note = Callable[[str], None]
Figures = dict[str, bytes]


class Prepared(Protocol):
    """The images of a job, and the content of its ``data.json``."""

    @property
    def summary(self) -> dict[str, Any]: ...


Config = TypeVar("Config", bound=JobConfig)
Data = TypeVar("Data", bound=Prepared)


@dataclass(frozen=True)
class StartedRun(Generic[Data]):
    """A run whose folder has been begun; what its results are written from, besides the job's outcome.

    Attributes:
        run, data, started, note, logs: as in `Session`.
        environment: of the driver, as written at the start.
        data_figures: of the data, as PNG by name; drawn while the job works.
    """

    run: RunFolder
    data: Data
    environment: Mapping[str, Any]
    data_figures: Future[Figures]
    started: float
    note: Note
    logs: Logs

    def finish(self, results: Results, lines: Sequence[str]) -> None:
        """Stores the logs, then finishes the run; arguments and errors as in `finish_run`."""
        for line in lines:
            self.logs.driver.add(line)
        self.logs.end()
        finish_run(self.run, results, lines, self.note)


@dataclass(frozen=True)
class Session(Generic[Config, Data]):
    """A job that is connected to Ray and has its images.

    Attributes:
        config: of the job.
        opened: its run, which nothing has been written into.
        data: the images.
        resources: of the cluster.
        started: the job's start, seconds since the epoch.
        note: shows a line.
        differences: of the software that Ray's processes import, a line each.
        background: runs functions in a thread beside the work; one at a time, since Matplotlib is not thread-safe.
        identity: of the run, for trackers.
        logs: what driver and workers have printed.
        publish: sets the job's gauges.
    """

    config: Config
    opened: OpenedRun
    data: Data
    resources: cluster.Resources
    started: float
    note: Note
    differences: list[str]
    background: Executor
    identity: str
    logs: Logs
    publish: Publish

    @property
    def run(self) -> RunFolder:
        """The run's folder."""
        return self.opened.folder

    def begin(
        self,
        draw_data: Callable[[Data], Figures],
        has_progress: Callable[[], bool] | None = None,
        more: Mapping[str, bytes] = MappingProxyType({}),
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> StartedRun[Data]:
        """Writes what is known before the work begins, and has the figures of the data drawn meanwhile.

        From here on, settings and resources are known to be right. The other arguments are as
        in `begin_run`.
        """
        facts = {**facts, **origin(), IDENTITY: self.identity}
        environment = begin_run(self.opened, self.config, self.data.summary, has_progress, more, facts)
        self.logs.begin()
        if self.differences:
            environment = {**environment, "differences": self.differences}
        figures = self.background.submit(self._drawn, draw_data)
        return StartedRun(self.run, self.data, environment, figures, self.started, self.note, self.logs)

    def _drawn(self, draw_data: Callable[[Data], Figures]) -> Figures:
        with spared("the figures of the data were not drawn"):
            return draw_data(self.data)
        return {}


def run_on_ray(
    opened: OpenedRun,
    config: Config,
    prepare: Callable[[Config, Note], Data],
    work: Callable[[Session[Config, Data]], None],
    resources: cluster.Resources | None = None,
    inputs: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Prepares a job's images while Ray starts, runs its work, and leaves Ray.

    Args:
        prepare: returns the images; runs in a thread.
        work: does everything else, up to the manifest; whatever refers to objects on the cluster ends with it.
        resources: of a Ray cluster that is connected already, as for the jobs of a pipeline; None connects to one.
        inputs: sha256 of what the job reads besides the images and the user's code, by name.

    Raises:
        FmnistError: that preparation, connection or work ended with.
    """
    started, run = clock.now(), opened.folder
    note: Note = console.print
    logs = Logs(run, started)
    with logs.recorded():
        note(f"run {run.run_id} in {run.store.location}")
        background = ThreadPoolExecutor(1)
        preparing = background.submit(prepare, config, note)
        joined = resources is not None
        # Left from the right to the left: the thread has ended before Ray is left, however the work ends.
        with cluster.connected(resources) as resources, background, logs.stored():
            config = with_precision(with_gpus(config, opened, resources), opened, resources, note)
            module = builder.partition(":")[0] if (builder := own_builder(config)) else None
            differences = [] if joined else check_workers(module, note, started_here=resources.started_here)
            for difference in differences:
                note(difference)
            data = preparing.result()
            opened = with_inputs(opened, config, data.summary, inputs)
            for line in assumptions(config, run.store.location, resources):
                note(line)
            identity = opened.fact(IDENTITY) or secrets.token_hex(8)
            with tracked(run, config.track.split(",") if config.track else [], identity):
                publish = publisher(run.run_id, opened.job, resources)
                session = Session(
                    config, opened, data, resources, started, note, differences, background, identity, logs, publish
                )
                work(session)


def with_gpus(config: Config, opened: OpenedRun, resources: cluster.Resources) -> Config:
    """Returns the settings with a number in place of each ``auto`` of ``gpus_per_…``: the one of a run that goes on.

    Else one GPU, if the cluster has one now, and for workers one for each.
    """
    automatic = [name for name in sorted(config.declared("gpu_share")) if getattr(config, name) == "auto"]
    before = _settings_before(opened)
    needed = {"gpus_per_worker": worker_range(getattr(config, "workers", 1))[0]}
    chosen: dict[str, Any] = {
        name: before.get(name, float(resources.gpus >= needed.get(name, 1))) for name in automatic
    }
    return replace(config, **chosen)


def with_precision(config: Config, opened: OpenedRun, resources: cluster.Resources, note: Note) -> Config:
    """Returns the settings with a precision in place of ``auto``: that of a run that goes on.

    Else bfloat16, if the processors of all kinds of the job's processes have instructions for it. One precision for
    all, so that a run which goes on elsewhere does not mix two in one history.
    """
    if config.precision != "auto":
        return config
    shares = {getattr(config, name) for name in config.declared("gpu_share")}
    kinds = {_automatic_precision(resources, gpus, note) for gpus in shares}
    found: Any = "float32" if "float32" in kinds else "bfloat16"
    if (before := _settings_before(opened).get("precision", "auto")) not in {"auto", found}:
        note(f"precision: {before} as the run was started with; auto would be {found} here, which may be faster")
        found = before
    return replace(config, precision=found)


def _automatic_precision(resources: cluster.Resources, gpus: float, note: Note) -> str:
    """Returns what ``auto`` is in a process with so many GPUs, in one of the cluster's."""
    if resources.started_here and not gpus:
        return devices.automatic_precision(False)
    pool = TaskPool("first process", min(1.0, resources.cpus_of_largest_node), gpus, retries=3, note=note)
    [(_, found)] = pool.run(devices.automatic_precision, [("precision", (gpus > 0,))], str)
    return found


def _settings_before(opened: OpenedRun) -> Names:
    """Returns the settings of a run that goes on; none if it is new."""
    return opened.folder.get_yaml(CONFIG, Names) if opened.is_resumed and opened.folder.exists(CONFIG) else {}


def assumptions(config: JobConfig, location: str, resources: cluster.Resources) -> Iterator[str]:
    """Yields a line for each thing that must be true of the nodes and cannot be seen from here.

    Args:
        location: of the artifact store.
    """
    if resources.nodes > 1 and not location.startswith("s3://"):
        yield f"{location}: all nodes must see this folder; if they do not, use s3://"
    # On Kubernetes, the policies of k8s/ fence a cluster off. A single worker exchanges nothing.
    fenced = "KUBERNETES_SERVICE_HOST" in os.environ
    several = worker_range(getattr(config, "workers", 1))[1] > 1
    if several and not fenced and (not resources.started_here or getattr(config, "gpus_per_worker", False)):
        yield (
            "workers: those on other machines or with GPUs exchange gradients at ports that ask for no token; whoever "
            "reaches these machines can read and write as you do, so fence them off (SECURITY.md)"
        )
