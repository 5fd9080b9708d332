"""The spaces, as keras-tuner sees them, and what their models are."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from fmnist import config
from fmnist.errors import UserError
from fmnist.models import MODELS
from fmnist.models.augmentation import RandomShift
from fmnist.models.factory import build, load_builder
from fmnist.models.hyperparameters import discover, hyperparameters
from fmnist.models.schedules import CosineWithWarmup, set_length
from fmnist.models.search_space import SPACES, extended, notebook

STUDY_PARAMETERS = 504_342


def test_notebook_has_the_studys_hyperparameters():
    hp = keras_tuner.HyperParameters()
    notebook(hp)

    space = {each.name: each.get_config() for each in hp.space}
    assert list(space) == [
        *("CONV_1_FILTER", "KERNEL_1_FILTER", "CONV_2_FILTER", "KERNEL_2_FILTER", "DROPOUT_1", "learning_rate"),
    ]
    for name, low, high in [("CONV_1_FILTER", 32, 64), ("CONV_2_FILTER", 32, 128)]:
        assert (space[name]["min_value"], space[name]["max_value"], space[name]["step"]) == (low, high, 1)
    for name in ("KERNEL_1_FILTER", "KERNEL_2_FILTER"):
        assert space[name]["values"] == [3, 5]
    dropout, learning_rate = space["DROPOUT_1"], space["learning_rate"]
    assert (dropout["min_value"], dropout["max_value"], dropout["step"]) == (0, 0.5, 0.05)
    assert (learning_rate["min_value"], learning_rate["max_value"], learning_rate["sampling"]) == (1e-4, 1e-2, "log")


def test_notebook_model_is_of_the_values_it_is_given():
    values = {"CONV_1_FILTER": 40, "KERNEL_1_FILTER": 3, "CONV_2_FILTER": 100, "KERNEL_2_FILTER": 5}
    built = build(
        "notebook",
        {**values, "DROPOUT_1": 0.2, "learning_rate": 0.004},
        learning_rate=0.0,
        seed=0,
        precision="float32",
    )

    convolutions = [layer for layer in built.model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(layer.filters, *layer.kernel_size) for layer in convolutions] == [(40, 3, 3), (48, 5, 5), (100, 5, 5)]
    assert float(built.optimizer.learning_rate) == pytest.approx(0.004)


def test_extended_model_never_has_more_parameters_than_the_studys():
    space = discover(extended)
    largest = {hp.name: hp.max_value for hp in space.space if type(hp).__name__ == "Int"}
    largest |= {"convolutions": 2, "batch_normalization": True}
    values = dict(hyperparameters(space, space.values).values) | largest

    count = build("extended", values, learning_rate=0.0, seed=0, precision="float32").model.count_params()

    assert STUDY_PARAMETERS * 0.9 < count <= STUDY_PARAMETERS


def test_extended_model_augments_in_training_only():
    values = {"translation": 0, "batch_normalization": False, "dropout": 0.0}
    model = build("extended", values, learning_rate=0.0, seed=0, precision="float32").model
    # Dark on the left and bright on the right, so that no image is like its mirror image.
    images = (np.random.default_rng(0).uniform(0, 9, (64, 28, 28)) * np.arange(28)).astype("uint8")
    as_they_are, mirrored = (model.predict(pixels, verbose=0) for pixels in (images, images[:, :, ::-1]))

    trained = np.asarray(model(images, training=True))

    kept, flipped = (np.isclose(trained, one, atol=1e-6).all(axis=1) for one in (as_they_are, mirrored))
    assert (kept ^ flipped).all() and 16 < flipped.sum() < 48


def test_extended_model_translates_by_at_most_the_pixels_it_is_given():
    model = build("extended", {"translation": 2}, learning_rate=0.0, seed=0, precision="float32").model
    (layer,) = (layer for layer in model.layers if isinstance(layer, RandomShift))
    dot = np.zeros((200, 28, 28, 1), "float32")
    dot[:, 14, 14] = 1.0

    rows, columns = np.indices((28, 28))
    moved = np.asarray(layer(dot, training=True))[..., 0]
    for axis in (rows, columns):
        distance = (moved * axis).sum(axis=(1, 2)) / moved.sum(axis=(1, 2)) - 14
        assert np.abs(distance).max() == pytest.approx(2, abs=0.1)


def test_command_line_knows_every_model_and_space():
    assert tuple(MODELS) == config.MODELS
    assert tuple(SPACES) == config.SPACES


def test_seed_decides_the_first_weights():
    first, same, other = (
        build("notebook", None, learning_rate=0.0, seed=seed, precision="float32").model.get_weights()[0]
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_cosine_rises_to_its_peak_and_ends_at_zero():
    schedule = CosineWithWarmup(0.01, warmup=0.1)
    optimizer = keras.optimizers.Adam(schedule)
    set_length(optimizer, 1000)
    rates = np.array([float(schedule(step)) for step in range(1000)])

    assert rates.max() == pytest.approx(0.01, rel=1e-3)
    assert 98 <= rates.argmax() <= 100
    assert (np.diff(rates[:99]) > 0).all() and (np.diff(rates[101:]) < 0).all()
    assert rates[0] > 0 and rates[-1] == pytest.approx(0, abs=1e-6)
    assert float(schedule(2000)) == 0


def test_cosine_without_a_length_says_so():
    with pytest.raises(ValueError, match="steps is not set"):
        CosineWithWarmup(0.01)(0)


def test_constant_learning_rates_are_left_alone():
    optimizer = keras.optimizers.Adam(0.01)
    set_length(optimizer, 1000)
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notbook", "space 'notbook' is unknown: expected one of notebook, extended, fast, or module:function"),
        ("no_such_module:build", "no_such_module:build: cannot import no_such_module, expected a module"),
        ("builders:no_such", "builders:no_such: builders has no function no_such, expected one that takes"),
    ],
)
def test_builder_that_is_not_there_is_named(name: str, message: str):
    with pytest.raises(UserError, match=message):
        load_builder(name)


def test_builder_of_a_user_is_found():
    import builders

    assert load_builder("builders:tiny") is builders.tiny
