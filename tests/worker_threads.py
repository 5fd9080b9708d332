"""Workers as threads of this process, connected as those of a training are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fmnist.training import shared_memory
from fmnist.training.sharding import Gather


def connected(workers: int, before_others: Callable[[str], None] = lambda name: None) -> list[Gather]:
    """Returns the `Shard.gather` of each worker.

    Args:
        before_others: is called with the name that rank 0 listens at, before another worker knows it.
    """
    listening = Future[str]()

    def from_rank_zero(name: str) -> str:
        if name:
            before_others(name)
            listening.set_result(name)
        return listening.result(60)

    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(lambda rank: shared_memory.connect(rank, workers, from_rank_zero), range(workers)))
