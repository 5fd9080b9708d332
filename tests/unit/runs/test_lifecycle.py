"""What a job finds in the folder of its run: nothing, something to go on from, or a run that has finished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fmnist.errors import LeaseError, RunError
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import begin_run, open_run
from fmnist.storage import FolderStore
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import train

CHECKPOINT = "checkpoints/epoch-0001/variables.npz"
SNAPSHOT = "checkpoints/checkpoint_manager_snapshot.json"


def config(artifacts: Path, **more: object) -> TrainConfig:
    return TrainConfig(artifacts=str(artifacts), run_id="one", **more)  # type: ignore[arg-type]


def contents(run: RunFolder) -> dict[str, bytes]:
    return {path: run.get_bytes(path) for path in run.files()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def begin(settings: TrainConfig, finish: bool = False) -> None:
    """Begins a run as a job does, and finishes it or not."""
    with open_run("train", settings) as opened:
        begin_run(opened, settings, {})
        opened.folder.put_bytes(CHECKPOINT, b"the run's")
        if finish:
            opened.folder.put_bytes("report.html", b"the run's")
            opened.folder.finish("train")


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run of the default settings that has finished."""
    begin(config(tmp_path), finish=True)
    return RunFolder(FolderStore(tmp_path), "one")


def test_finished_run_is_refused(finished: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="finished already"), open_run("train", config(tmp_path)):
        pass


def test_finished_run_is_left_alone_where_it_may_be_skipped(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)

    assert train(config(tmp_path, skip_finished=True, workers=2)).run_id == "one"

    assert "run one in" in capsys.readouterr().out
    assert contents(finished) == before


def test_finished_run_of_other_settings_is_not_taken_for_done(finished: RunFolder, tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="started with epochs 30, found 3"),
        open_run("train", config(tmp_path, skip_finished=True, epochs=3)),
    ):
        pass


@pytest.mark.parametrize("epochs", [2, 4, 31])
def test_unfinished_training_may_end_with_the_epochs_that_it_has_and_with_no_other_number(
    tmp_path: Path, epochs: int
) -> None:
    begin(config(tmp_path))
    run = RunFolder(FolderStore(tmp_path), "one")
    for epoch in (2, 3):
        run.put_bytes(f"checkpoints/epoch-{epoch:04d}/history.json", b"[]")

    with open_run("train", config(tmp_path, epochs=3)) as opened:
        assert opened.is_resumed
    with (
        pytest.raises(RunError, match=f"started with epochs 30, found {epochs}"),
        open_run("train", config(tmp_path, epochs=epochs)),
    ):
        pass


def test_a_run_goes_on_with_the_gpus_that_it_was_started_with(tmp_path: Path) -> None:
    begin(config(tmp_path, gpus_per_worker=0))

    # Not given is auto, which is what the run has.
    with open_run("train", config(tmp_path)) as opened:
        assert opened.is_resumed
    with (
        pytest.raises(RunError, match="started with gpus_per_worker 0, found 1"),
        open_run("train", config(tmp_path, gpus_per_worker=1)),
    ):
        pass


def test_a_setting_that_the_run_of_an_earlier_version_lacks_had_its_default(tmp_path: Path) -> None:
    begin(config(tmp_path))
    run = RunFolder(FolderStore(tmp_path), "one")
    lines = run.get_bytes("config.yaml").decode().splitlines(keepends=True)
    run.put_bytes("config.yaml", "".join(line for line in lines if "deterministic" not in line).encode())

    with open_run("train", config(tmp_path)) as opened:
        assert opened.is_resumed
    with (
        pytest.raises(RunError, match="started with deterministic False, found True"),
        open_run("train", config(tmp_path, deterministic=True)),
    ):
        pass


def test_unfinished_run_is_gone_on_from_where_finished_ones_are_skipped(tmp_path: Path) -> None:
    begin(config(tmp_path))

    with open_run("train", config(tmp_path, skip_finished=True)) as opened:
        assert opened.is_resumed and not opened.done


def test_overwriting_and_skipping_exclude_each_other(tmp_path: Path) -> None:
    both = replace(config(tmp_path), overwrite=True, skip_finished=True)

    with pytest.raises(RunError, match="overwrite, skip_finished: found both"), open_run("train", both):
        pass


def test_opening_without_writing_leaves_nothing(tmp_path: Path) -> None:
    with open_run("train", config(tmp_path)) as opened:
        assert opened.folder.state() == "absent"

    assert list(tmp_path.iterdir()) == []


