"""Exchange through shared memory: whatever is exchanged arrives, and each wait ends.

Here the workers are threads of this process; tests/integration/workflows/train/test_workers.py has processes.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from worker_threads import connected

from fmnist.boundary import explained, lasting
from fmnist.errors import TrainingError
from fmnist.training import shared_memory
from fmnist.training.sharding import Gather


def by_workers(count: int, work: Callable[[int, Gather], Any]) -> list[Any]:
    """Runs a function on each worker, in a thread each."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(work, range(count), connected(count)))


@examples(10)
@given(
    workers=st.integers(2, 5),
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=9),
    kind=st.sampled_from([np.float32, np.float64, np.int64, np.uint8, ml_dtypes.bfloat16]),
    seed=st.integers(0, 9),
)
def test_all_workers_receive_the_values_of_all_in_the_order_of_their_ranks(
    workers: int, sizes: list[int], kind: type, seed: int
) -> None:
    random = np.random.default_rng(seed)
    sent = [[random.integers(0, 100, size).astype(kind) for size in sizes] for _ in range(workers)]

    def work(rank: int, gather: Gather) -> list[np.ndarray]:
        pace = np.random.default_rng([seed, rank])
        received = []
        for value in sent[rank]:
            time.sleep(pace.uniform(0, 0.001))
            received.append(gather(tf.constant(value)).numpy())
        return received

    with pytest.MonkeyPatch.context() as patch:
        # So that most go in several pieces, the last of which is not full.
        patch.setattr(shared_memory, "SLOT_BYTES", 48)
        for received in by_workers(workers, work):
            for place, actual in enumerate(received):
                np.testing.assert_array_equal(actual, np.concatenate([of_rank[place] for of_rank in sent]))


def test_received_values_stay_as_they_are_when_others_follow() -> None:
    def work(rank: int, gather: Gather) -> np.ndarray:
        return np.stack([gather(tf.fill([3], 10 * step + rank)).numpy() for step in range(6)])

    for received in by_workers(2, work):
        np.testing.assert_array_equal(received, [[10 * step] * 3 + [10 * step + 1] * 3 for step in range(6)])


def test_worker_that_is_gone_is_said_at_once() -> None:
    gone, left, _ = gathers = connected(3)
    del gone, gathers[0]

    with pytest.raises(tf.errors.UnknownError) as error:
        tf.function(left)(tf.zeros([5]))

    assert str(explained(error.value)) == "worker 0 is gone"
    assert lasting(error.value) is None, "workers are started again"


def test_worker_that_sends_nothing_is_waited_for_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "PEER_SECONDS", 3.0)
    gathers = connected(2)

    with pytest.raises(tf.errors.UnknownError) as error:
        tf.function(gathers[0])(tf.zeros([5]))

    assert str(explained(error.value)) == "worker 1 has sent nothing for 3 s"


def test_workers_that_exchange_other_tensors_do_not_mix_them() -> None:
    def work(rank: int, gather: Gather) -> str:
        with pytest.raises(ConnectionError) as error:
            gather(tf.zeros([5 + rank]))
        return str(error.value)

    for rank, message in enumerate(by_workers(2, work)):
        assert message == f"worker {1 - rank} exchanges another tensor"


def test_nothing_of_an_exchange_has_a_name_or_is_inherited() -> None:
    def descriptors() -> set[int]:
        return {int(path.name) for path in Path("/proc/self/fd").iterdir()}

    # Else those of an earlier exchange are let go of meanwhile, and their numbers are given again.
    gc.collect()
    names, before = list[str](), descriptors()
    gathers = connected(2, names.append)

    assert names[0] not in Path("/proc/net/unix").read_text()
    assert not [path for path in Path("/dev/shm").iterdir() if "fmnist" in path.name]
    made = [each for each in descriptors() - before if Path(f"/proc/self/fd/{each}").exists()]
    assert made and not [each for each in made if os.get_inheritable(each)]
    del gathers


def test_too_little_memory_is_one_line_before_anything_is_trained() -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(
            TrainingError, match=r"^no 16,777,216 bytes of memory for 2 workers to share: File too large$"
        ):
            shared_memory.connect(0, 2, lambda name: name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts a process of another user")
def test_process_of_another_user_is_handed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # For worker 1 in its place, which would wait.
    monkeypatch.setattr(shared_memory, "PEER_SECONDS", 60.0)
    program = """
import os, socket, sys
os.setuid(65534)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect(f"\\0{sys.argv[1]}")
    print("connected", flush=True)
    connection.send(b"1")
    print(socket.recv_fds(connection, 1, 2)[:2])
"""
    strangers = []

    def come_first(name: str) -> None:
        stranger = subprocess.Popen([sys.executable, "-c", program, name], stdout=subprocess.PIPE, text=True)
        assert stranger.stdout and stranger.stdout.readline() == "connected\n"
        strangers.append(stranger)

    assert len(connected(2, come_first)) == 2

    output, _ = strangers[0].communicate(timeout=60)
    assert output in ("", "(b'', [])\n")
