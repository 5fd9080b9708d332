"""Loading pretrained weights: both formats give the same network, and a file of another one is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from hed_weights import CONVOLUTIONS, hed_file, write_vgg16_weights
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from fmnist.errors import UserError
from fmnist.workflows.transfer.pretrained import load_pretrained
from fmnist.workflows.transfer.recipes import FACTS

BUILDERS = {
    "resnet152v2": keras.applications.ResNet152V2,
    "efficientnetb1": keras.applications.EfficientNetB1,
    "vgg16": keras.applications.VGG16,
}
assert list(BUILDERS) == list(FACTS)


@cache
def backbone(name: str) -> keras.Model:
    """One of each for all tests; every test loads its own weights."""
    return BUILDERS[name](include_top=False, weights=None, input_shape=(32, 32, 3))


@pytest.fixture(scope="module", autouse=True)
def forget_backbones() -> Iterator[None]:
    yield
    backbone.cache_clear()


def randomise(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Sets every weight to a value of its own, such that what goes in still shows in what comes out; returns them."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            if len(weight.shape) > 1:
                inputs = np.prod(weight.shape[: 2 if weight.shape[-1] == 1 else 3])
                value = generator.normal(0, np.sqrt(2 / inputs), weight.shape)
            elif weight.name in ("gamma", "moving_variance", "variance"):
                value = generator.uniform(0.5, 1.5, weight.shape)
            else:
                value = generator.uniform(0, 0.1, weight.shape)
            values.append(value.astype("float32"))
        layer.set_weights(values)
    return model.get_weights()


def save(model: keras.Model, path: Path) -> Path:
    """Saves in the format that the path's name says."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, model)
    return path


def refusal(name: str, path: Path) -> str:
    with pytest.raises(UserError) as raised:
        load_pretrained(backbone(name), path, published=False, backbone=name)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
@pytest.mark.parametrize(
    # The largest takes twenty seconds each.
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "resnet152v2" else name for name in BUILDERS],
)
def test_weights_come_back_from_both_formats(tmp_path: Path, name: str, suffix: str) -> None:
    model = backbone(name)
    saved = randomise(model, seed=1)
    path = save(model, tmp_path / f"{name}{suffix}")
    randomise(model, seed=2)
    load_pretrained(model, path, published=False, backbone=name)
    assert len(saved) == len(model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(saved, model.get_weights(), strict=True))


def test_published_file_of_a_network_that_rescales_nothing_is_loaded_as_it_is(tmp_path: Path) -> None:
    model = backbone("vgg16")
    saved = randomise(model, seed=1)
    path = save(model, tmp_path / "published.h5")
    randomise(model, seed=2)
    load_pretrained(model, path, published=True, backbone="vgg16")
    assert all(np.array_equal(a, b) for a, b in zip(saved, model.get_weights(), strict=True))


def test_whole_model_file_is_read_as_keras_does(tmp_path: Path) -> None:
    model = backbone("vgg16")
    saved = randomise(model, seed=1)
    model.save(tmp_path / "whole.h5")
    randomise(model, seed=2)
    load_pretrained(model, tmp_path / "whole.h5", published=False, backbone="vgg16")
    assert all(np.array_equal(a, b) for a, b in zip(saved, model.get_weights(), strict=True))


def test_another_architecture_names_the_first_layer_that_differs(tmp_path: Path) -> None:
    other = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = save(other, tmp_path / "vgg19.weights.h5")
    text = refusal("vgg16", path)
    assert text.startswith("not weights of vgg16: <Conv2D name=block4_conv1")
    assert "(3, 3, 256, 512)" in text and "(3, 3, 256, 256)" in text and len(text) < 300
    text = refusal("efficientnetb1", path)
    assert text.startswith("not weights of efficientnetb1: <Normalization name=normalization")


def test_another_architecture_in_the_legacy_format_gives_the_numbers_of_layers(tmp_path: Path) -> None:
    other = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    text = refusal("vgg16", save(other, tmp_path / "vgg19.h5"))
    assert text.startswith("not weights of vgg16: ") and "expected 13 layers, found 16 saved layers" in text


def test_legacy_file_of_as_many_layers_names_the_one_that_differs(tmp_path: Path) -> None:
    model = backbone("vgg16")
    path = save(model, tmp_path / "vgg16.h5")
    with h5py.File(path, "a") as file:
        group = file["block3_conv2"]
        kernel = group.attrs["weight_names"][0]
        del group[kernel]
        group[kernel] = np.zeros((1, 1, 256, 256), np.float32)
    text = refusal("vgg16", path)
    assert "named block3_conv2" in text and "(3, 3, 256, 256)" in text and "(1, 1, 256, 256)" in text


def test_file_with_too_few_layers_is_refused(tmp_path: Path) -> None:
    model = backbone("vgg16")
    shorter = keras.Model(model.input, model.get_layer("block5_conv2").output)
    text = refusal("vgg16", save(shorter, tmp_path / "shorter.weights.h5"))
    assert text.startswith("not weights of vgg16: <Conv2D name=block5_conv3")
    assert "expected 13 layers, found 12" in refusal("vgg16", save(shorter, tmp_path / "shorter.h5"))


