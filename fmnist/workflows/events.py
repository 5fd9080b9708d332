"""What workers tell the driver while they work, for it to show."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fmnist.history import History, Row
from fmnist.progress import EpochProgress


def open_events() -> Queue:
    """Returns a queue on this node, so that it lives exactly as long as who reads it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def tell(events: Queue, event: History | Row) -> None:
    """Tells the driver, if it still listens: what it shows must not stop the training."""
    with suppress(ray.exceptions.RayError):
        events.put(event)


@contextmanager
def shown(events: Queue, progress: EpochProgress) -> Iterator[list[History]]:
    """Shows the workers' events while the block runs; yields the histories that they started with, one a start."""
    starts: list[History] = []
    ended = threading.Event()

    def show() -> None:
        while not (ended.is_set() and events.empty()):
            try:
                event = events.get(timeout=0.5)
            except Empty:
                continue
            if isinstance(event, History):
                starts.append(event)
                if event.epochs:
                    progress.note(f"resumed after epoch {event.epochs}")
                elif len(starts) > 1:
                    progress.note("workers started again")
            else:
                progress.epoch(event)

    shower = threading.Thread(target=show, name="progress", daemon=True)
    shower.start()
    try:
        yield starts
    finally:
        ended.set()
        shower.join(timeout=10)
