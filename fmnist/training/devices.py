"""What TensorFlow takes of the machine in this process: threads, GPU memory, precision, XLA. Knows nothing of Ray."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal


def configure_tensorflow(cpus: float, least_lanes: int = 1, *, chain: bool = False) -> int:
    """Gives this process' TensorFlow as many threads as it has processors; call it before the first operation.

    Without a GPU each operation gets one thread and as many operations run at once as there are processors, which is
    what the engine's lanes want. With the other pool at its default a worker of one CPU quietly uses its neighbour's
    core.

    Args:
        cpus: processors of this worker.
        least_lanes: on a processor.
        chain: for a network whose operations wait for each other, without lanes: each gets all threads.

    Returns:
        How many lanes the engine should compute in: the threads, or one on a GPU.
    """
    import tensorflow as tf

    threads = max(1, math.floor(cpus))
    gpus = tf.config.list_physical_devices("GPU")
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.threading.set_intra_op_parallelism_threads(threads if gpus or chain else 1)
    for gpu in gpus:
        # Else the first process on a GPU takes all of its memory, and fractions of a GPU cannot work.
        tf.config.experimental.set_memory_growth(gpu, True)
    return 1 if gpus else max(threads, least_lanes)


def resolve_xla(xla: Literal["auto", "on", "off"]) -> bool:
    """Decides what ``auto`` means in this process: on GPUs only, for on a CPU XLA is slower."""
    if xla != "auto":
        return xla == "on"
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def resolve_precision(precision: Literal["float32", "bfloat16", "auto"]) -> Literal["float32", "bfloat16"]:
    """Decides what ``auto`` means on this process' processor: bfloat16 where there are instructions for it."""
    if precision != "auto":
        return precision
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float32"
    return "bfloat16" if cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


def device_names() -> tuple[str, ...]:
    """What TensorFlow computes on in this process, such as ``/device:CPU:0``."""
    import tensorflow as tf

    return tuple(device.name for device in tf.config.list_logical_devices())


def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux reports for the processor; empty elsewhere."""
    return frozenset(cpu_field("flags").split())


def cpu_field(name: str) -> str:
    """Returns a field of the first processor in ``/proc/cpuinfo``; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