def test_finished_run_has_nothing_of_its_lease(finished: RunFolder, tmp_path: Path) -> None:
    assert names(tmp_path / "one") == {
        *("config.yaml", "data.json", "environment.json", "checkpoints", "report.html"),
        "manifest.json",
    }


@pytest.mark.parametrize(
    "progress",
    [SNAPSHOT, "trials/0003/state.json", "folds/fresh-0002/outcome.json", "phases/vgg16-frozen/outcome.json"],
)
def test_finished_run_stays_whole_until_its_successor_has_a_checkpoint(
    finished: RunFolder, tmp_path: Path, progress: str
) -> None:
    before = contents(finished)
    other = config(tmp_path, overwrite=True, epochs=3)
    with open_run("train", other) as opened:
        suffix = opened.checkpoint_suffix
        begin_run(opened, other, {"new": 1})
        opened.folder.put_bytes("checkpoints/.validate_storage_marker", b"")
        opened.folder.put_bytes(f"checkpoints/epoch-0001{suffix}/variables.npz", b"its successor's")
        assert finished.verify() == [problem for problem in finished.verify() if problem.is_note]
        assert {path: content for path, content in contents(finished).items() if path in before} == before

        opened.folder.put_bytes(progress, b"{}")
        opened.folder.put_bytes("history.csv", b"a result")

    assert finished.state() == "unfinished" and finished.exists(progress)
    assert b"epochs: 3" in finished.get_bytes("config.yaml")
    assert not {"report.html", CHECKPOINT, "replaced.json"} & set(finished.files())
    assert f"checkpoints/epoch-0001{suffix}/variables.npz" in finished.files()


def test_overwriting_that_ends_at_once_costs_nothing(finished: RunFolder, tmp_path: Path) -> None:
    other = config(tmp_path, overwrite=True, epochs=3)
    with pytest.raises(KeyboardInterrupt), open_run("train", other) as opened:
        begin_run(opened, other, {})
        raise KeyboardInterrupt

    assert finished.verify() == []


def test_what_an_overwriting_has_left_is_not_gone_on_from(finished: RunFolder, tmp_path: Path) -> None:
    finished.put_bytes(SNAPSHOT, b"of a killed one")
    other = config(tmp_path, overwrite=True, epochs=3)

    with open_run("train", other) as opened:
        begin_run(opened, other, {})
        assert not opened.folder.exists(SNAPSHOT)


def test_replacing_that_was_killed_is_completed(finished: RunFolder, tmp_path: Path) -> None:
    manifest = finished.get_bytes("manifest.json")
    other = config(tmp_path, overwrite=True, epochs=3)
    with open_run("train", other) as opened:
        begin_run(opened, other, {})
        opened.folder.put_bytes("history.csv", b"a result")
    # As if it had been killed between the new run's first files and the removal of the old one's.
    finished.put_bytes("replaced.json", manifest)
    finished.put_bytes("report.html", b"the old run's")

    begin(config(tmp_path, epochs=3))

    assert not finished.exists("report.html") and not finished.exists("replaced.json")


def test_linked_run_is_refused_before_anything_of_it_is_touched(finished: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    (tmp_path / "one").symlink_to(tmp_path / "elsewhere")
    other = config(tmp_path, overwrite=True)

    with pytest.raises(RunError, match=r"cannot be replaced: .* is a link"), open_run("train", other) as opened:
        begin_run(opened, other, {})

    assert finished.verify() == []


def test_run_that_another_process_finishes_meanwhile_is_not_removed(tmp_path: Path) -> None:
    skipping = config(tmp_path, skip_finished=True)
    begin(config(tmp_path))
    with pytest.raises(LeaseError), open_run("train", skipping) as opened:
        # Whoever finished it had no lease, such as an earlier version.
        RunFolder(FolderStore(tmp_path), "one").finish("train")
        begin_run(opened, skipping, {})
        opened.folder.finish("train")

    assert RunFolder(FolderStore(tmp_path), "one").state() == "finished"


def test_unfinished_run_that_cannot_be_removed_is_refused_before_anything_of_it_is_touched(tmp_path: Path) -> None:
    begin(config(tmp_path))
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    (tmp_path / "one").symlink_to(tmp_path / "elsewhere")
    before = contents(RunFolder(FolderStore(tmp_path), "elsewhere"))
    other = config(tmp_path, overwrite=True, seed=9)

    with pytest.raises(RunError, match=r"cannot be replaced: .* is a link"), open_run("train", other) as opened:
        begin_run(opened, other, {})

    assert contents(RunFolder(FolderStore(tmp_path), "elsewhere")).keys() >= before.keys()
