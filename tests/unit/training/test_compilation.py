"""Compiled programs on disk, on a CPU: the same flags as on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled

from fmnist.training import devices
from fmnist.training.compilation import Compiler

COMPILE = """
from fmnist.training import devices
devices.keep_programs("a machine")
import keras, tensorflow as tf
from fmnist.training.compilation import Compiler

images = keras.Input((3,))
model = keras.Model(images, keras.layers.Dense(2, kernel_initializer="ones")(images))
compiler = Compiler(model, xla=True, whole_epochs=True, note=print)
print(float(tf.reduce_sum(compiler.program(lambda x: model(x))(tf.ones((4, 3))))))
"""


def compile_in_a_process(cache: Path) -> tuple[str, dict[Path, float]]:
    """Returns what a process prints that compiles a program, and the kept programs with their times."""
    environment = {**os.environ, "FMNIST_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), {path: path.stat().st_mtime for path in cache.rglob("*.pb")}


def test_programs_are_kept_for_the_next_process_and_made_again_when_damaged(tmp_path: Path) -> None:
    printed, kept = compile_in_a_process(tmp_path)
    assert printed == "24.0" and len(kept) == 1
    assert compile_in_a_process(tmp_path) == ("24.0", kept)

    (program,) = kept
    program.write_bytes(program.read_bytes()[:100])
    printed, made_again = compile_in_a_process(tmp_path)

    # Its name has the number of the functions so far, and one more was made.
    assert printed == "24.0" and len(made_again) == 1 and program not in made_again


def test_max_pooling_is_compiled_where_operations_are_deterministic() -> None:
    images = keras.Input((4, 4, 1))
    model = keras.Model(images, keras.layers.MaxPooling2D(2)(images))

    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(model(x))
        return tape.gradient(total, x)

    tf.config.experimental.enable_op_determinism()
    try:
        compiler = Compiler(model, xla=True, whole_epochs=True, note=pytest.fail)
        pooled = compiler.program(gradient)(tf.reshape(tf.range(16.0), (1, 4, 4, 1)))
        assert is_op_determinism_enabled()
    finally:
        disable_op_determinism()

    assert pooled[0, :, :, 0].numpy().tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]]


def test_programs_of_other_flags_are_in_another_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FMNIST_CACHE", str(tmp_path))
    for flags in ("", "--xla_gpu_autotune_level=0"):
        monkeypatch.setenv("XLA_FLAGS", flags)
        monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
        devices.keep_programs("a machine")
        # Once for a process, whatever number of tasks it runs.
        devices.keep_programs("a machine")
        assert os.environ["XLA_FLAGS"].split()[:-1] == flags.split()

    assert len(list((tmp_path / "xla").iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FMNIST_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("TF_XLA_FLAGS", "")

    devices.keep_programs("a machine")

    assert os.environ["TF_XLA_FLAGS"] == ""
