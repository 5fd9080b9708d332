"""The check of a search's points, its two halves in processes of this test: no Ray is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from clock import Clock

from fmnist import waiting
from fmnist.distributed import spaces
from fmnist.errors import TrainingError
from fmnist.models import hyperparameters

MODULE = """
import keras
from keras import layers

@keras.saving.register_keras_serializable("mine")
class Scale(layers.Layer):
    def call(self, x):
        return x * 2.0

def build(hp):
    kind = hp.Choice("kind", ["scale", "lambda", "late", "raises", "wild"], default="scale")
    layer = Scale()
    if kind == "lambda":
        layer = layers.Lambda(lambda x: x * 2)
    if kind == "late":
        @keras.saving.register_keras_serializable("late")
        class Late(Scale):
            pass
        layer = Late()
    if kind == "raises":
        raise OSError("no such file")
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layer, layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.SGD(1e30 if kind == "wild" else 0.1), "sparse_categorical_crossentropy")
    return model
"""
KINDS = ("lambda", "late", "raises", "wild", "scale")
LOAD = """
import sys
from pathlib import Path
from fmnist.distributed.spaces import _load_problem
for file in sys.argv[1:]:
    print(_load_problem("of_points:build", Path(file).read_bytes()))
"""


def test_each_point_is_built_trained_saved_and_loaded_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_points.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(hyperparameters, "draw", lambda space, seed, trial: {"kind": KINDS[trial - 1]})

    found: dict[str, str] = {}
    builder = spaces._Builder("of_points:build", 0)
    for trial, kind in enumerate(KINDS, start=1):
        point, file = builder.random(trial)
        assert point.values == {"kind": kind}
        if point.problem is None:
            (tmp_path / kind).write_bytes(file)
            assert point.model_parameters == 7850
        else:
            found[kind] = point.problem
    saved = [kind for kind in KINDS if kind not in found]
    command = [sys.executable, "-c", LOAD, *(str(tmp_path / kind) for kind in saved)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True)
    found |= dict(zip(saved, loaded.stdout.splitlines(), strict=True))

    # That the wild one diverges is for its trial to find out.
    assert (found["scale"], found["wild"]) == ("None", "None")
    assert found["raises"] == "of_points:build: its model cannot be built, trained and saved: no such file"
    for kind in ("lambda", "late"):
        assert found[kind].startswith("of_points:build: its model cannot be saved and loaded again: ")


@pytest.mark.parametrize("hanging", ["builder", "loader"])
def test_builder_or_loader_that_hangs_in_a_mocked_ray_is_given_up_with_a_line(
    hanging: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()

    def wait(references: list[str], timeout: float) -> tuple[list[str], list[str]]:
        clock.now += timeout
        return ([], references) if references == [hanging] else (references, [])

    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(spaces, "free", lambda: "0 of 2 CPUs free")
    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda reference: (spaces.Point({}), b"a model"))
    points = object.__new__(spaces.Points)
    points._name = "mine:build"
    points._loader = SimpleNamespace(problem=SimpleNamespace(remote=lambda file: "loader"))

    what = "a process to build, train and load a model of mine:build; 0 of 2 CPUs free"
    with pytest.raises(TrainingError, match=f"gave up after 15 min .*: {what}; call its function in Python alone"):
        points._loaded(["builder"])
    assert capsys.readouterr().out.startswith(f"still waiting after 1 min 00 s: {what}\n")


def test_points_of_the_packages_own_spaces_cost_no_build() -> None:
    builder = spaces._Builder("notebook", 0)
    points = [builder.random(trial) for trial in range(1, 101)]

    assert builder.first(None)[1] == b""
    assert {(point.problem, point.model_parameters, file) for point, file in points} == {(None, None, b"")}
    assert len({str(point.values) for point, _ in points}) == 100


def test_parameters_of_a_points_model_are_counted_if_asked_for() -> None:
    from fmnist.models.factory import build

    point, _ = spaces._Builder("notebook", 0, counted=True).random(1)

    model = build("notebook", point.values, learning_rate=0.1, seed=0, precision="float32").model
    assert point.model_parameters == model.count_params() > 0
