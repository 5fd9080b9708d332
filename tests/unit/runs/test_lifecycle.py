"""What a job finds in the folder of its run: nothing, something to go on from, or a run that has finished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fmnist.errors import RunError
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import begin_run, is_done, open_run
from fmnist.storage import FolderStore
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.train.job import train


def config(artifacts: Path, **more: object) -> TrainConfig:
    return TrainConfig(artifacts=str(artifacts), run_id="one", **more)  # type: ignore[arg-type]


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run of the default settings that has finished."""
    run = RunFolder(FolderStore(tmp_path), "one")
    begin_run(run, config(tmp_path), {})
    run.finish("train")
    return run


def test_finished_run_is_refused(finished: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="finished already"):
        open_run("train", config(tmp_path))


def test_finished_run_is_left_alone_where_it_may_be_skipped(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: finished.get_bytes(path) for path in finished.files()}
    skipping = config(tmp_path, skip_finished=True, workers=2)

    assert is_done(open_run("train", skipping), skipping)
    assert train(skipping).run_id == "one"

    assert "run one in" in capsys.readouterr().out
    assert {path: finished.get_bytes(path) for path in finished.files()} == before


def test_finished_run_of_other_settings_is_not_taken_for_done(finished: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="started with epochs 30, found 3"):
        open_run("train", config(tmp_path, skip_finished=True, epochs=3))


@pytest.mark.parametrize("epochs", [2, 4, 31])
def test_unfinished_training_may_end_with_the_epochs_that_it_has_and_with_no_other_number(
    tmp_path: Path, epochs: int
) -> None:
    run = RunFolder(FolderStore(tmp_path), "one")
    begin_run(run, config(tmp_path), {})
    for epoch in (2, 3):
        run.put_bytes(f"checkpoints/epoch-{epoch:04d}/history.json", b"[]")

    assert open_run("train", config(tmp_path, epochs=3)).run_id == "one"
    with pytest.raises(RunError, match=f"started with epochs 30, found {epochs}"):
        open_run("train", config(tmp_path, epochs=epochs))


def test_unfinished_run_is_gone_on_from_where_finished_ones_are_skipped(tmp_path: Path) -> None:
    skipping = config(tmp_path, skip_finished=True)
    begin_run(RunFolder(FolderStore(tmp_path), "one"), config(tmp_path), {})

    assert not is_done(open_run("train", skipping), skipping)


def test_overwriting_and_skipping_exclude_each_other(tmp_path: Path) -> None:
    both = replace(config(tmp_path), overwrite=True, skip_finished=True)

    with pytest.raises(RunError, match="overwrite, skip_finished: found both"):
        open_run("train", both)
