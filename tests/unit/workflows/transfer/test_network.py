"""The models of transfer learning: how many parameters, what they are fed with, what is frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from fmnist.data import Images
from fmnist.models import changing_variables, sparse_cross_entropy
from fmnist.training.inference import load_model
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.network import (
    BACKBONE,
    STANDARDISATION,
    backbone_input,
    build_head,
    copy_weights,
    dead_units,
    diagnose,
    feature_extractor,
    load_backbone,
    standardise,
    unfreeze,
    whole_model,
)
from fmnist.workflows.transfer.recipes import FACTS, Recipe, recipe_of

# Two small stages of VGG16: the same code, faster.
SMALL = replace(FACTS["vgg16"].sound, image_size=32, feature_layer="block2_pool", pooling="avg", head_units=(8,))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)


# Keras' documentation gives the backbones' own: ResNet152V2 58,331,648, EfficientNetB1 6,575,239, VGG16 14,714,688.
@pytest.mark.parametrize(
    ("backbone", "recipe", "frozen", "trained"),
    [
        ("resnet152v2", "notebook", 58_331_648, (2048 + 1) * 512 + 513 * 10),
        ("resnet152v2", "sound", 58_331_648 + 2 * 2048, (2048 + 1) * 512 + 513 * 10),
        ("efficientnetb1", "notebook", 6_575_239, (1280 + 1) * 512 + 513 * 128 + 129 * 10),
        ("efficientnetb1", "sound", 6_575_239 + 2 * 1280, (1280 + 1) * 512 + 513 * 10),
        ("vgg16", "notebook", 14_714_688, (512 + 1) * 1024 + 1025 * 512 + 513 * 128 + 129 * 10),
        # Without block 5, and of 48 pixels: 3 x 3 places of 512 features.
        ("vgg16", "sound", 7_635_264 + 2 * 4608, (4608 + 1) * 512 + 513 * 10),
    ],
)
def test_parameters_of_all_six_models(backbone: str, recipe: str, frozen: int, trained: int) -> None:
    settings = recipe_of(TransferConfig(recipe=recipe), backbone)
    model = whole_model(load_backbone(backbone, settings, None), settings)

    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == trained
    assert model.count_params() == frozen + trained


@pytest.mark.parametrize("backbone", ["resnet152v2", "efficientnetb1", "vgg16"])
def test_the_sound_recipe_feeds_what_keras_own_preprocessing_gives(backbone: str, pixels: np.ndarray) -> None:
    module = {"resnet152v2": "resnet_v2", "efficientnetb1": "efficientnet", "vgg16": "vgg16"}[backbone]
    recipe = FACTS[backbone].sound
    grey = keras.layers.Resizing(recipe.image_size, recipe.image_size)(pixels[..., None].astype("float32"))
    expected = getattr(keras.applications, module).preprocess_input(np.repeat(np.asarray(grey), 3, axis=-1))

    np.testing.assert_allclose(backbone_input(recipe).predict(pixels, verbose=0), expected, rtol=1e-5, atol=1e-4)


def test_the_notebook_feeds_framed_images_of_0_to_1(pixels: np.ndarray) -> None:
    fed = backbone_input(FACTS["vgg16"].notebook).predict(pixels, verbose=0)

    framed = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, axis=-1)
    np.testing.assert_allclose(fed, framed / 255, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten"])
def test_the_saved_model_predicts_what_the_head_says_of_the_features(
    pooling: str, pixels: np.ndarray, tmp_path: Path
) -> None:
    recipe: Recipe = replace(SMALL, pooling=pooling)
    backbone = load_backbone("vgg16", recipe, None, seed=1)
    features = feature_extractor(backbone, recipe).predict(pixels, verbose=0)
    head = build_head(recipe, features.shape[1], seed=2)
    standardise(head, features)
    whole_model(backbone, recipe, head).save(tmp_path / "model.keras")

    saved = load_model(tmp_path / "model.keras").predict(pixels, verbose=0)

    assert saved.shape == (12, 10)
    assert np.ptp(saved, axis=0).max() > 0.01
    np.testing.assert_allclose(saved, head.predict(features, verbose=0), rtol=1e-4, atol=1e-6)


def test_standardised_features_have_mean_0_and_none_varies_more_than_1() -> None:
    features = np.random.default_rng(0).normal([5, 5, 0, 1], [3, 3, 0, 0.1], (2500, 4)).astype(np.float16)
    head = build_head(SMALL, 4, seed=0)
    standardise(head, features)

    out = keras.Model(head.input, head.get_layer(STANDARDISATION).output).predict(features, verbose=0)

    # The variances are 9, 9, 0 and 0.01, and on average 4.5.
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(out.std(axis=0), [1, 1, 0, 0.1 / 4.5**0.5], rtol=0.03)


@pytest.mark.parametrize(("stages", "first"), [(1, "block2_conv1"), (2, "block1_conv1")])
def test_fine_tuning_trains_the_last_stages_and_the_head(stages: int, first: str, pixels: np.ndarray) -> None:
    model = whole_model(load_backbone("vgg16", SMALL, None), SMALL)
    head_only = len(model.trainable_variables)
    unfreeze(model, "vgg16", SMALL, stages)

    trained = [layer.name for layer in model.get_layer(BACKBONE).layers if layer.trainable_weights]
    assert trained[0] == first
    assert len(model.trainable_variables) == head_only + 2 * len(trained)

    before = {variable.path: np.array(variable) for variable in model.variables}
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(pixels, np.arange(12) % 10, verbose=0)
    changed = {
        variable.path.split("/")[-2] for variable in model.variables if (before[variable.path] != variable).any()
    }
    assert {name for name in changed if name.startswith("block")} <= set(trained)
    assert first in changed


def test_a_copy_predicts_what_the_original_does(pixels: np.ndarray) -> None:
    # EfficientNet normalises its input by weights of which Keras keeps a copy.
    recipe = replace(FACTS["efficientnetb1"].sound, image_size=32, feature_layer="block1b_add", pooling="avg")
    models = [whole_model(load_backbone("efficientnetb1", recipe, None, seed=seed), recipe) for seed in (0, 1)]
    (normalization,) = (
        layer for layer in models[0].get_layer(BACKBONE).layers if isinstance(layer, keras.layers.Normalization)
    )
    normalization.set_weights([np.full(3, 0.4), np.full(3, 0.02), np.array(1)])
    normalization.finalize_state()
    copy_weights(*models)

    first, second = (model.predict(pixels, verbose=0) for model in models)
    np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-7)


def test_batch_normalisation_of_a_fine_tuned_backbone_keeps_its_statistics(pixels: np.ndarray) -> None:
    recipe = replace(FACTS["efficientnetb1"].sound, image_size=32, feature_layer="block1b_add", pooling="avg")
    model = whole_model(load_backbone("efficientnetb1", recipe, None), recipe)
    unfreeze(model, "efficientnetb1", recipe, 1)
    statistics = [v for v in model.get_layer(BACKBONE).variables if "moving" in v.path]
    before = [np.array(variable) for variable in statistics]
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(pixels, np.arange(12) % 10, verbose=0)

    assert len(statistics) > 4
    for variable, value in zip(statistics, before, strict=True):
        assert np.array_equal(np.array(variable), value)


def test_a_checkpoint_of_a_frozen_backbone_has_the_head_only() -> None:
    model = whole_model(load_backbone("vgg16", SMALL, None), SMALL)

    names = {variable.path.split("/")[0] for variable in changing_variables(model)}
    assert {"hidden_1", "logits"} <= names
    assert not any(name.startswith("block") for name in names)


def test_dead_units_are_counted() -> None:
    recipe = replace(SMALL, standardise=False, head_units=(4, 2), dropouts=(0.0, 0.0))
    head = build_head(recipe, 3, seed=0)
    head.get_layer("hidden_1").set_weights([np.ones((3, 4)), np.array([0.0, 0.0, 0.0, -9.0])])
    head.get_layer("hidden_2").set_weights([np.ones((4, 2)), np.zeros(2)])

    assert dead_units(head, np.ones((5, 3), np.float32)) == (0.25, 0.0)


def test_a_diagnosis_tells_images_that_look_alike_from_those_that_do_not() -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), 4)
    pixels = np.zeros((40, 28, 28), np.uint8)
    pixels[np.arange(40), labels] = 255
    images = Images(pixels, labels)
    recipe = replace(SMALL, resize=False, scale=1 / 255, offset=(0.0, 0.0, 0.0), pooling="flatten")
    blind = replace(recipe, scale=0.0)
    backbone = load_backbone("vgg16", recipe, None, seed=0)

    seen = diagnose("vgg16", "sound", recipe, feature_extractor(backbone, recipe), images)
    unseen = diagnose("vgg16", "notebook", blind, feature_extractor(backbone, blind), images)

    assert (seen.low, seen.high) == (0.0, 1.0)
    assert seen.separability == 1.0
    assert seen.spread > 0.1
    assert (unseen.high, unseen.spread, unseen.silent_features) == (0.0, 0.0, 1.0)
    assert unseen.separability == pytest.approx(0.1)


def test_the_loss_of_a_head_is_that_of_logits() -> None:
    head = build_head(SMALL, 3, seed=0)
    logits = keras.Model(head.input, head.get_layer("logits").output).predict(np.zeros((2, 3)), verbose=0)

    assert sparse_cross_entropy(np.array([1, 2]), logits).shape == (2,)
