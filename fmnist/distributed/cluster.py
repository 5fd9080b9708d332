"""Starts or joins a Ray cluster, and checks that a job's workers and tasks fit into it."""

from __future__ import annotations

import gc
import logging
import math
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Literal

import ray

from fmnist.console import plain_console
from fmnist.distributed.access import check_address, own_token
from fmnist.errors import TrainingError, UserError, first_line
from fmnist.training.devices import usable_cpus

# Variables that a local cluster overrides, even if they are set.
OURS = frozenset({"RAY_GCS_SERVER_PORT", "RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED"})

# Seconds without progress after which a job prints that it is waiting for the cluster.
WAIT_SECONDS = 60

# A training step of these small models uses no more threads than this; on a big machine, use more workers.
MOST_CPUS_PER_WORKER = 8

# Of a local Ray, before a job gives up.
START_ATTEMPTS = 3


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

    The end of the block leaves Ray. By then every thread that the block has started must have ended.

    Args:
        resources: of a cluster that is connected already, as for the jobs of a pipeline. The block uses that cluster
            and does not leave it.

    Raises:
        UserError: if the named cluster does not answer, or wants another token.
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
    if address == "local":
        settings |= {
            # A cluster that lives as long as one job reports no usage.
            "RAY_USAGE_STATS_ENABLED": "0",
            # Nobody preempts or scrapes it, and either costs a process.
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
            "RAY_TRAIN_METRICS_ENABLED": "0",
            **_own_address(),
        }
    else:
        check_address(address)
    with _environment(settings), own_token() if address == "local" else nullcontext():
        _init(address)
        try:
            yield _resources(started_here=address == "local")
        except BaseException as error:
            _clear_frames(error)
            raise
        finally:
            _leave()


def _own_address() -> dict[str, str]:
    """Variables that tell the processes of a local Ray its address.

    Without them they guess, and take another cluster on the machine for theirs, or wait for one that is gone.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"127.0.0.1:{port}"}


def _init(address: str) -> None:
    """Connects to Ray, or starts a local one: again if a busy machine does not start its processes in Ray's 30 s.

    Raises:
        UserError: if the cluster at the address does not answer, or wants another token.
        TrainingError: if a local Ray does not start.
    """
    for left in reversed(range(START_ATTEMPTS)):
        try:
            ray.init(
                address=address,
                # Ray counts the machine's, and of less than one makes none.
                num_cpus=usable_cpus() if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # Ray Train asks the dashboard for actors' states; where there is none it waits 12 s for it at its end.
                include_dashboard=True if address == "local" else None,
            )
            return
        except Exception as error:
            if address != "local":
                if isinstance(error, (ConnectionError, ray.exceptions.AuthenticationError)):
                    reason = f"cannot join a Ray cluster there: {first_line(error)}"
                    raise UserError(f"RAY_ADDRESS={address}: {reason}") from error
                raise
            ray.shutdown()
            # The processes that did start have the other port until this process ends.
            os.environ.update(_own_address())
            if not left:
                raise TrainingError(
                    f"Ray did not start on this machine in {START_ATTEMPTS} attempts: {first_line(error)}"
                ) from error
            plain_console().print("Ray did not start in time on this machine; trying again", markup=False)


def _leave() -> None:
    """Disconnects from Ray, and ends the cluster if this process started it.

    An object reference that is released while Ray's core worker shuts down ends the process by ``_exit(1)``. So the
    references of the job are released first, and none can be released by the garbage collector meanwhile, whichever
    thread runs it. What fails here is one line: the job's result is decided.
    """
    try:
        gc.collect()
        gc.freeze()
        # It watches a cluster that cannot grow, and does not end when Ray asks it to: Ray waits a second for it.
        if (node := ray._private.worker._global_node) is not None:
            node.kill_monitor(check_alive=False)
        ray.shutdown()
    except BaseException as error:
        with suppress(OSError):
            print(f"fmnist: Ray did not end cleanly: {first_line(error)}", file=sys.stderr)
    finally:
        gc.unfreeze()


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
    """Sets variables for the block, except those of Ray Train and Ray Tune that the user has set."""
    before = {name: os.environ[name] for name in settings if name in os.environ}
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ or name in OURS})
    try:
        yield
    finally:
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


def cpus_per_worker(resources: Resources, workers: int, wanted: float | Literal["auto"], gpus: float) -> float:
    """Returns the number of processors of each worker, above 0.

    Args:
        resources: of the cluster.
        workers: how many run at once, 1 or more.
        wanted: the setting; ``"auto"`` divides the cluster's processors evenly, into whole numbers.
        gpus: GPUs a worker, 0-1.

    Raises:
        UserError: as `check_room`.
    """
    if wanted == "auto":
        share = min(resources.cpus / workers, resources.cpus_of_largest_node, MOST_CPUS_PER_WORKER)
        cpus = float(max(1, math.floor(share)))
    else:
        cpus = float(wanted)
    check_room(resources, "worker", workers, cpus, gpus)
    return cpus


def check_room(
    resources: Resources,
    kind: Literal["worker", "trial", "fold", "shard", "task"],
    count: int,
    cpus: float,
    gpus: float,
) -> None:
    """Checks that ``count`` workers, trials, folds, shards or tasks can run at once.

    Raises:
        UserError: naming the settings, if a cluster that cannot grow has less than they ask for.
    """
    if gpus > 1:
        raise UserError(f"gpus_per_{kind}: found {gpus:g}, expected 0 to 1; several GPUs take several --workers")
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
