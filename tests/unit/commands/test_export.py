"""Exported models run where they are for, and predict what the run's model does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fmnist import cli, data
from fmnist.models.factory import build
from fmnist.options import settings_yaml
from fmnist.runs import CONFIG, MODEL, RunFolder
from fmnist.storage import FolderStore
from fmnist.training.export import LIBRARIES, Format

FORMATS: tuple[Format, ...] = ("onnx", "litert", "savedmodel")
INSTALLED = {kind: all(importlib.util.find_spec(name) for name in LIBRARIES[kind]) for kind in FORMATS}


def needs(kind: Format) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not INSTALLED[kind], reason=f"{', '.join(LIBRARIES[kind])} not installed: fmnist[{kind}]")


@pytest.fixture(scope="module")
def dataset(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    return data.load(str(small_data), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def trained(dataset: data.Dataset, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose model has learnt a little, so that its probabilities are not all the same."""
    folder = tmp_path_factory.mktemp("artifacts")
    model = build("lenet5", None, learning_rate=1e-3, seed=0, precision="float32").model
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(dataset.train.pixels, dataset.train.labels, epochs=2, verbose=0)
    return finished(folder, "one", model, small_data)


def finished(folder: Path, run_id: str, model: keras.Model, small_data: Path) -> RunFolder:
    run = RunFolder(FolderStore(folder), run_id)
    model.save(folder / MODEL)
    run.put_bytes(MODEL, (folder / MODEL).read_bytes())
    run.put_bytes(CONFIG, settings_yaml({"data": str(small_data), "seed": 0, "model": "lenet5"}).encode())
    run.finish("train")
    return run


def export(run: RunFolder, output: Path, *arguments: str) -> int:
    where = ["--artifacts", run.store.location, "--run", run.run_id, "--output", str(output)]
    return cli.main(["export", *where, *arguments])


def run_onnx(path: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert given.type == "tensor(uint8)" and given.shape[1:] == [28, 28] and answer.shape[1:] == [10]
    probabilities: np.ndarray = session.run(None, {given.name: pixels})[0]
    return probabilities


def run_litert(path: Path, pixels: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == np.uint8 and list(given["shape"]) == [1, 28, 28]
    rows = []
    for image in pixels:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(answer["index"])[0])
    return np.stack(rows)


def run_savedmodel(path: Path, pixels: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    (answer,) = tf.saved_model.load(path).signatures["serving_default"](images=tf.constant(pixels)).values()
    return np.asarray(answer)


RUNTIMES = {"onnx": run_onnx, "litert": run_litert, "savedmodel": run_savedmodel}
FILES = {"onnx": "one.onnx", "litert": "one.tflite", "savedmodel": "one-savedmodel"}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in FORMATS])
def test_exported_file_predicts_raw_images_as_the_run_does(
    kind: Format, trained: RunFolder, dataset: data.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(trained, tmp_path, "--to", kind) == 0

    out = capsys.readouterr().out
    assert f"{tmp_path / FILES[kind]}: " in out and "on 500 test images: accuracy " in out
    found = RUNTIMES[kind](tmp_path / FILES[kind], dataset.test.pixels[:50])
    model = keras.saving.load_model(Path(trained.store.location, MODEL))
    np.testing.assert_allclose(found, model.predict(dataset.test.pixels[:50], verbose=0), atol=1e-5)
    figures = json.loads((tmp_path / f"{FILES[kind]}.json").read_text())
    assert figures["accuracy"] == figures["run_accuracy"] > 0.5 and figures["other_class"] == 0
    assert figures["greatest_difference"] < 1e-5 and figures["milliseconds"] > 0 and figures["images"] == 500
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILES[kind], f"{FILES[kind]}.json"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in ("onnx", "litert")])
def test_int8_is_a_quarter_of_the_size_and_nearly_as_accurate(
    kind: Format, trained: RunFolder, dataset: data.Dataset, tmp_path: Path
) -> None:
    assert export(trained, tmp_path, "--to", kind, "--quantize", "int8") == 0

    file = tmp_path / FILES[kind].replace("one", "one-int8")
    figures = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert figures["bytes"] == file.stat().st_size < 600_000
    assert figures["accuracy"] > figures["run_accuracy"] - 0.02 and figures["quantize"] == "int8"
    assert 0 < figures["greatest_difference"] < 0.5
    found = RUNTIMES[kind](file, dataset.test.pixels[:50])
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=0.05)


def test_export_that_is_there_is_kept_unless_overwritten(
    trained: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / FILES["savedmodel"]
    target.mkdir()
    (target / "mine").write_text("")

    assert export(trained, tmp_path, "--to", "savedmodel") == 2
    assert "exists already" in capsys.readouterr().err and (target / "mine").exists()
    assert export(trained, tmp_path, "--to", "savedmodel", "--overwrite") == 0
    assert not (target / "mine").exists() and (target / "saved_model.pb").exists()


def test_missing_library_is_one_line_that_says_what_to_install(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find("numpy"))

    assert export(trained, tmp_path / "new", "--to", "onnx") == 2

    error = capsys.readouterr().err
    assert "onnx needs tf2onnx: pip install tf2onnx, or fmnist[onnx]" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "savedmodel", "--quantize", "int8"], "expected onnx or litert"),
        (["--to", "coreml"], "invalid choice"),
        (["--to", "savedmodel", "--run", "none"], "none: no such run"),
    ],
)
def test_wrong_request_writes_nothing(
    arguments: list[str], message: str, trained: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(trained, tmp_path / "new", *arguments) == 2

    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not INSTALLED["litert"], reason="ai_edge_litert not installed: fmnist[litert]")
def test_model_that_a_format_has_no_operations_for_leaves_no_file(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = keras.Input((28, 28), dtype="uint8")
    pixels = keras.ops.cast(images, "float32")
    inner = keras.ops.fft2((pixels, pixels))[0]
    answer = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(inner))
    run = finished(tmp_path, "one", keras.Model(images, answer), small_data)

    assert export(run, tmp_path / "new", "--to", "litert") == 1

    error = capsys.readouterr().err.splitlines()
    assert f"{run.location}/{MODEL}: cannot be exported to litert: " in error[-1]
    assert list((tmp_path / "new").iterdir()) == []
