"""The two LeNet-5s, layer by layer."""

from pathlib import Path

import keras
import numpy as np
import pytest

from fmnist.errors import UserError
from fmnist.models import MODELS, build_model
from fmnist.models.lenet import C3_INPUTS, RUBBISH_PENALTY, class_codes, maximum_a_posteriori_loss, scaled_tanh
from fmnist.training.inference import load_model, probabilities


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)


def parameters(model: keras.Model) -> dict[str, int]:
    return {layer.name: layer.count_params() for layer in model.layers if layer.count_params()}


def test_lenet5_has_the_parameters_of_the_study() -> None:
    model = build_model("lenet5", seed=0)

    assert parameters(model) == {"C1": 832, "C3": 38_448, "F5": 442_624, "F6": 21_588, "logits": 850}
    assert model.count_params() == 504_342


def test_lenet5_1998_has_the_parameters_of_the_paper() -> None:
    model = build_model("lenet5-1998", seed=0)

    assert parameters(model) == {"C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164}
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 60_000


def test_c3_connects_as_in_table_1() -> None:
    assert [len(inputs) for inputs in C3_INPUTS] == [3] * 6 + [4] * 9 + [6]
    # Each map of S2 feeds ten maps of C3.
    assert [sum(source in inputs for inputs in C3_INPUTS) for source in range(6)] == [10] * 6

    model = build_model("lenet5-1998", seed=0)
    layer = model.get_layer("C3")
    for source in range(6):
        x = np.zeros((1, 14, 14, 6), dtype="float32")
        silent = np.asarray(layer(x))
        x[..., source] = 1
        reached = np.abs(np.asarray(layer(x)) - silent).max(axis=(0, 1, 2)) > 0
        assert [bool(hit) for hit in reached] == [source in inputs for inputs in C3_INPUTS]


def test_subsampling_adds_four_neighbours_scales_and_squashes() -> None:
    layer = build_model("lenet5-1998", seed=0).get_layer("S2")
    layer.coefficient.assign(np.full(6, 0.5))
    layer.bias.assign(np.full(6, -1.0))
    x = np.arange(28 * 28 * 6, dtype="float32").reshape(1, 28, 28, 6) / 5000

    expected = scaled_tanh(0.5 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) - 1)

    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


def test_squashing_function_fixes_plus_and_minus_one() -> None:
    np.testing.assert_allclose(scaled_tanh(np.array([-1.0, 0.0, 1.0], dtype="float32")), [-1, 0, 1], atol=1e-4)


def test_class_codes_differ_pairwise_in_half_of_their_places() -> None:
    codes = class_codes().astype(int)

    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1, 1}
    np.testing.assert_array_equal(codes @ codes.T, 84 * np.eye(10, dtype=int))


def test_maximum_a_posteriori_loss_is_equation_9() -> None:
    penalties = np.array([[3.0, 50.0, *[170.0] * 8], [90.0, 80.0, *[85.0] * 8]], dtype="float32")
    labels = np.array([0, 1])

    right = penalties[np.arange(2), labels]
    expected = right + np.log(np.exp(-RUBBISH_PENALTY) + np.exp(-penalties.astype("float64")).sum(axis=1))

    np.testing.assert_allclose(maximum_a_posteriori_loss(labels, -penalties), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_raw_images_give_ten_probabilities_and_a_saved_model_gives_the_same(
    name: str, pixels: np.ndarray, tmp_path: Path
) -> None:
    model = build_model(name, seed=3)
    expected = probabilities(model, pixels)
    model.save(tmp_path / "model.keras")

    actual = probabilities(load_model(tmp_path / "model.keras"), pixels)

    assert actual.shape == (7, 10)
    np.testing.assert_allclose(actual.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_initial_weights(name: str) -> None:
    first, again, other = (build_model(name, seed=seed).get_weights() for seed in (1, 1, 2))

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_bfloat16_keeps_weights_and_probabilities_in_float32(pixels: np.ndarray) -> None:
    model = build_model("lenet5", seed=0, precision="bfloat16")

    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.get_layer("C3").compute_dtype == "bfloat16"
    assert probabilities(model, pixels).dtype == np.float32
    assert build_model("lenet5", seed=0).get_layer("C3").compute_dtype == "float32"


def test_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="model 'lenet6' is unknown: expected one of lenet5, lenet5-1998"):
        build_model("lenet6", seed=0)


def test_one_hot_and_integer_labels_give_the_same_cross_entropy() -> None:
    labels, logits = np.array([0, 9, 4]), np.random.default_rng(0).normal(size=(3, 10)).astype("float32")

    np.testing.assert_allclose(
        MODELS["lenet5"].loss(labels, logits),
        keras.losses.categorical_crossentropy(np.eye(10)[labels], logits, from_logits=True),
        rtol=1e-5,
    )
