"""TensorFlow's use of the machine in this process: threads, GPU memory, precision, XLA. Knows nothing of Ray."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal


def usable_cpus(root: Path = Path("/")) -> int:
    """Returns how many processors this process may use, at least one: by its affinity and its groups' quotas.

    Args:
        root: where the system's files are, ``proc`` and ``sys``.
    """
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    groups = root / "sys/fs/cgroup"
    with suppress(OSError, ValueError):
        # cgroup v2: a process is in one group, and each group above it may have a quota.
        (own,) = [line[3:] for line in (root / "proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
        folder = groups / own.strip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(groups):
                with suppress(OSError, ValueError):
                    quota, period = map(int, (group / "cpu.max").read_text().split())
                    cpus = min(cpus, quota / period)
    with suppress(OSError, ValueError):
        quota, period = (int((groups / f"cpu/cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        cpus = min(cpus, quota / period if quota > 0 else cpus)
    return max(1, math.floor(cpus))


def configure_tensorflow(cpus: float, least_lanes: int = 1, *, sequential: bool = False) -> int:
    """Sets TensorFlow's numbers of threads to the worker's processors. Call it before TensorFlow's first operation.

    Without a GPU each operation has one thread, and as many operations run in parallel as there are processors, for the
    engine's lanes. TensorFlow's default for either pool of threads would use the cores of other workers too.

    Args:
        cpus: processors of this worker.
        least_lanes: minimum number of lanes on a CPU.
        sequential: for a network that runs without lanes, one operation at a time: each has all threads.

    Returns:
        The number of lanes for the engine: that of the threads, or one on a GPU.
    """
    import tensorflow as tf

    threads = max(1, math.floor(cpus))
    gpus = tf.config.list_physical_devices("GPU")
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.threading.set_intra_op_parallelism_threads(threads if gpus or sequential else 1)
    for gpu in gpus:
        # Without it the first process on a GPU takes all memory, and no other process can share the GPU.
        tf.config.experimental.set_memory_growth(gpu, True)
    return 1 if gpus else max(threads, least_lanes)


def resolve_xla(xla: Literal["auto", "on", "off"]) -> bool:
    """Returns whether to compile with XLA; ``auto`` does so on GPUs only, because XLA is slower on a CPU."""
    if xla != "auto":
        return xla == "on"
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def resolve_precision(precision: Literal["float32", "bfloat16", "auto"]) -> Literal["float32", "bfloat16"]:
    """Returns the precision of products; ``auto`` is bfloat16 where the processor has instructions for it."""
    if precision != "auto":
        return precision
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(cpu_field("flags").split()) else "float32"


def device_names() -> tuple[str, ...]:
    """Returns TensorFlow's devices in this process, such as ``/device:CPU:0``."""
    import tensorflow as tf

    return tuple(device.name for device in tf.config.list_logical_devices())


def cpu_field(name: str) -> str:
    """Returns a field of the first processor in ``/proc/cpuinfo``; empty without that file or field."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
