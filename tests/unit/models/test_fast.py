"""The space of fast networks, the recipes that are points of it, and Muon for kernels."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from fmnist.models.factory import build
from fmnist.models.hyperparameters import discover, hyperparameters
from fmnist.models.optimizers import KernelMuon
from fmnist.models.search_space import fast
from fmnist.models.serving import without_augmentation
from fmnist.options import parse_config, recipes_of
from fmnist.workflows.train.config import TrainConfig


@pytest.mark.parametrize(("name", "file"), recipes_of(TrainConfig).items())
def test_recipe_is_a_point_of_the_space_with_the_parameters_that_it_names(name: str, file: Path) -> None:
    config = parse_config(TrainConfig, "fmnist train", ["--recipe", name])
    assert config is not None and config.model == "fast" and config.patience == 0
    hyperparameters(discover(fast), config.hyperparameters or {})

    built = build("fast", config.hyperparameters, learning_rate=0.0, seed=0, precision="float32")

    assert f"{built.model.count_params():,} parameters" in file.read_text().splitlines()[0]


def test_model_that_is_saved_takes_raw_images_and_augments_none(tmp_path) -> None:
    model = without_augmentation(build("fast", None, learning_rate=0.0, seed=0, precision="float32").model)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28)).astype("uint8")

    saved = keras.saving.load_model(tmp_path / "model.keras", compile=False)

    assert [layer.name for layer in saved.layers if "crop" in layer.name] == []
    np.testing.assert_allclose(saved(images), model.predict(images, verbose=0), atol=1e-6)


def test_muon_updates_a_kernel_as_kerass_own_updates_its_matrix() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 3, 4, 8)).astype("float32")
    kernel, matrix = keras.Variable(values[0]), keras.Variable(values[0].reshape(36, 8))
    ours, of_keras = KernelMuon(0.1, weight_decay=0), keras.optimizers.Muon(0.1, weight_decay=0)
    for _ in range(2):
        ours.apply([values[1]], [kernel])
        of_keras.apply([values[1].reshape(36, 8)], [matrix])

    np.testing.assert_allclose(np.asarray(kernel).reshape(36, 8), matrix, atol=1e-5)
    changes = np.linalg.svd(np.asarray(kernel).reshape(36, 8) - values[0].reshape(36, 8), compute_uv=False)
    assert changes.max() < 2 * changes.min()


def test_muon_leaves_what_is_no_matrix_and_the_logits_to_adam() -> None:
    built = build("fast", {"optimizer": "muon"}, learning_rate=0.0, seed=0, precision="float32")
    built.optimizer.build(built.model.trainable_variables)

    by_adam = [v.path for v in built.model.trainable_variables if built.optimizer._should_use_adamw(v)]

    assert [path for path in by_adam if "kernel" in path] == ["logits/kernel"]
    assert len(by_adam) == 2 * 3 + 2 and len(built.model.trainable_variables) == len(by_adam) + 3
