"""What workers tell the driver while they work, for it to show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fmnist.history import History, Row
from fmnist.progress import EpochProgress


def open_events() -> Queue:
    """Returns a queue on this node, so that it lives exactly as long as who reads it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def tell(events: Queue, event: object) -> None:
    """Tells the driver, if it still listens: what it shows must not stop the training."""
    with suppress(ray.exceptions.RayError):
        events.put(event)


def tell_at_once(events: Queue, event: object) -> None:
    """Tells the driver without waiting whether it has heard; the last news before an end may come late."""
    events.actor.put_nowait.remote(event)


@contextmanager
def heard(events: Queue, listener: Callable[[Any], None]) -> Iterator[None]:
    """Calls ``listener`` with every event, in a thread beside the block, and with those left when it ends.

    The thread ends before the block does: one that held an object reference while Ray ends could end the process.
    """
    ended = threading.Event()

    def listen() -> None:
        while not (ended.is_set() and events.empty()):
            try:
                event = events.get(timeout=0.5)
            except Empty:
                continue
            listener(event)

    thread = threading.Thread(target=listen, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def shown(events: Queue, progress: EpochProgress) -> Iterator[list[History]]:
    """Shows the workers' events while the block runs; yields the histories that they started with, one a start."""
    starts: list[History] = []

    def show(event: History | Row) -> None:
        if not isinstance(event, History):
            progress.epoch(event)
            return
        starts.append(event)
        if event.epochs:
            progress.note(f"resumed after epoch {event.epochs}")
        elif len(starts) > 1:
            progress.note("workers started again")

    with heard(events, show):
        yield starts
