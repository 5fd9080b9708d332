"""Models of anybody: what is no model of these images, or does not fit, is one line before memory is taken for it."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from fmnist import cli
from fmnist.commands.models import load_run_model
from fmnist.errors import IntegrityError, RunError
from fmnist.runs import CONFIG, DATA, MODEL, RunFolder
from fmnist.storage import FolderStore

OWN_LAYER = """
import keras

@keras.saving.register_keras_serializable("fmnist-tests")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return x * 2
"""


def model(*inner: Any, shape: tuple[int, ...] = (28, 28), units: int = 10) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *inner, layers.Flatten(), layers.Dense(units, activation="softmax")])


def saved(built: keras.Model, folder: Path) -> bytes:
    built.save(folder / MODEL)
    return (folder / MODEL).read_bytes()


def edited(content: bytes, edit: Callable[[dict[str, Any]], object], file: str = "config.json") -> bytes:
    """A model's archive with another JSON file in it."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if name == file:
                values = json.loads(part)
                edit(values)
                part = json.dumps(values).encode()
            new.writestr(name, part)
    return changed.getvalue()


def finished(content: bytes, folder: Path, builder: str = "lenet5") -> RunFolder:
    run = RunFolder(FolderStore(folder / "artifacts"), "one")
    run.put_bytes(MODEL, content)
    run.put_bytes(CONFIG, f"model: {builder}\n".encode())
    run.put_json(DATA, {"official": True})
    run.finish("train")
    return run


def dense(config: dict[str, Any]) -> dict[str, Any]:
    return config["config"]["layers"][-1]


def two_outputs() -> keras.Model:
    images = keras.Input((28, 28))
    return keras.Model(images, [layers.Dense(10)(layers.Flatten()(images)), layers.Dense(10)(layers.Flatten()(images))])


def not_a_number() -> keras.Model:
    built = model()
    built.layers[-1].kernel.assign(np.full((784, 10), np.nan))
    return built


HUGE = (layers.Reshape((28, 28, 1)), layers.Resizing(30_000, 30_000), layers.GlobalMaxPool2D())
STRANGE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "input": (lambda folder: saved(model(shape=(32, 32)), folder), "this is Keras"),
    "output": (lambda folder: saved(model(units=7), folder), r"output of shape \[1, 7\], expected \[1, 10\]"),
    "outputs": (lambda folder: saved(two_outputs(), folder), r"expected \[1, 10\]"),
    "weights": (lambda folder: saved(not_a_number(), folder), "not finite numbers"),
    "no zip": (lambda folder: b"PK", "this is Keras"),
    "units": (
        lambda folder: edited(saved(model(), folder), lambda it: dense(it)["config"].update(units=10**9)),
        "found 785,000,000,000 parameters, expected at most 268,435,456",
    ),
    "activation": (
        lambda folder: saved(model(*HUGE), folder),
        "found a layer with 900,000,000 outputs",
    ),
    "argument": (
        lambda folder: edited(saved(model(), folder), lambda it: dense(it)["config"].update(not_yet_known=1)),
        r"saved by Keras 3\.\S+, this is Keras 3\.\S+: .*not_yet_known",
    ),
    "module": (
        lambda folder: edited(saved(model(), folder), lambda it: dense(it).update(module="keras.tomorrow")),
        r"saved by Keras 3\.\S+, this is Keras 3\.",
    ),
    "lambda": (lambda folder: saved(model(layers.Lambda(lambda x: x)), folder), "this is Keras"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_model_is_one_line(kind: str, tmp_path: Path) -> None:
    make, message = STRANGE[kind]
    with pytest.raises(RunError, match=message) as refused:
        load_run_model(finished(make(tmp_path), tmp_path))
    assert "\n" not in str(refused.value) and MODEL in str(refused.value)


def test_model_that_is_not_the_manifests_is_not_loaded(tmp_path: Path) -> None:
    run = finished(saved(model(), tmp_path), tmp_path)
    path = tmp_path / "artifacts" / "one" / MODEL
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.keras: damaged, found sha256"):
        load_run_model(run)
    path.write_bytes(content[:-1])
    with pytest.raises(IntegrityError, match=r"model\.keras: damaged, found [\d,]+ bytes"):
        load_run_model(run)


def test_prediction_of_a_blank_picture_says_so_and_whose_model_it_is_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(saved(model(), tmp_path), tmp_path)
    Image.new("L", (50, 70), 255).save(tmp_path / "blank.png")
    command = ["predict", "--run", "one", "--artifacts", run.store.location, str(tmp_path / "blank.png")]

    assert cli.main(command) == 0
    shown = capsys.readouterr()
    assert "  note: one flat colour: nothing was found on it" in shown.out.splitlines()
    assert f"model of {run.location}, a train run finished {run.manifest().created}" in shown.err.splitlines()
    assert cli.main([*command, "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
    assert prediction["notes"] == ["one flat colour: nothing was found on it"]


def test_module_of_an_own_layer_is_imported_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("doubled_layer.py").write_text(OWN_LAYER)
    monkeypatch.syspath_prepend(tmp_path)
    import doubled_layer

    run = finished(saved(model(doubled_layer.Doubled()), tmp_path), tmp_path, builder="doubled_layer:build")
    # As in a process that has not built the model.
    registered = keras.saving.get_custom_objects()
    monkeypatch.delitem(registered, "fmnist-tests>Doubled")
    monkeypatch.delitem(sys.modules, "doubled_layer")
    assert load_run_model(run).output_shape == (None, 10)
    assert f"importing doubled_layer ({tmp_path}/doubled_layer.py)" in capsys.readouterr().err

    monkeypatch.delitem(registered, "fmnist-tests>Doubled")
    monkeypatch.delitem(sys.modules, "doubled_layer")
    Path("doubled_layer.py").unlink()
    with pytest.raises(RunError, match=r"needs fmnist-tests>Doubled of module doubled_layer, not importable"):
        load_run_model(run)
