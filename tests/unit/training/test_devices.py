"""How many processors a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fmnist.training import devices
from fmnist.training.devices import automatic_precision, resolve_xla, usable_cpus


def system(root: Path, group: str, quotas: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    for folder, quota in quotas.items():
        path = root / "sys/fs/cgroup" / folder / "cpu.max"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{quota} 100000\n")
    return root


@pytest.mark.parametrize(
    ("affinity", "group", "quotas", "expected"),
    [
        (4, "/", {}, 4),
        (1, "/", {"": "400000"}, 1),
        (4, "/", {"": "50000"}, 1),
        (4, "/", {"": "250000"}, 2),
        (4, "/jobs/one", {"jobs/one": "max", "jobs": "300000"}, 3),
        (4, "/jobs/one", {"jobs/one": "200000", "jobs": "300000"}, 2),
        (4, "/elsewhere", {"": "max"}, 4),
        (4, "/", {"": "nonsense"}, 4),
    ],
)
def test_affinity_and_quotas_of_mocked_groups_count(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    affinity: int,
    group: str,
    quotas: dict[str, str],
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    assert usable_cpus(system(tmp_path, group, quotas)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(50_000, 1), (200_000, 2), (-1, 4)])
def test_quota_of_a_mocked_group_of_the_first_version_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    folder = tmp_path / "sys/fs/cgroup/cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == expected


@pytest.mark.parametrize(
    ("xla", "epochs", "gpus", "expected"),
    [
        ("auto", 2, 1, False),
        ("auto", 5, 1, True),
        ("auto", 30, 0, False),
        ("on", 1, 0, True),
        ("off", 30, 1, False),
    ],
)
def test_training_is_compiled_on_a_mocked_gpu_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, xla, epochs: int, gpus: int, expected: bool
) -> None:
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [kind] * gpus)

    assert resolve_xla(xla, images=48_000, batch_size=64, epochs=epochs) is expected


@pytest.mark.parametrize(
    ("flags", "generation", "on_cpu", "on_gpu"),
    [
        ("avx2 avx512_bf16", 9, "bfloat16", "bfloat16"),
        ("amx_bf16", 7, "bfloat16", "float32"),
        ("avx2 avx512f", 8, "float32", "bfloat16"),
        ("", 0, "float32", "float32"),
    ],
)
def test_precision_is_what_the_mocked_processor_or_gpu_is_quick_in(
    monkeypatch: pytest.MonkeyPatch, flags: str, generation: int, on_cpu: str, on_gpu: str
) -> None:
    monkeypatch.setattr(devices, "cpu_field", lambda _: flags)
    monkeypatch.setattr(devices, "_gpu_generation", lambda: generation)

    assert (automatic_precision(False), automatic_precision(True)) == (on_cpu, on_gpu)


def test_generation_of_the_gpu_is_what_tensorflow_says_and_none_without_one() -> None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    assert devices._gpu_generation() == details.get("compute_capability", (0, 0))[0]
