"""The study's models and ours, side by side: layers, parameters, probabilities, and a step of training."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from study_code import create_model, model_builder, prepared

from fmnist.data import Images
from fmnist.models import build_model
from fmnist.models.compiled import Trainable
from fmnist.models.factory import build
from fmnist.models.search_space import notebook
from fmnist.training import engine
from fmnist.workflows.crossval.config import CrossvalConfig
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.tune.config import TuneConfig

POINTS: list[dict[str, Any]] = [
    {"CONV_1_FILTER": 32, "KERNEL_1_FILTER": 3, "CONV_2_FILTER": 32, "KERNEL_2_FILTER": 3, "DROPOUT_1": 0.0},
    {"CONV_1_FILTER": 64, "KERNEL_1_FILTER": 5, "CONV_2_FILTER": 128, "KERNEL_2_FILTER": 5, "DROPOUT_1": 0.25},
    {"CONV_1_FILTER": 47, "KERNEL_1_FILTER": 3, "CONV_2_FILTER": 101, "KERNEL_2_FILTER": 5, "DROPOUT_1": 0.45},
    {"CONV_1_FILTER": 33, "KERNEL_1_FILTER": 5, "CONV_2_FILTER": 64, "KERNEL_2_FILTER": 3, "DROPOUT_1": 0.1},
]
SIX = Images(np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8), np.array([0, 3, 9, 9, 4, 1], np.uint8))


def layers_of(model: keras.Model) -> list[tuple[Any, ...]]:
    """What each layer of the study's kinds is; our models have the preparation before them and a softmax behind."""
    kinds = (keras.layers.Conv2D, keras.layers.MaxPooling2D, keras.layers.Flatten, keras.layers.Dense)
    found: list[tuple[Any, ...]] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            found.append(("Dropout", layer.rate))
        elif isinstance(layer, kinds):
            settings = [getattr(layer, name, None) for name in ("kernel_size", "padding", "strides", "pool_size")]
            found.append((type(layer).__name__, layer.output.shape, layer.count_params(), *settings))
    return found


def activations_of(model: keras.Model) -> list[str]:
    found = [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]
    return [*found[:-1], "softmax"] if isinstance(model.layers[-1], keras.layers.Softmax) else found


def at(point: dict[str, Any], **more: Any) -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.values = point | more
    return hp


def built_at(point: dict[str, Any], **more: Any) -> Trainable:
    return build("notebook", point | more, learning_rate=0.0, seed=0, precision="float32")


def assert_same(theirs: keras.Model, ours: keras.Model) -> None:
    assert layers_of(ours) == layers_of(theirs)
    assert activations_of(ours) == activations_of(theirs)
    assert ours.count_params() == theirs.count_params()
    ours.set_weights(theirs.get_weights())
    # Ours takes raw images: the preparation is the study's, too.
    expected = np.asarray(theirs(prepared(SIX.pixels.reshape(6, 784))))
    np.testing.assert_allclose(np.asarray(ours(SIX.pixels)), expected, rtol=1e-4, atol=1e-6)


def assert_same_step(theirs: keras.Model, ours: Trainable) -> None:
    """One step on one batch: one-hot labels and a softmax give the loss and the weights of labels and logits."""
    ours.model.set_weights(theirs.get_weights())
    theirs.run_eagerly = True
    loss, _ = theirs.train_on_batch(prepared(SIX.pixels.reshape(6, 784)), np.eye(10)[SIX.labels])
    epochs = engine.train(ours.model, ours.loss, ours.optimizer, SIX, SIX, batch_size=6, epochs=1, seed=0)

    assert next(epochs).loss == pytest.approx(float(loss), rel=1e-5)
    for one, other in zip(ours.model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_space_has_the_studys_hyperparameters() -> None:
    theirs, ours = keras_tuner.HyperParameters(), keras_tuner.HyperParameters()
    model_builder(theirs), notebook(ours)

    assert [one.get_config() for one in ours.space] == [one.get_config() for one in theirs.space]
    assert ours.values == theirs.values


@pytest.mark.parametrize("point", POINTS)
def test_model_of_a_point_is_the_studys(point: dict[str, Any]) -> None:
    theirs, ours = model_builder(at(point)), built_at(point, learning_rate=1e-3).model

    assert_same(theirs, ours)


def test_searched_convolution_is_before_the_second_pooling() -> None:
    shapes = [
        shape for name, shape, *_ in layers_of(built_at(POINTS[1]).model) if name != "Dropout" and len(shape) == 4
    ]

    assert shapes == [(None, 32, 32, 64), (None, 16, 16, 64), (None, 12, 12, 48), (None, 8, 8, 128), (None, 4, 4, 128)]


def test_a_step_in_the_space_is_the_studys() -> None:
    rate = {"learning_rate": 0.003}

    assert_same_step(model_builder(at(POINTS[0] | rate)), built_at(POINTS[0] | rate))


def test_lenet5_is_the_studys() -> None:
    theirs, ours = create_model((32, 32, 1)), build_model("lenet5", seed=0)

    assert_same(theirs, ours)


def test_a_step_of_lenet5_is_the_studys() -> None:
    rate = TrainConfig().learning_rate

    assert_same_step(create_model((32, 32, 1)), build("lenet5", None, learning_rate=rate, seed=0, precision="float32"))


def test_lenet5_of_1998_is_as_the_study_describes_it() -> None:
    model = build_model("lenet5-1998", seed=0)

    described = {
        "C1": ((28, 28, 6), (5 * 5 + 1) * 6),
        "S2": ((14, 14, 6), 2 * 6),
        "C3": ((10, 10, 16), 1516),
        "S4": ((5, 5, 16), 32),
        "C5": ((1, 1, 120), 48120),
        "F6": ((84,), 10164),
    }
    found = {name: model.get_layer(name) for name in described}
    assert {name: (layer.output.shape[1:], layer.count_params()) for name, layer in found.items()} == described


def test_settings_of_the_jobs_are_the_studys() -> None:
    tune, crossval, train = TuneConfig(), CrossvalConfig(), TrainConfig()

    # kt.Hyperband(…, max_epochs=10), whose factor is 3 and which makes one pass; EarlyStopping("val_loss", patience=5).
    assert (tune.space, tune.scheduler, tune.max_epochs, tune.patience) == ("notebook", "hyperband", 10, 5)
    assert (tune.factor, tune.iterations) == (3, 1)
    # fModel.fit(batch_size=64, epochs=30), with the checkpoint of the highest val_accuracy and no early stopping.
    assert (tune.batch_size, tune.retrain_epochs, tune.retrain_patience) == (64, 30, 0)
    # KFold(n_splits=10, shuffle=True); batch_size=64, epochs=30, patience=10; compile(optimizer=Adam()).
    assert (crossval.folds, crossval.batch_size, crossval.epochs, crossval.patience) == (10, 64, 30, 10)
    assert crossval.learning_rate == train.learning_rate == pytest.approx(float(keras.optimizers.Adam().learning_rate))
    assert train.batch_size == 64 and train.val_fraction == 0.2
