"""Events that workers and tasks post while they work, for the driver to show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fmnist.console import aside
from fmnist.waiting import threaded


def open_events() -> Queue:
    """Returns a queue on the driver's node: it exists as long as its reader."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def post(events: Queue, event: object, *, wait: bool = True) -> None:
    """Posts an event to the driver; that the driver is gone is no error, since display must not stop training.

    Args:
        wait: until the queue has the event. Without it, the last event before the process ends may be lost. A Ray task
            must not wait: meanwhile Ray lends its processor to the next task.
    """
    if not wait:
        events.actor.put_nowait.remote(event)
        return
    with suppress(ray.exceptions.RayError):
        events.put(event)


@contextmanager
def listen(events: Queue, listener: Callable[[Any], None]) -> Iterator[None]:
    """Calls ``listener`` with every event in a thread while the block runs, then with the events that are left.

    The thread ends before the block does: an object reference that a thread holds while Ray shuts down could end the
    process.
    """

    def read(ended: threading.Event) -> None:
        while not (ended.is_set() and events.empty()):
            try:
                event = events.get(timeout=0.5)
            except Empty:
                continue
            except ray.exceptions.RayError:
                # The queue is on this node, so that all of Ray here is gone, and soon this process, which Ray ends.
                aside.print("Ray's processes on this machine have ended; the same command resumes the run")
                return
            listener(event)

    with threaded("progress", read):
        yield
