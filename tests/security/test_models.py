"""A model.keras or a checkpoint of somebody else's is data: nothing in it is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from fmnist.errors import RunError
from fmnist.training import checkpoint
from fmnist.training.inference import load_model


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that exists as soon as code of the model has run."""
    return tmp_path / "sprung"


def saved(model: keras.Model, folder: Path) -> Path:
    path = folder / "model.keras"
    model.save(path)
    return path


def with_layer(path: Path, layer: dict[str, object]) -> None:
    """Puts a layer's description in the place of the last one's in a saved model."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["layers"][-1] = layer
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_code_in_a_model_is_refused_in_one_line(tmp_path: Path, trap: Path) -> None:
    # A lambda of Python travels as its bytecode.
    touch = eval(f"lambda x: __import__('pathlib').Path({str(trap)!r}).touch() or x")
    path = saved(keras.Sequential([keras.Input((10,)), keras.layers.Lambda(touch)]), tmp_path)
    keras.saving.load_model(path, compile=False, safe_mode=False)
    assert trap.exists(), "what the model of this test would do"
    trap.unlink()

    with pytest.raises(RunError, match=r"^model\.keras: ") as error:
        load_model(path)

    assert "\n" not in str(error.value) and not trap.exists()


@pytest.mark.parametrize(
    ("module", "name"), [("subprocess", "check_output"), ("os", "system"), ("builtins", "eval"), ("pty", "spawn")]
)
def test_model_that_names_a_function_of_python_is_refused(tmp_path: Path, trap: Path, module: str, name: str) -> None:
    path = saved(keras.Sequential([keras.Input((10,)), keras.layers.Dense(10)]), tmp_path)
    with_layer(
        path, {"module": module, "class_name": name, "registered_name": name, "config": {"args": f"touch {trap}"}}
    )

    with pytest.raises((RunError, TypeError)):
        load_model(path)

    assert not trap.exists()


def test_pickled_objects_in_a_checkpoint_are_refused(tmp_path: Path, trap: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trap,)

    np.savez(tmp_path / checkpoint.VARIABLES, allow_pickle=True, **{"model/0": np.array([Trap()], dtype=object)})

    with pytest.raises(ValueError, match="allow_pickle=False"):
        checkpoint.restore(tmp_path, keras.Sequential([keras.Input((10,)), keras.layers.Dense(10)]))

    assert not trap.exists()
