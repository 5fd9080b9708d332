"""What two workers of one thread exchange: through shared memory, as on one machine, and by TensorFlow's strategy.

Two processes without Ray take turns: an epoch of one worker alone, of two with either exchange, and again. Processor
time says something on a busy machine, too: ``python benchmarks/exchange.py``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from measure import images

BATCH_SIZE = 256
ONE, SHARED, STRATEGY = "1 worker", "2 workers, shared memory", "2 workers, strategy"
EXCHANGES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (one, other)]
    spawn = multiprocessing.get_context("spawn")
    ends = spawn.Pipe()
    workers = [
        spawn.Process(target=work, args=(rank, end, addresses, options.images, options.rounds))
        for rank, end in enumerate(ends)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def work(rank: int, other: Connection, addresses: list[str], count: int, rounds: int) -> None:
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    os.environ.update(TF_CONFIG=json.dumps(cluster), TF_CPP_MIN_LOG_LEVEL="3")
    import tensorflow as tf

    from fmnist.training import devices

    devices.configure_tensorflow(1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    from fmnist.data import Images
    from fmnist.models import MODELS, build_model
    from fmnist.models.optimizers import FusedAdam
    from fmnist.training import engine, shared_memory
    from fmnist.training.sharding import Gather, gather_over

    def from_rank_zero(name: str) -> str:
        if rank == 0:
            other.send(name)
        return name or other.recv()

    gathers = {SHARED: shared_memory.connect(rank, 2, from_rank_zero), STRATEGY: gather_over(strategy)}
    train = Images(*images(count))

    def epochs(gather: Gather | None) -> Callable[[], Any]:
        trained = engine.train(
            build_model("lenet5", seed=0),
            MODELS["lenet5"].loss,
            FusedAdam(1e-3),
            train,
            Images(train.pixels[:100], train.labels[:100]),
            batch_size=BATCH_SIZE,
            epochs=rounds + 1,
            seed=0,
            shard=engine.Shard(2, rank, 2, gather) if gather else engine.Shard(2),
        )
        # Traces it.
        next(trained)
        return trained.__next__

    def exchanges(gather: Gather) -> Callable[[], Any]:
        @tf.function
        def exchange(value: tf.Tensor) -> tf.Tensor:
            total = tf.zeros([])
            for _ in tf.range(EXCHANGES):
                total += gather(value)[0]
            return total

        return lambda: exchange(tf.zeros([2**19]))

    steps = -(-count // BATCH_SIZE)
    works = {name: (epochs(gather), steps) for name, gather in gathers.items()}
    works |= {f"2 MiB, {name}": (exchanges(gather), EXCHANGES) for name, gather in gathers.items()}
    if rank == 0:
        works[ONE] = epochs(None), steps
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in (ONE, *works)}
    for _ in range(rounds):
        for name, seconds in took.items():
            # Both begin at once, and worker 1 waits while the other works alone.
            other.send(None)
            other.recv()
            if name in works:
                run, parts = works[name]
                began = time.perf_counter(), time.process_time()
                run()
                wall, processor = time.perf_counter() - began[0], time.process_time() - began[1]
                seconds.append((wall / parts, processor / parts))
    if rank == 0:
        print("ms a step or exchange, of worker 0: wall, least and median; processor, least and median")
        medians = {}
        for name, seconds in took.items():
            wall_times, processor_times = zip(*seconds, strict=True)
            figures = [figure(times) * 1000 for times in (wall_times, processor_times) for figure in (min, median)]
            print(f"  {name:<36}" + "".join(f"{one:8.1f}" for one in figures))
            medians[name] = median(wall_times), median(processor_times)
        for name in gathers:
            by_wall, by_processor = (one / two for one, two in zip(medians[ONE], medians[name], strict=True))
            print(f"{name}, against 1: {by_wall:.2f}x by wall time, {by_processor:.2f}x by processor time")


if __name__ == "__main__":
    main()
