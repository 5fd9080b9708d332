"""Starts or joins a Ray cluster, and checks that a job's workers and tasks fit into it."""

from __future__ import annotations

import atexit
import gc
import math
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ray

from fmnist.boundary import explained, say
from fmnist.config import worker_range
from fmnist.console import console
from fmnist.distributed import local
from fmnist.distributed.access import check_address, own_token
from fmnist.distributed.local import around_proxies, own_address, own_folder
from fmnist.errors import TrainingError, UserError, first_line, one_line
from fmnist.waiting import Wait, told

# Variables of Ray Train and Ray Tune that somebody has set for another program would change this one's jobs.
FOREIGN = ("TUNE_", "RAY_TRAIN_", "RAY_AIR_")
# These only say whether and how often Ray Train looks for nodes that are about to be taken away.
HARMLESS = frozenset({"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"})

# A training step of these small models uses no more threads than this; on a big machine, use more workers.
MOST_CPUS_PER_WORKER = 8

# Of a local Ray, before a job gives up.
START_ATTEMPTS = 3
# Ray ends within seconds, on a busy machine within half a minute.
LEAVE_SECONDS = 180.0


@dataclass(frozen=True)
class Resources:
    """What a Ray cluster has.

    Attributes:
        cpus, gpus: logical processors and GPUs of all nodes.
        nodes: how many nodes are alive.
        cpus_of_largest_node: upper limit of one worker's processors.
        started_here: whether this process started the cluster, which then ends with it and cannot grow.
    """

    cpus: float
    gpus: float
    nodes: int
    cpus_of_largest_node: float
    started_here: bool

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        where = "started here" if self.started_here else f"{self.nodes} nodes, joined"
        return f"{self.cpus:g} CPUs{gpus} ({where})"


@contextmanager
def connected(resources: Resources | None = None) -> Iterator[Resources]:
    """Joins the cluster named by ``RAY_ADDRESS``, as in a job given to ``ray job submit``, else starts a local one.

    The end of the block leaves Ray. By then every thread that the block has started must have ended. A cluster that
    this process has connected before, as in a notebook, is used and not left.

    Args:
        resources: of a cluster that is connected already, as for the jobs of a pipeline. The block uses that cluster
            and does not leave it.

    Raises:
        UserError: if the named cluster does not answer, wants another token, or has another version of Ray.
        TrainingError: if a local Ray does not start.
    """
    if resources:
        # The cluster may have grown since it was joined.
        yield _resources(resources.started_here)
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    # Ray Train polls its workers at this interval; each report and the end of a run wait for it.
    settings = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        # Ray Tune's own output, its files for each trial and its record of the search: the search job has its own.
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
        # Control-C ends the job instead of asking for patience.
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
    }
    with ExitStack() as stack:
        if ray.is_initialized():
            stack.enter_context(_environment(settings))
            yield _resources(started_here=False)
            return
        if address == "local":
            folder = stack.enter_context(own_folder())
            settings |= {
                # A cluster that lives as long as one job reports no usage.
                "RAY_USAGE_STATS_ENABLED": "0",
                # Nobody preempts or scrapes it, and either costs a process.
                "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
                "RAY_TRAIN_METRICS_ENABLED": "0",
                # On a busy machine Ray's own processes take longer to start than the 30 and 60 s that it gives them.
                "RAY_agent_register_timeout_ms": "300000",
                "RAY_worker_register_timeout_seconds": "300",
                # Temporary files of processes that are killed go with the folder.
                "TMPDIR": str(folder),
                **own_address(),
                **around_proxies(),
            }
            stack.enter_context(own_token())
            stack.enter_context(_environment(settings))
            _start(folder)
        else:
            stack.enter_context(_environment(settings))
            _join(address)
        try:
            yield _resources(started_here=address == "local")
        except BaseException as error:
            _clear_frames(error)
            _leave(error)
            raise
        else:
            _leave()