def test_legacy_file_with_more_layers_is_refused(tmp_path: Path) -> None:
    model = backbone("vgg16")
    longer = keras.Model(model.input, keras.layers.Conv2D(10, 1, name="extra")(model.output))
    assert "expected 13 layers, found 14" in refusal("vgg16", save(longer, tmp_path / "longer.h5"))


def test_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = save(backbone("vgg16"), tmp_path / "vgg16.weights.h5")
    content = path.read_bytes()
    said = "cannot be read as weights of vgg16, expected an intact HDF5 file: "
    for damaged in (content[: len(content) // 2], content[:100], b"", b"<html>404</html>"):
        path.write_bytes(damaged)
        assert refusal("vgg16", path).startswith(said)
    path.unlink()
    assert refusal("vgg16", path).startswith(said)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_file_without_variables_that_it_lists_names_the_layer(tmp_path: Path, suffix: str) -> None:
    path = save(backbone("vgg16"), tmp_path / f"vgg16{suffix}")
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visit(lambda name: names.append(name) if re.search(r"block2_conv1$|conv2d_2$", name) else None)
        del file[names[0]]
    assert "block2_conv1" in refusal("vgg16", path)


def test_hdf5_without_layers_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    assert "not weights of vgg16: " in refusal("vgg16", tmp_path / "other.h5")


def test_name_that_does_not_fit_the_format_is_refused(tmp_path: Path) -> None:
    model = backbone("vgg16")
    legacy = save(model, tmp_path / "vgg16.h5").rename(tmp_path / "legacy.weights.h5")
    assert refusal("vgg16", legacy) == (
        "the format is not Keras 3's, expected a name that ends in .h5 but not in .weights.h5"
    )
    keras3 = save(model, tmp_path / "vgg16.weights.h5").rename(tmp_path / "keras3.h5")
    assert refusal("vgg16", keras3) == "the format is Keras 3's, expected a name that ends in .weights.h5"


def test_long_list_of_layers_is_read_from_its_parts(tmp_path: Path) -> None:
    model = backbone("vgg16")
    saved = randomise(model, seed=1)
    path = save(model, tmp_path / "vgg16.h5")
    # As Keras writes a list that is too long for one attribute.
    with h5py.File(path, "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:7], names[7:]
    randomise(model, seed=2)
    load_pretrained(model, path, published=False, backbone="vgg16")
    assert all(np.array_equal(a, b) for a, b in zip(saved, model.get_weights(), strict=True))


@pytest.mark.slow
def test_efficientnet_computes_what_keras_imagenet_network_does_with_the_download_mocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = backbone("efficientnetb1")
    randomise(ours, seed=1)
    # What the published file holds there, the standard deviations as variances.
    normalization = next(layer for layer in ours.layers if isinstance(layer, keras.layers.Normalization))
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)])
    path = save(ours, tmp_path / "published.h5")
    monkeypatch.setattr("keras.src.applications.efficientnet.file_utils.get_file", lambda *_, **__: str(path))
    theirs = keras.applications.EfficientNetB1(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    expected = theirs(images, training=False).numpy()
    assert expected.std() > 1e-3

    def difference() -> float:
        found = ours(images, training=False).numpy()
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    load_pretrained(ours, path, published=False, backbone="efficientnetb1")
    assert difference() > 0.1, "the layer matters"
    load_pretrained(ours, path, published=True, backbone="efficientnetb1")
    assert np.allclose(normalization.variance.numpy().ravel(), np.square([0.229, 0.224, 0.225]))
    assert difference() < 1e-5

    # Who has a network saves what Keras built with the ImageNet weights: the file says so itself, whatever number Keras
    # gave the layers in a process that has built others.
    keras.layers.Rescaling(1), keras.layers.Rescaling(1)
    theirs = keras.applications.EfficientNetB1(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    load_pretrained(ours, path, published=False, backbone="efficientnetb1")
    for name in ("saved.weights.h5", "saved.h5"):
        load_pretrained(ours, save(theirs, tmp_path / name), published=False, backbone="efficientnetb1")
        assert difference() < 1e-5

    # What is saved and loaded again as a model has the folded layer.
    ours.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert np.allclose(again(images, training=False), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_real_pretrained_weights_are_written_for_keras_vgg16(tmp_path: Path) -> None:
    model = backbone("vgg16")
    path = write_vgg16_weights(tmp_path / "vgg16.weights.h5")
    load_pretrained(model, path, published=False, backbone="vgg16")
    with h5py.File(hed_file(), "r") as file:
        for block, count in CONVOLUTIONS.items():
            for number in range(count):
                variables = file[f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"]
                kernel, bias = model.get_layer(f"block{block}_conv{number + 1}").get_weights()
                assert np.array_equal(kernel, variables["0"][()])
                assert np.array_equal(bias, variables["1"][()])
    # Trained filters: the first layer's are smooth, as drawn ones are not.
    first = model.get_layer("block1_conv1").get_weights()[0]
    neighbours = np.corrcoef(first[:, :-1].ravel(), first[:, 1:].ravel())[0, 1]
    assert neighbours > 0.3
