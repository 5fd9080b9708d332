"""Builders of users and the settings that all models of a process share."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmnist.errors import UserError
from fmnist.models.factory import build

MODEL = """
import keras, tensorflow as tf
{top}
def build(hp):
    {inside}
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model
"""


@pytest.fixture(autouse=True)
def settings_as_before() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    tf.config.run_functions_eagerly(False)


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: str = "", inside: str = "pass") -> ModuleType | None:
    """Makes ``users:build``; it is imported by the build."""
    (tmp_path / "users.py").write_text(MODEL.format(top=top, inside=inside))
    monkeypatch.syspath_prepend(str(tmp_path))
    return sys.modules.pop("users", None)


def first_build(**settings: Any) -> list[np.ndarray]:
    return build("users:build", None, **{"learning_rate": 0.1, "seed": 3, "precision": "float32", **settings}).model


@pytest.mark.parametrize(
    "top",
    [
        'keras.mixed_precision.set_global_policy("mixed_float16")',
        "keras.utils.set_random_seed(7)",
        'keras.config.set_floatx("float16")',
        'keras.config.set_image_data_format("channels_first")',
    ],
)
def test_what_the_top_of_a_module_sets_changes_no_model(
    top: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, monkeypatch)
    expected = first_build().get_weights()
    module(tmp_path, monkeypatch, top)
    for model in (first_build(), first_build()):
        assert {layer.dtype_policy.name for layer in model._flatten_layers() if layer.weights} == {"float32"}
        for one, other in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ('keras.mixed_precision.set_global_policy("mixed_float16")', "dtype policy from float32 to mixed_float16"),
        ("keras.utils.set_random_seed(7)", "random seed from 3 to 7"),
        ('keras.config.set_floatx("float64")', "floatx from float32 to float64"),
        ('keras.config.set_image_data_format("channels_first")', "image data format from channels_last to"),
        ("tf.random.set_seed(7)", "TensorFlow's random seed from 3 to 7"),
        ("tf.config.run_functions_eagerly(True)", "TensorFlow's execution of functions from graphs to eager"),
    ],
)
def test_a_builder_that_changes_settings_of_the_process_is_refused(
    inside: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, monkeypatch, inside=inside)
    with pytest.raises(UserError, match=f"^users:build: the builder changes .*{named}"):
        first_build()


def test_a_builder_that_seeds_python_is_refused_and_python_is_seeded_as_before_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.seed
    module(tmp_path, monkeypatch, inside="import random; random.seed(7)")
    with pytest.raises(UserError, match=r"^users:build: the builder calls random\.seed, expected no change"):
        first_build()
    assert random.seed is seed


def test_a_module_that_changes_how_tensorflow_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, top="tf.config.run_functions_eagerly(True)")
    with pytest.raises(UserError, match=r"^users:build: the module changes TensorFlow's execution of functions"):
        first_build()
