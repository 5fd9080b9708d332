"""TensorBoard's event files, read back with TensorBoard's own reader: each epoch once, whatever was killed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tracked_runs import PNG, begun, cross_validated, put_epochs, put_state, searched, trained

from fmnist import cli
from fmnist.errors import IntegrityError, RunError
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore, Store
from fmnist.tracking.records import read_run
from fmnist.tracking.tracker import beside, open_tracker, send

Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def quick_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard as it is where TensorFlow is not installed, which takes ten seconds to import."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))


def accumulated(folder: Path) -> Any:
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0}).Reload()


def curves(folder: Path) -> Curves:
    """Returns step and value of the scalars in a folder's event files, by tag, in the order of the files."""
    shown = accumulated(folder)
    found: Curves = {}
    for tag in shown.Tags()["tensors"]:
        if shown.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found[tag] = [(e.step, round(float(e.tensor_proto.float_val[0]), 6)) for e in shown.Tensors(tag)]
    return found


def track(run: RunFolder, target: Path) -> None:
    """As a new process would."""
    send(read_run(run), open_tracker("tensorboard", str(target)))


@pytest.fixture
def runs(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "artifacts")


def test_curves_of_a_finished_run_have_each_epoch(runs: FolderStore, tmp_path: Path) -> None:
    track(trained(runs, epochs=3), tmp_path / "logs")

    shown = curves(tmp_path / "logs/train-1")
    assert shown["val_accuracy"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert shown["images_per_second"] == [(1, 100), (2, 200), (3, 300)]
    assert set(shown) >= {"loss", "accuracy", "val_loss", "learning_rate"}
    assert shown["test_accuracy"] == [(3, 0.91)]


def test_figures_of_the_mistakes_are_images_and_there_is_no_graph(runs: FolderStore, tmp_path: Path) -> None:
    track(trained(runs), tmp_path / "logs")

    shown = accumulated(tmp_path / "logs/train-1")
    for name in ("confusion_matrix", "worst_mistakes"):
        width, height, png = shown.Tensors(name)[0].tensor_proto.string_val
        assert (width, height, png) == (b"3", b"2", PNG)
    assert not shown.Tags()["graph"]


def test_resumed_run_continues_its_curve_with_each_step_once(runs: FolderStore, tmp_path: Path) -> None:
    run = begun(runs, "train-1")
    track(run, tmp_path / "logs")
    for epochs in (1, 3, 3, 4):
        put_epochs(run, epochs)
        track(run, tmp_path / "logs")
    track(trained(runs, epochs=5), tmp_path / "logs")
    track(run, tmp_path / "logs")

    assert curves(tmp_path / "logs/train-1")["val_accuracy"] == [(n, n / 10) for n in range(1, 6)]
    names = sorted(path.name for path in (tmp_path / "logs/train-1").iterdir())
    assert [name.split(".first.")[1] for name in names] == [
        *("1-epochs-000001-000001", "1-epochs-000002-000003", "1-epochs-000004-000004", "1-epochs-000005-000005"),
        "2-end",
    ]


def test_run_that_replaces_another_replaces_its_curves(runs: FolderStore, tmp_path: Path) -> None:
    run = trained(runs, epochs=5)
    track(run, tmp_path / "logs")
    run.remove()
    (tmp_path / "logs/train-1/notes.txt").write_text("of the user")

    track(trained(runs, epochs=2, identity="second"), tmp_path / "logs")

    assert [step for step, _ in curves(tmp_path / "logs/train-1")["loss"]] == [1, 2]
    assert (tmp_path / "logs/train-1/notes.txt").exists()


def test_trial_that_was_trained_beyond_what_counts_is_written_anew(runs: FolderStore, tmp_path: Path) -> None:
    run = begun(runs, "tune-1")
    put_state(run, "trials/0002", 3, {"activation": "tanh"})
    track(run, tmp_path / "logs")

    track(searched(runs), tmp_path / "logs")

    assert [step for step, _ in curves(tmp_path / "logs/tune-1/trial-0002")["loss"]] == [1]


def test_trials_are_rows_of_hparams_with_the_metric_val_accuracy(runs: FolderStore, tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    track(searched(runs), tmp_path / "logs")

    def session(trial: int) -> dict[str, Any]:
        shown = accumulated(tmp_path / f"logs/tune-1/trial-{trial:04d}")
        content = shown.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        values = metadata.parse_session_start_info_plugin_data(content).hparams
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}

    assert session(1) == {"filters": 8, "activation": "relu"}
    # A hyper-parameter that the trial does not use is none of it.
    assert session(2) == {"activation": "tanh"}
    assert curves(tmp_path / "logs/tune-1/trial-0001")["val_accuracy"] == [(1, 0.1), (2, 0.2)]
    assert curves(tmp_path / "logs/tune-1")["val_accuracy"][-1] == (3, 0.3)


def test_unfinished_search_shows_its_trials_and_its_retraining(runs: FolderStore, tmp_path: Path) -> None:
    run = begun(runs, "tune-1")
    put_state(run, "trials/0001", 2, {"activation": "relu"})
    put_epochs(run, 1)

    track(run, tmp_path / "logs")

    assert curves(tmp_path / "logs/tune-1/trial-0001")["loss"] == [(1, 1.0), (2, 0.5)]
    assert curves(tmp_path / "logs/tune-1")["loss"] == [(1, 1.0)]


def test_folds_have_curves_and_their_held_out_accuracy(runs: FolderStore, tmp_path: Path) -> None:
    unfinished = begun(runs, "crossval-1")
    put_state(unfinished, "folds/fresh-0002", 1)
    track(unfinished, tmp_path / "logs")

    track(cross_validated(runs), tmp_path / "logs")

    shown = curves(tmp_path / "logs/crossval-1/fold-fresh-0002")
    assert [step for step, _ in shown["val_loss"]] == [1, 2]
    assert shown["held_out_accuracy"] == [(2, 0.82)]
    assert curves(tmp_path / "logs/crossval-1")["held_out_accuracy"] == [(0, 0.815)]


def test_phases_of_an_unfinished_transfer_have_curves(runs: FolderStore, tmp_path: Path) -> None:
    run = begun(runs, "transfer-1")
    put_epochs(run, 2, "checkpoints/vgg16-frozen")
    put_epochs(run, 1, "checkpoints/vgg16-fine-tuned")
    track(run, tmp_path / "logs")

    assert len(curves(tmp_path / "logs/transfer-1/vgg16-frozen")["loss"]) == 2
    assert len(curves(tmp_path / "logs/transfer-1/vgg16-fine-tuned")["loss"]) == 1


def test_event_files_beside_the_runs_are_no_runs_and_no_files_of_theirs(store: Store) -> None:
    run = trained(store)

    send(read_run(run), open_tracker("tensorboard", beside(store.location)))

    assert run.verify() == []
    assert store.folders("tensorboard") == ["train-1"]
    with pytest.raises(RunError, match="all runs of a store share"):
        RunFolder(store, "tensorboard")


def test_command_tracks_runs_beside_them_and_says_what_it_sent(
    runs: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(runs), searched(runs)

    code = cli.main(["runs", "track", "--artifacts", runs.location, "train-1", "tune-1", "--to", "tensorboard"])

    assert code == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{runs.location}/train-1: finished, 3 epochs"
    assert (tmp_path / "artifacts/tensorboard/tune-1/trial-0001").is_dir()


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (["tensorboard", "a", "b"], "found tensorboard a b, expected tensorboard, tensorboard DIR, or mlflow"),
        (["wandb"], "found wandb, expected tensorboard or mlflow"),
    ],
)
def test_command_refuses_what_is_no_tracker(
    runs: FolderStore, to: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(runs)

    assert cli.main(["runs", "track", "--artifacts", runs.location, "train-1", "--to", *to]) == 2
    assert expected in capsys.readouterr().err


def test_damaged_document_is_an_error_in_one_line(runs: FolderStore, tmp_path: Path) -> None:
    run = begun(runs, "tune-1")
    run.put_bytes("trials/0001/state.json", b'{"rows": [{"loss": NaN}]}')

    with pytest.raises(IntegrityError, match=r"trials/0001/state\.json: damaged"):
        track(run, tmp_path / "logs")
