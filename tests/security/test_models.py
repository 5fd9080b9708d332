"""A model.keras or a checkpoint of somebody else's is data: nothing in it is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from fmnist.errors import IntegrityError, RunError
from fmnist.training import checkpoint
from fmnist.training.inference import load_strange_model


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that exists as soon as code of the model has run."""
    return tmp_path / "sprung"


def saved(model: keras.Model, folder: Path) -> Path:
    path = folder / "model.keras"
    model.save(path)
    return path


def replaced(path: Path, name: str, content: bytes) -> None:
    """Replaces a file in a saved model."""
    with zipfile.ZipFile(path) as archive:
        files = {each: archive.read(each) for each in archive.namelist()} | {name: content}
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in files.items():
            archive.writestr(each, text)


def with_layer(path: Path, layer: dict[str, object]) -> None:
    """Puts a layer's description in the place of the last one's in a saved model."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][-1] = layer
    replaced(path, "config.json", json.dumps(config).encode())


def test_code_in_a_model_is_refused_in_one_line(tmp_path: Path, trap: Path) -> None:
    # A lambda of Python travels as its bytecode.
    touch = eval(f"lambda x: __import__('pathlib').Path({str(trap)!r}).touch() or x")
    path = saved(keras.Sequential([keras.Input((10,)), keras.layers.Lambda(touch)]), tmp_path)
    keras.saving.load_model(path, compile=False, safe_mode=False)
    assert trap.exists(), "what the model of this test would do"
    trap.unlink()

    with pytest.raises(RunError, match=r"^model\.keras: ") as error:
        load_strange_model(path)

    assert "\n" not in str(error.value) and not trap.exists()


@pytest.mark.parametrize(
    ("module", "name"), [("subprocess", "check_output"), ("os", "system"), ("builtins", "eval"), ("pty", "spawn")]
)
def test_model_that_names_a_function_of_python_is_refused(tmp_path: Path, trap: Path, module: str, name: str) -> None:
    path = saved(keras.Sequential([keras.Input((10,)), keras.layers.Dense(10)]), tmp_path)
    with_layer(
        path, {"module": module, "class_name": name, "registered_name": name, "config": {"args": f"touch {trap}"}}
    )

    with pytest.raises(RunError, match=r"^model\.keras: ") as error:
        load_strange_model(path)

    assert "\n" not in str(error.value) and not trap.exists()


def test_model_that_claims_more_than_a_machine_has_is_refused(tmp_path: Path) -> None:
    path = saved(keras.Sequential([keras.Input((10,)), keras.layers.Dense(10)]), tmp_path)
    dense = keras.saving.serialize_keras_object(keras.layers.Dense(10**11, name="dense"))
    with_layer(path, dense)

    with pytest.raises(RunError, match=r"^model\.keras: .*found 1,100,000,000,000 parameters, expected at most"):
        load_strange_model(path)


def test_model_whose_weights_are_another_file_of_the_machine_is_refused(tmp_path: Path) -> None:
    path = saved(keras.Sequential([keras.Input((10,)), keras.layers.Dense(10)]), tmp_path)
    weights = tmp_path / "model.weights.h5"
    with h5py.File(weights, "w") as file:
        file.create_dataset("layers/dense/vars/0", (10, 10), "u1", external=[("/etc/passwd", 0, 100)])
    replaced(path, weights.name, weights.read_bytes())

    with pytest.raises(RunError, match=r"^model\.keras: .*in another file"):
        load_strange_model(path)


def test_pickled_objects_in_a_checkpoint_are_refused(tmp_path: Path, trap: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trap,)

    np.savez(tmp_path / checkpoint.VARIABLES, allow_pickle=True, **{"model/0": np.array([Trap()], dtype=object)})

    (tmp_path / checkpoint.HISTORY).write_text("[]")

    with pytest.raises(IntegrityError, match="allow_pickle=False"):
        checkpoint.restore(tmp_path, keras.Sequential([keras.Input((10,)), keras.layers.Dense(10)]))

    assert not trap.exists()
