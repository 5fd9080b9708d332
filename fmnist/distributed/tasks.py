"""A pool of Ray tasks: folds, shards of features, predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import ray

from fmnist.boundary import explained
from fmnist.distributed.waiting import SLOW_SECONDS, free, room_limit, to_start
from fmnist.errors import LeaseError, TrainingError, first_line
from fmnist.waiting import Wait

Key = TypeVar("Key")
Value = TypeVar("Value")

# Submitted tasks that have not ended. Ray schedules no faster with more, and a cluster that can grow sees these.
MOST_SUBMITTED = 256


@dataclass(frozen=True)
class TaskPool:
    """What each task of a pool takes, how many run at once, and how often a task is retried.

    Attributes:
        kind: what one task does, for messages, such as ``fold``.
        cpus: processors of a task, above 0.
        gpus: GPUs of a task, 0 to 1.
        retries: how often a task is started again whose process was killed.
        note: shows a line.
        limit: tasks submitted at once, running or waiting for room, 1 or more.
        has_begun: whether any task is known to run. While none does, lines say that there is no room; without it, that
            no task has ended.
    """

    kind: str
    cpus: float
    gpus: float
    retries: int
    note: Callable[[str], None]
    limit: int = MOST_SUBMITTED
    has_begun: Callable[[], bool] | None = None

    def run(
        self,
        function: Callable[..., Value],
        calls: Iterable[tuple[Key, tuple[Any, ...]]],
        name: Callable[[Key], str],
        on_lost: Callable[[Key, str], None] | None = None,
    ) -> Iterator[tuple[Key, Value]]:
        """Runs a function in Ray tasks and yields the key and value of each, in the order in which they end.

        Args:
            function: runs on the cluster.
            calls: a key for each task, and the function's arguments; taken one by one as tasks are submitted.
            name: what messages call the task of a key.
            on_lost: gets the key of a lost task and the reason in one line: its process was killed once more than
                ``retries`` allows, its node is gone, or it ended with a TrainingError. The other tasks continue. None
                raises an error.

        Raises:
            LeaseError: if another process has taken the run over.
            TrainingError: if a task ends with another error that a line explains, which is then the cause, or is lost.
        """
        remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries)(function)
        waiting = iter(calls)
        running: dict[ray.ObjectRef, Key] = {}
        wait = Wait(self.note, self._waits_for, first=None if self.has_begun else SLOW_SECONDS, limit=self._limit)
        while True:
            for key, arguments in islice(waiting, self.limit - len(running)):
                running[remote.remote(*arguments)] = key
            if not running:
                return
            ended = ray.wait(list(running), timeout=1)[0]
            if ended or (self.has_begun is not None and self.has_begun()):
                wait.progressed()
            wait.look()
            for reference in ended:
                key = running.pop(reference)
                try:
                    value = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, LeaseError):
                        raise error.cause from None
                    if isinstance(error.cause, TrainingError) and on_lost is not None:
                        on_lost(key, first_line(error.cause))
                        continue
                    if known := explained(error):
                        raise TrainingError(f"{name(key)}: {known}") from error.cause
                    raise
                except ray.exceptions.RayError as error:
                    if on_lost is None:
                        kept = "what other tasks computed is kept"
                        rest = "the same command with this --run-id computes the rest"
                        raise TrainingError(f"{name(key)}: {first_line(error)}; {kept}, and {rest}") from error
                    on_lost(key, first_line(error))
                else:
                    yield key, value

    def _waits_for(self) -> str:
        if self.has_begun is None:
            return f"no {self.kind} has ended meanwhile; {free()}"
        return to_start(1, self.kind, self.cpus, self.gpus)

    def _limit(self) -> float:
        return room_limit(self.cpus, self.gpus)
