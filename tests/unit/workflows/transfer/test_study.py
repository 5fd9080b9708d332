"""The study's frozen backbones and ours, side by side, with random weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from study_code import BACKBONE_BUILDERS, prepared

from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.network import BACKBONE, load_backbone, whole_model
from fmnist.workflows.transfer.recipes import recipe_of

Facts = list[tuple[object, ...]]


def facts(layers: list[keras.Layer]) -> Facts:
    return [
        (type(layer).__name__, layer.output.shape, layer.count_params(), getattr(layer, "rate", None))
        for layer in layers
    ]


def trained(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def compare(backbone: str) -> None:
    recipe = recipe_of(TransferConfig(recipe="notebook"), backbone)
    theirs = BACKBONE_BUILDERS[backbone](weights=None)
    ours = whole_model(load_backbone(backbone, recipe, None), recipe)
    heads = [
        next(n for n, layer in enumerate(model.layers) if isinstance(layer, keras.layers.GlobalMaxPooling2D))
        for model in (theirs, ours)
    ]

    # Ours has the preparation outside of the backbone: its first layer is an input of three channels.
    assert facts(ours.get_layer(BACKBONE).layers)[1:] == facts(theirs.layers[: heads[0]])[2:]
    # The softmax is a layer of its own.
    assert facts(ours.layers[heads[1] : -1]) == facts(theirs.layers[heads[0] :])
    assert ours.count_params() == theirs.count_params()
    assert trained(ours) == trained(theirs)
    theirs.set_weights([np.random.default_rng(0).normal(0, 0.05, w.shape) ** 2 for w in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    pixels = np.random.default_rng(1).integers(0, 256, (2, 28, 28), np.uint8)
    expected = theirs.predict(np.asarray(prepared(pixels.reshape(2, 784))), verbose=0)
    np.testing.assert_allclose(ours.predict(pixels, verbose=0), expected, rtol=1e-3, atol=1e-5)


def test_vgg16_is_the_studys() -> None:
    compare("vgg16")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet152v2", "efficientnetb1"])
def test_large_backbones_are_the_studys(backbone: str) -> None:
    compare(backbone)


def test_the_optimizer_is_the_studys() -> None:
    config = TransferConfig(recipe="notebook")

    assert config.learning_rate == 0.001
