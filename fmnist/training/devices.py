"""TensorFlow's use of the machine in this process: threads, GPU memory, precision, XLA. Knows nothing of Ray."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

# On an H200 compiling a training took 6.9 s more than not compiling it, and saved 2.3 ms a step (docs/gpus.md).
COMPILED_STEPS = 3_000

# Compiled programs are kept for 30 days.
KEPT_SECONDS = 30 * 24 * 3600.0
# Excludes what is not deterministic, and the choice of kernels by measuring them.
_DETERMINISTIC = "--xla_gpu_deterministic_ops"
_KEPT = "--tf_xla_persistent_cache_directory"


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


def configure_tensorflow(
    cpus: float, least_lanes: int = 1, *, sequential: bool = False, deterministic: bool = False
) -> int:
    """Sets TensorFlow's numbers of threads to the worker's processors. Call it before TensorFlow's first operation.

    Without a GPU each operation has one thread, and as many operations run in parallel as there are processors, for the
    engine's lanes. TensorFlow's default for either pool of threads would use the cores of other workers too.

    Args:
        cpus: processors of this worker.
        least_lanes: minimum number of lanes on a CPU.
        sequential: for a network that runs without lanes, one operation at a time: each has all threads.
        deterministic: only operations that compute the same numbers each time. Some of a GPU's add numbers in the order
            in which threads happen to end, and XLA otherwise takes the kernels that were fastest this time.

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
    if deterministic and _DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC}=true".strip()
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        keep_programs(str([tf.__version__, sorted(details.items()), deterministic]))
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return 1 if gpus else max(threads, least_lanes)


@contextmanager
def xla_decides_determinism() -> Iterator[None]:
    """Leaves it to XLA's own flag which operations of the block's programs are deterministic.

    Where TensorFlow is to be deterministic, it refuses to hand XLA the gradient of max pooling, although XLA's own is.
    """
    from tensorflow.python.framework import config

    enabled = config.is_op_determinism_enabled()
    try:
        if enabled:
            config.disable_op_determinism()
        yield
    finally:
        if enabled:
            config.enable_op_determinism()


def keep_programs(machine: str) -> None:
    """Has XLA keep what it compiles, and the fastest kernels that it finds, for the other processes of this machine.

    It keeps them beside the images, in a folder for each version of TensorFlow, kind of GPU and flags of XLA: a program
    of others must not be run. Call it before anything is compiled. Flags that somebody has set come first.

    Args:
        machine: what a program depends on besides its operations and XLA's flags.
    """
    from fmnist.data import default_cache

    if _KEPT in os.environ.get("TF_XLA_FLAGS", ""):
        return
    key = hashlib.sha256(f"{machine} {os.environ.get('XLA_FLAGS')}".encode()).hexdigest()[:16]
    folder = default_cache() / "xla" / key
    # A folder that cannot be written costs the time of compiling.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.is_file() and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()
        for name, flag in (("TF_XLA_FLAGS", _KEPT), ("XLA_FLAGS", "--xla_gpu_per_fusion_autotune_cache_dir")):
            os.environ[name] = f"{os.environ.get(name, '')} {flag}={folder}".strip()


def forget_programs() -> bool:
    """Removes what `keep_programs` has kept; returns whether there was anything."""
    found = re.search(f"{_KEPT}=(.*)", os.environ.get("TF_XLA_FLAGS", ""))
    programs = list(Path(found[1]).glob("*.pb")) if found else []
    for path in programs:
        path.unlink(missing_ok=True)
    return bool(programs)


def resolve_xla(xla: Literal["auto", "on", "off"], *, images: int, batch_size: int, epochs: int) -> bool:
    """Returns whether to compile a training with XLA.

    ``auto`` compiles where it pays: on a GPU, from `COMPILED_STEPS` steps on. XLA is slower on a CPU.

    Args:
        images: of an epoch.
        batch_size: images a step.
        epochs: that are trained in one go. Of a training that resumes all of them, not only the rest: the rest is to
            have the numbers that it would have had.
    """
    if xla != "auto":
        return xla == "on"
    import tensorflow as tf

    steps = math.ceil(images / batch_size) * epochs
    return steps >= COMPILED_STEPS and bool(tf.config.list_physical_devices("GPU"))


def automatic_precision(gpu: bool) -> Literal["float32", "bfloat16"]:
    """Returns bfloat16 if this process' first GPU, or without ``gpu`` the processor, has instructions for it."""
    if gpu:
        return "bfloat16" if _gpu_generation() >= 8 else "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(cpu_field("flags").split()) else "float32"


def _gpu_generation() -> int:
    """Returns the major compute capability of the first GPU, 0 without one: TensorFlow's import would take seconds."""
    major = ctypes.c_int(0)
    with suppress(OSError):
        cuda = ctypes.CDLL("libcuda.so.1")
        cuda.cuInit(0)
        # 75 is CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR.
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)
    return major.value


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
