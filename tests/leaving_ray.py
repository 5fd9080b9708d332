"""Runs ``fmnist`` so that whatever still refers to objects on the cluster while Ray is left ends the process.

Python's collector may run in any thread at any time. Here it does so in the worst one: the references of a job are in a
cycle, which only the collector finds, and a thread collects from the moment on in which Ray begins to end. It releases
them one after the other until Ray has ended, so that some are released whenever that is fatal. The manifest takes its
time, as on a busy machine.

``DIE_BEFORE_MANIFEST=RUN_ID`` ends the process instead where that run has all its results but no manifest.
``END_OF_RAY`` is what becomes of Ray's shutdown: ``slow``, ``fails``, ``killed`` (its processes are, which must be this
process' own), or ``hangs``.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import ray
from ray._private.worker import global_worker

from fmnist.cli import main
from fmnist.distributed import cluster
from fmnist.runs import RunFolder
from fmnist.runs.manifest import Manifest

REFERENCES = 5000
SECONDS_BETWEEN = 0.0005
SECONDS_FOR_A_MANIFEST = 1.5


class Holder:
    """Holds references in a cycle, and releases them slowly if it is collected in any thread but the main one."""

    def __init__(self) -> None:
        self.references = [ray.put(number) for number in range(REFERENCES)]
        self.itself = self

    def __del__(self) -> None:
        while self.references:
            self.references.pop()
            if threading.current_thread() is not threading.main_thread():
                time.sleep(SECONDS_BETWEEN)


def collect_while_ray_ends() -> None:
    # Ray deletes its client just before its core worker ends.
    while hasattr(global_worker, "gcs_client"):
        time.sleep(SECONDS_BETWEEN)
    gc.collect()


def holding_references(init: Callable[..., Any]) -> Callable[..., Any]:
    def init_and_hold(*arguments: Any, **options: Any) -> Any:
        context = init(*arguments, **options)
        # The cycle is to last until somebody collects on purpose.
        gc.disable()
        Holder()
        threading.Thread(target=collect_while_ray_ends, name="collector", daemon=True).start()
        return context

    return init_and_hold


def ending(shutdown: Callable[..., Any], end: str) -> Callable[..., Any]:
    def shut_down(*arguments: Any, **options: Any) -> None:
        if end == "hangs":
            threading.Event().wait()
        if end == "slow":
            time.sleep(5)
        if end == "fails":
            raise RuntimeError("a shutdown that fails")
        if end == "killed":
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        shutdown(*arguments, **options)

    return shut_down


def slow(finish: Callable[..., Manifest]) -> Callable[..., Manifest]:
    def finish_slowly(run: RunFolder, *arguments: Any, **options: Any) -> Manifest:
        if run.run_id == os.environ.get("DIE_BEFORE_MANIFEST"):
            os._exit(1)
        time.sleep(SECONDS_FOR_A_MANIFEST)
        return finish(run, *arguments, **options)

    return finish_slowly


if __name__ == "__main__":
    ray.init = holding_references(ray.init)
    if end := os.environ.get("END_OF_RAY"):
        ray.shutdown = ending(ray.shutdown, end)
        cluster.LEAVE_SECONDS = 2.0 if end == "hangs" else cluster.LEAVE_SECONDS
    RunFolder.finish = slow(RunFolder.finish)  # type: ignore[method-assign]
    sys.exit(main())
