"""Exchange between the workers of one machine, in memory that they share: no server, no port, no file.

Memory and sockets have no names: nobody else can open them, and nothing is left of them however the workers end.
"""

from __future__ import annotations

import mmap
import os
import secrets
import socket
import struct
from collections.abc import Callable
from itertools import combinations

import numpy as np
import tensorflow as tf

from fmnist.errors import TrainingError
from fmnist.training.sharding import Gather

# What a worker writes at once; more goes in pieces.
SLOT_BYTES = 2**22

# The longest wait for another worker: it may import TensorFlow, trace its first step or store a checkpoint.
PEER_SECONDS = 900.0


def connect(rank: int, workers: int, from_rank_zero: Callable[[str], str]) -> Gather:
    """Connects this process with the other workers, and returns their `Shard.gather`.

    Its exchanges follow each other in the order of the program. When another worker is gone, sends nothing, or
    exchanges another tensor, it raises a `ConnectionError` or a `TimeoutError`, which TensorFlow makes an
    `UnknownError` of.

    Args:
        rank, workers: as in `Shard`; processes of one user on one machine, at least two.
        from_rank_zero: returns what rank 0 gave it.

    Raises:
        TrainingError: if there is too little memory.
        OSError: if another worker does not connect.
    """
    size = 2 * workers * SLOT_BYTES
    memory, peers = _hand_out(workers, size, from_rank_zero) if rank == 0 else _take(rank, workers, from_rank_zero(""))
    slots = np.frombuffer(mmap.mmap(memory, size), np.uint8).reshape(2, workers, SLOT_BYTES)
    os.close(memory)
    return _Exchange(rank, slots, peers).gather


def _hand_out(workers: int, size: int, from_rank_zero: Callable[[str], str]) -> tuple[int, dict[int, socket.socket]]:
    """Makes the memory, and a pair of sockets for each two workers; hands them out, and returns those of rank 0."""
    memory = os.memfd_create("fmnist-exchange")
    try:
        # All of it now: memory that is missing later would end the process by a signal.
        os.posix_fallocate(memory, 0, size)
    except OSError as error:
        os.close(memory)
        raise TrainingError(f"no {size:,} bytes of memory for {workers} workers to share: {error.strerror}") from None
    ends: list[dict[int, socket.socket]] = [{} for _ in range(workers)]
    for one, other in combinations(range(workers), 2):
        ends[one][other], ends[other][one] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        # Linux' names of sockets that are no files.
        listener.bind(f"\0fmnist-{secrets.token_hex(16)}")
        listener.listen(workers)
        listener.settimeout(PEER_SECONDS)
        from_rank_zero(listener.getsockname()[1:].decode())
        waiting = set(range(1, workers))
        while waiting:
            connection, _ = listener.accept()
            with connection:
                # Anybody may list such names and connect.
                if not _is_own(connection):
                    continue
                connection.settimeout(PEER_SECONDS)
                rank = int(connection.recv(16))
                socket.send_fds(connection, [b"."], [memory, *(end.fileno() for end in ends[rank].values())])
                waiting.remove(rank)
                for end in ends[rank].values():
                    end.close()
    return memory, ends[0]


def _take(rank: int, workers: int, name: str) -> tuple[int, dict[int, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(PEER_SECONDS)
        connection.connect(f"\0{name}")
        if not _is_own(connection):
            raise ConnectionError("another user's process answers in the place of worker 0")
        connection.send(str(rank).encode())
        _, (memory, *ends), *_ = socket.recv_fds(connection, 1, workers)
    for received in (memory, *ends):
        # Python's own are closed in child processes.
        os.set_inheritable(received, False)
    others = (one for one in range(workers) if one != rank)
    return memory, {other: socket.socket(fileno=end) for other, end in zip(others, ends, strict=True)}


def _is_own(connection: socket.socket) -> bool:
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.getuid())


class _Exchange:
    """One exchange after the other: each worker writes its slot, tells the others, and reads when all have told.

    Two sets of slots take turns. A worker writes a slot again after all have told of the exchange in between, so after
    they have read the slot.
    """

    def __init__(self, rank: int, slots: np.ndarray, peers: dict[int, socket.socket]) -> None:
        self._rank, self._slots, self._peers, self._turn = rank, slots, peers, 0
        for peer in peers.values():
            peer.settimeout(PEER_SECONDS)

    @tf.autograph.experimental.do_not_convert
    def gather(self, value: tf.Tensor) -> tf.Tensor:
        # Stateful: TensorFlow calls such functions in the order of the program.
        gathered = tf.numpy_function(self._gather, [value], value.dtype)
        gathered.set_shape([len(self._slots[0]) * value.shape[0]])
        return gathered

    def _gather(self, value: np.ndarray) -> np.ndarray:
        own = value.view(np.uint8)
        received = np.empty((len(self._slots[0]), own.size), np.uint8)
        for start in range(0, own.size, SLOT_BYTES):
            part = own[start : start + SLOT_BYTES]
            slots = self._slots[self._turn % 2, :, : part.size]
            slots[self._rank] = part
            self._meet(struct.pack("2q", self._turn, own.size))
            received[:, start : start + part.size] = slots
            self._turn += 1
        return received.reshape(-1).view(value.dtype)

    def _meet(self, told: bytes) -> None:
        """Returns when all workers have told the same. The system orders what was written before against it."""
        for rank, peer in self._peers.items():
            try:
                peer.send(told)
            except OSError:
                raise ConnectionError(f"worker {rank} is gone") from None
        for rank, peer in self._peers.items():
            try:
                heard = peer.recv(len(told))
            except TimeoutError:
                raise TimeoutError(f"worker {rank} has sent nothing for {PEER_SECONDS:g} s") from None
            if heard != told:
                raise ConnectionError(f"worker {rank} " + ("exchanges another tensor" if heard else "is gone"))
