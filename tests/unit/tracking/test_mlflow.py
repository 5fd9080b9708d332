"""A run in MLflow, read back with MLflow's client: one of MLflow's runs for each of ours, whatever was killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tracked_runs import begun, cross_validated, finish, put_epochs, put_state, searched, trained

from fmnist import cli
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.tracking.mlflow import _named
from fmnist.tracking.records import read_run
from fmnist.tracking.tracker import open_tracker, send

mlflow = pytest.importorskip("mlflow", reason="no mlflow: install the extra `mlflow` for the tests against MLflow")


@pytest.fixture(autouse=True)
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of an MLflow folder of the test; or that of a server, which `MLFLOW_TEST_URI` has, in a test's own experiment."""
    uri = os.environ.get("MLFLOW_TEST_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri


@pytest.fixture
def runs(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "artifacts")


def track(run: RunFolder) -> None:
    """As a new process would."""
    send(read_run(run), open_tracker("mlflow", ""))


def shown() -> dict[str, Any]:
    """Returns MLflow's runs by name; fails if two have one."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    found = list(client.search_runs([experiment.experiment_id]))
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def curve(run: Any, name: str) -> list[tuple[int, float]]:
    return sorted(
        (one.step, round(one.value, 6)) for one in mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
    )


def test_finished_run_has_its_settings_epochs_scores_and_tags(runs: FolderStore) -> None:
    run = trained(runs, epochs=3)
    run_before = run.files()

    track(run)

    found = shown()["train-1"]
    assert found.data.params == {"seed": "0", "learning_rate": "0.001"}
    assert curve(found, "val_accuracy") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert curve(found, "test.accuracy") == [(3, 0.91)]
    assert found.data.tags["fmnist.sha256.train"] == "a1"
    assert found.data.tags["fmnist.location"] == run.location
    assert found.info.status == "FINISHED"
    assert run.files() == run_before


def test_resumed_run_is_one_of_mlflow_with_each_epoch_once(runs: FolderStore) -> None:
    run = begun(runs, "train-1")
    for epochs in (1, 3, 3):
        put_epochs(run, epochs)
        track(run)
    assert shown()["train-1"].info.status == "RUNNING"
    finish(run, "train", 4, best_epoch=4)

    track(run)
    track(run)

    assert curve(shown()["train-1"], "loss") == [(1, 1.0), (2, 0.5), (3, 0.333333), (4, 0.25)]


def test_run_that_replaces_another_is_a_new_one(runs: FolderStore) -> None:
    run = trained(runs, epochs=2)
    track(run)
    run.remove()

    track(trained(runs, epochs=2, identity="second"))

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_trials_are_children_with_their_hyperparameters(runs: FolderStore) -> None:
    unfinished = begun(runs, "tune-1")
    put_state(unfinished, "trials/0002", 3, {"activation": "tanh"})
    track(unfinished)

    track(searched(runs))

    found = shown()
    parent, first, second, failed = (found[f"tune-1{name}"] for name in ("", *(f" trial-000{n}" for n in (1, 2, 3))))
    assert first.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert first.data.params == {"filters": "8.0", "activation": "relu"}
    # It was trained beyond the epoch that the search decided on.
    assert curve(second, "loss") == [(1, 1.0)]
    assert [one.info.status for one in (parent, first, failed)] == ["FINISHED", "FINISHED", "FAILED"]


@given(st.dictionaries(st.text(), st.integers(), max_size=5))
@example({"a$\\frac": 1, "a__frac": 2, "a%_frac": 3, "": 4, "..": 5, "a/../b": 6, "a//b": 7, "/": 8, "n" * 300: 9})
@example({"²": 1, "٣": 2, "é": 3, "x\n": 4, "a:b": 5})
def test_any_name_of_a_hyperparameter_becomes_one_that_mlflow_takes(values: dict[str, int]) -> None:
    named = _named(values)

    assert list(named.values()) == list(values.values())
    for name in named:
        assert mlflow.utils.validation._validate_param(name, "1").key == name
        mlflow.utils.validation._validate_metric_name(name)


def test_trial_with_names_that_mlflow_refuses_is_there_with_all_its_hyperparameters(runs: FolderStore) -> None:
    run = begun(runs, "tune-1")
    put_state(run, "trials/0001", 1, {"a$\\frac": 1, "a%_frac": 2, "plain": 3})

    track(run)
    track(run)

    assert shown()["tune-1 trial-0001"].data.params == {"a__frac": "1", "a__frac_2": "2", "plain": "3"}


def test_folds_are_children_with_their_held_out_accuracy(runs: FolderStore) -> None:
    track(cross_validated(runs))

    found = shown()
    fold = found["crossval-1 fold-fresh-0002"]
    assert fold.data.tags["mlflow.parentRunId"] == found["crossval-1"].info.run_id
    assert curve(fold, "held_out_accuracy") == [(2, 0.82)]
    assert curve(found["crossval-1"], "held_out.accuracy") == [(0, 0.815)]


def test_stages_become_children_of_their_pipeline(runs: FolderStore) -> None:
    track(trained(runs, "p-train-lenet5", identity="stage"))
    pipeline = begun(runs, "p", "whole")
    stages = [{"run_id": "p-train-lenet5", "status": "finished"}, {"run_id": "p-tune", "status": "failed"}]
    finish(pipeline, "pipeline", stages=stages)

    track(pipeline)

    found = shown()
    assert found["p-train-lenet5"].data.tags["mlflow.parentRunId"] == found["p"].info.run_id
    assert set(found) == {"p", "p-train-lenet5"}


def test_model_is_loaded_by_mlflow(runs: FolderStore, tmp_path: Path) -> None:
    import keras
    import numpy as np

    inputs = keras.Input((28, 28), dtype="uint8")
    outputs = keras.layers.Dense(10, activation="softmax")(
        keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    )
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    run = begun(runs, "train-1")
    run.put_file(tmp_path / "model.keras", "model.keras")
    finish(run, "train", 1, best_epoch=1)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)

    track(run)

    uri = f"runs:/{shown()['train-1'].info.run_id}/model"
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(mlflow.pyfunc.load_model(uri).predict(images), expected, rtol=1e-6)
    np.testing.assert_allclose(mlflow.keras.load_model(uri).predict(images, verbose=0), expected, rtol=1e-6)


def test_server_that_is_away_is_an_error_in_one_line_without_its_password(
    runs: FolderStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trained(runs)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:hidden-password@127.0.0.1:9")

    code = cli.main(["runs", "track", "--artifacts", runs.location, "train-1", "--to", "mlflow"])

    output = "".join(capfd.readouterr())
    assert code == 1
    assert "fmnist: MLflow: " in output
    assert "Traceback" not in output
    assert "hidden-password" not in output