def _join(address: str) -> None:
    """Connects to the cluster at an address; errors as in `connected`."""
    check_address(address)
    try:
        local.connect(address=address)
    except (ConnectionError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        # Ray says by a RuntimeError of several lines that the cluster has another version, which may be the cause.
        reason = one_line(error.__cause__ or error)
        raise UserError(f"RAY_ADDRESS={address}: cannot join a Ray cluster there: {reason}") from error


def _start(folder: Path) -> None:
    """Starts a local Ray: again if its processes do not start."""
    for left in reversed(range(START_ATTEMPTS)):
        try:
            with told(Wait(console.print, lambda: "Ray to start on this machine")):
                local.start(folder)
            return
        except Exception as error:
            ray.shutdown()
            # The processes that did start have the other port until this process ends.
            os.environ.update(own_address())
            if not left:
                raise TrainingError(
                    f"Ray did not start on this machine in {START_ATTEMPTS} attempts: {first_line(error)}"
                ) from error
            console.print("Ray did not start in time on this machine; trying again")


def _leave(error: BaseException | None = None) -> None:
    """Disconnects from Ray, and ends the cluster if this process started it.

    Ray that takes longer than `LEAVE_SECONDS` is given up, and the process with it.

    An object reference that is released while Ray's core worker shuts down ends the process by ``_exit(1)``. So the
    references of the job are released first, and none can be released by the garbage collector meanwhile, whichever
    thread runs it. What fails here is one line: the job's result is decided, by ``error``.
    """
    # It sleeps, and so runs no Python while Ray ends.
    limit = threading.Timer(LEAVE_SECONDS, _give_up, [error])
    limit.name, limit.daemon = "ray_limit", True
    limit.start()
    try:
        gc.collect()
        gc.freeze()
        ray.shutdown()
    except BaseException as failure:
        say(f"Ray did not end cleanly: {first_line(failure)}")
        # At the end of the process it would ask a cluster whose token is gone, and print a traceback.
        if registry := sys.modules.get("ray.tune.registry"):
            atexit.unregister(registry._unregister_all)
    finally:
        limit.cancel()
        gc.unfreeze()


def _give_up(error: BaseException | None) -> None:
    """Ends the process with the exit code of the job's result: its main thread is in Ray, which does not end."""
    code = 0
    if error is not None:
        known = explained(error)
        code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else known.exit_code if known else 1
        if known:
            say(str(known))
        else:
            traceback.print_exception(error)
    say(f"Ray did not end within {LEAVE_SECONDS:g} s; this process ends without it")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _clear_frames(error: BaseException) -> None:
    """Releases the local variables that an error's traceback and those of its causes keep alive."""
    errors, seen = [error], set()
    while errors:
        one = errors.pop()
        if id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            errors += [other for other in (one.__cause__, one.__context__) if other is not None]


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Sets variables for the block, in place of all that somebody has set for other programs of Ray Train or Tune."""
    foreign = {name for name in os.environ if name.startswith(FOREIGN)} - HARMLESS
    before = {name: os.environ.pop(name) for name in foreign | settings.keys() if name in os.environ}
    os.environ.update(settings)
    # It keeps the folder that it has read from the environment.
    tempfile.tempdir = None
    try:
        yield
    finally:
        tempfile.tempdir = None
        for name in settings:
            os.environ.pop(name, None)
        os.environ.update(before)


def _resources(started_here: bool) -> Resources:
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Resources(
        cpus=sum(node.get("CPU", 0) for node in alive),
        gpus=sum(node.get("GPU", 0) for node in alive),
        nodes=len(alive),
        cpus_of_largest_node=max(node.get("CPU", 0) for node in alive),
        started_here=started_here,
    )


def cpus_per_worker(resources: Resources, workers: int | str, wanted: float | Literal["auto"], gpus: float) -> float:
    """Returns the number of processors of each worker, above 0.

    Args:
        resources: of the cluster.
        workers: how many run at once, 1 or more, or a range of it.
        wanted: the setting; ``"auto"`` divides the cluster's processors evenly, into whole numbers, among the least
            number of workers.
        gpus: GPUs a worker, 0-1.

    Raises:
        UserError: as `check_room`.
    """
    least, most = worker_range(workers)
    if wanted == "auto":
        share = min(resources.cpus / least, resources.cpus_of_largest_node, MOST_CPUS_PER_WORKER)
        cpus = float(max(1, math.floor(share)))
    else:
        cpus = float(wanted)
    check_room(resources, "worker", least, cpus, gpus, most)
    return cpus


def workers_now(resources: Resources, workers: int | str, cpus: float, gpus: float) -> int | str:
    """Returns the setting of workers, but the number that fit, up to the greatest, on a cluster that cannot grow."""
    least, most = worker_range(workers)
    if least == most:
        return least
    return min(most, room(resources, cpus, gpus)) if resources.started_here else workers


def room(resources: Resources, cpus: float, gpus: float) -> int:
    """Returns how many processes of so many processors and GPUs the cluster has room for at once."""
    shares = [resources.cpus / cpus, *([resources.gpus / gpus] if gpus else [])]
    return int(min(shares))


def check_room(
    resources: Resources,
    kind: Literal["worker", "trial", "fold", "shard", "task"],
    count: int,
    cpus: float,
    gpus: float,
    most: int = 1,
) -> None:
    """Checks that ``count`` workers, trials, folds, shards or tasks can run at once, of workers also ``most``.

    Raises:
        UserError: naming the settings, if a cluster that cannot grow has less than they ask for.
    """
    if gpus > 1:
        raise UserError(f"gpus_per_{kind}: found {gpus:g}, expected 0 to 1; several GPUs take several --workers")
    if kind == "worker" and (many := max(count, most)) > 1 and 0 < gpus < 1:
        expected = "expected 1, or 1 worker: workers exchange gradients, and NCCL refuses two on one GPU"
        raise UserError(f"gpus_per_worker: found {gpus:g} and {many} workers, {expected}")
    if cpus > 1 and not float(cpus).is_integer():
        raise UserError(f"cpus_per_{kind}: found {cpus:g}, expected a whole number, or a share of one processor")
    if not resources.started_here:
        return
    of_several, times = ("workers x ", f"{count} x ") if kind == "worker" else ("", "")
    for unit, name, each, there in (
        ("cpus", "processors", cpus, resources.cpus),
        ("gpus", "GPUs", gpus, resources.gpus),
    ):
        if each * count > there:
            setting, expected = f"{of_several}{unit}_per_{kind}", f"at most the {there:g} {name} of this machine"
            raise UserError(f"{setting}: found {times}{each:g}, expected {expected}")
