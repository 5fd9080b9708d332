"""A run's folder, from the first file to pull and verify; on a folder and on a real S3 server."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from unittest.mock import ANY

import pytest
from s3_server import S3Server

from fmnist.errors import IntegrityError, RunError, StoreError
from fmnist.files import sha256_of
from fmnist.runs import (
    CHECKPOINTS,
    CONFIG,
    MANIFEST,
    METRICS,
    ManifestFile,
    Problem,
    Pulled,
    RunFolder,
    RunSummary,
    list_runs,
)
from fmnist.storage import Entry, FolderStore, S3Store, Store

METRICS_OF_A_RUN = {
    "job": "train",
    "test": {"accuracy": 0.91, "loss": 0.3},
    "finished": "2026-11-23T18:45:00Z",
    "seconds": {"total": 61.5},
}


@pytest.fixture
def run(store: Store, tmp_path: Path) -> RunFolder:
    """An unfinished run with files of every origin: memory, a local folder, and a checkpoint put there by Ray."""
    run = RunFolder(store, "train-1")
    run.put_bytes(CONFIG, b"epochs: 3\n")
    run.put_json(METRICS, METRICS_OF_A_RUN)
    local = tmp_path / "local"
    (local / "plots").mkdir(parents=True)
    (local / "plots" / "loss.png").write_bytes(b"image")
    (local / "report.html").write_text("<html>")
    run.put_folder(local)
    store.put_bytes("train-1/checkpoints/epoch_3/weights", b"0123456789")
    return run


def test_run_is_absent_then_unfinished_then_finished(store: Store) -> None:
    run = RunFolder(store, "train-1")
    assert run.state() == "absent"
    run.put_bytes(CONFIG, b"epochs: 3\n")
    assert run.state() == "unfinished"
    run.finish("train")
    assert run.state() == "finished"
    run.remove()
    assert run.state() == "absent"


def test_manifest_has_the_sum_of_every_file(run: RunFolder, tmp_path: Path) -> None:
    manifest = run.finish("train")
    assert run.manifest() == manifest
    assert (manifest.run_id, manifest.job) == ("train-1", "train")
    assert [file.path for file in manifest.files] == [
        "checkpoints/epoch_3/weights",
        CONFIG,
        METRICS,
        "plots/loss.png",
        "report.html",
    ]
    for file in manifest.files:
        run.get_file(file.path, tmp_path / "copy")
        assert file == ManifestFile(file.path, (tmp_path / "copy").stat().st_size, sha256_of(tmp_path / "copy"))


def test_run_that_another_process_continued_is_finished_with_all_files(run: RunFolder) -> None:
    resumed = RunFolder(run.store, run.run_id)
    resumed.put_bytes("history.csv", b"epoch\n")
    assert len(resumed.finish("train").files) == 6
    assert resumed.verify() == []


def test_folder_that_is_about_to_go_is_no_part_of_the_finished_run(run: RunFolder) -> None:
    run.put_bytes("trials/0001/state.json", b"{}")

    manifest = run.finish("tune", without=["trials"])
    run.store.delete_folder("train-1/trials")

    assert "checkpoints/epoch_3/weights" in {file.path for file in manifest.files}
    assert run.verify() == []


def test_finish_notices_a_file_that_was_lost_on_the_way(run: RunFolder) -> None:
    run.store.delete("train-1/report.html")
    with pytest.raises(IntegrityError, match=r"report.html: wrote 6 bytes, but the store has nothing"):
        run.finish("train")
    assert run.state() == "unfinished"


def test_intact_run_has_no_problems(run: RunFolder) -> None:
    run.finish("train")
    assert run.verify() == []


def test_verify_finds_a_flipped_byte_a_missing_a_cut_and_a_strange_file(run: RunFolder) -> None:
    run.finish("train")
    run.store.put_bytes("train-1/checkpoints/epoch_3/weights", b"012345678!")
    run.store.put_bytes("train-1/report.html", b"<htm")
    run.store.delete(f"train-1/{CONFIG}")
    run.store.put_bytes("train-1/notes.txt", b"mine")
    problems = run.verify()
    assert [(problem.path, problem.kind) for problem in problems] == [
        ("checkpoints/epoch_3/weights", "sha256"),
        (CONFIG, "missing"),
        ("notes.txt", "extra"),
        ("report.html", "size"),
    ]
    assert [problem for problem in problems if problem.is_note] == [
        Problem("notes.txt", "extra", "not in the manifest")
    ]


def test_pulled_folder_is_the_same_run(run: RunFolder, tmp_path: Path) -> None:
    run.finish("train")
    progress: list[tuple[str, bool]] = []
    pulled = run.pull(tmp_path / "copies" / "train-1", lambda file, fetched: progress.append((file.path, fetched)))
    copy = RunFolder(FolderStore(tmp_path / "copies"), "train-1")
    assert copy.manifest() == run.manifest()
    assert copy.verify() == []
    assert pulled == Pulled(fetched=5, bytes=sum(file.size for file in run.manifest().files), kept=0)
    assert progress == [(file.path, True) for file in run.manifest().files]


def test_second_pull_fetches_only_what_is_missing_or_different(run: RunFolder, tmp_path: Path) -> None:
    run.finish("train")
    run.pull(tmp_path / "copy")
    (tmp_path / "copy" / "report.html").write_text("<htm")
    (tmp_path / "copy" / CONFIG).unlink()
    (tmp_path / "copy" / "plots" / "loss.png").write_bytes(b"imagE")
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    fetched: list[str] = []
    run.pull(tmp_path / "copy", lambda file, new: fetched.append(file.path) if new else None)
    assert fetched == [CONFIG, "plots/loss.png", "report.html"]
    assert [str(problem) for problem in RunFolder(FolderStore(tmp_path), "copy").verify()] == [
        "notes.txt: not in the manifest"
    ]


def test_pull_of_a_damaged_file_is_refused_and_leaves_nothing_half_written(run: RunFolder, tmp_path: Path) -> None:
    run.finish("train")
    run.store.put_bytes("train-1/report.html", b"<HTML>")
    with pytest.raises(IntegrityError, match=r"report.html: damaged, found sha256 [0-9a-f]+, its manifest has"):
        run.pull(tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert names == {"weights", CONFIG, METRICS, "loss.png"}


@pytest.mark.parametrize("link", ["copy", "copy/plots"])
def test_pull_writes_through_no_link(run: RunFolder, tmp_path: Path, link: str) -> None:
    run.finish("train")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(elsewhere)
    with pytest.raises(StoreError, match=f"{link}: is a symbolic link, expected a folder"):
        run.pull(tmp_path / "copy")
    assert not list(elsewhere.iterdir())


def test_pull_fetches_no_file_of_another_size_than_the_manifest_says(run: RunFolder, tmp_path: Path) -> None:
    run.finish("train")
    run.store.put_bytes("train-1/report.html", b"<html>" + bytes(10_000))
    with pytest.raises(IntegrityError, match=r"report.html: damaged, found 10,006 bytes, its manifest has 6 bytes"):
        run.pull(tmp_path / "copy")


PULL_SLOWLY = """
import signal, sys
from collections.abc import Iterator
from pathlib import Path
from fmnist.runs import RunFolder; from fmnist.storage import open_store

def pause(file, fetched):
    print(file.path, flush=True)
    if file.path == "b":
        signal.pause()

RunFolder(open_store(sys.argv[1]), "run").pull(Path(sys.argv[2]), pause)
"""


def test_killed_pull_goes_on_where_it_was(store: Store, tmp_path: Path) -> None:
    run = RunFolder(store, "run")
    for name in "abcd":
        run.put_bytes(name, name.encode() * 1000)
    run.finish("train")
    copy = tmp_path / "copy"
    process = subprocess.Popen(
        [sys.executable, "-c", PULL_SLOWLY, store.location, str(copy)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["a\n", "b\n"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What a kill in the middle of a transfer leaves behind.
    (copy / "pull.fmnist-part" / "half").write_bytes(b"c" * 10)
    assert not (copy / MANIFEST).exists()

    store.delete("run/a")  # a pull that fetched the finished files again would fail now
    store.delete("run/b")
    assert run.pull(copy) == Pulled(fetched=2, bytes=2000, kept=2)
    assert sorted(path.name for path in copy.iterdir()) == ["a", "b", "c", "d", MANIFEST]
    assert RunFolder(FolderStore(tmp_path), "copy").verify() == []


def test_pull_into_a_place_that_cannot_be_written_is_one_line(run: RunFolder, tmp_path: Path) -> None:
    run.finish("train")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        run.pull(tmp_path / "file" / "copy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("found", ["another run", "damaged"])
def test_pull_into_the_folder_of_another_finished_run_is_refused_before_it_writes(
    run: RunFolder, tmp_path: Path, found: str
) -> None:
    run.finish("train")
    copy = RunFolder(FolderStore(tmp_path / "copies"), "train-1")
    copy.put_bytes(CONFIG, b"epochs: 9\n")
    copy.finish("train")
    if found == "damaged":
        copy.put_bytes(MANIFEST, b"{")
    before = {path: copy.get_bytes(path) for path in copy.files()}

    with pytest.raises(RunError, match=r"^\S+/train-1/manifest.json: of another finished run, .* by --to$"):
        run.pull(tmp_path / "copies" / "train-1")

    assert {path: copy.get_bytes(path) for path in copy.files()} == before
    assert sorted(path.name for path in (tmp_path / "copies/train-1").iterdir()) == [CONFIG, MANIFEST]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_pull_to_a_full_or_read_only_disk_names_the_destination(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run.finish("train")

    def fail(source: object, *_: object) -> None:
        raise OSError(number, os.strerror(number), str(source))

    def write(_: object, fileobj: IO[bytes], data: bytes, offset: int) -> None:
        if not isinstance(fileobj, io.BytesIO):
            raise OSError(number, os.strerror(number))
        fileobj.seek(offset)
        fileobj.write(data)

    monkeypatch.setattr("shutil.copyfile", fail)
    # Of what downloads from S3, in another thread.
    monkeypatch.setattr("s3transfer.download.IOWriteTask._main", write)
    with pytest.raises(StoreError) as caught:
        run.pull(tmp_path / "copy")

    assert str(caught.value).startswith(f"{tmp_path / 'copy'}: cannot be written: {os.strerror(number)}")
    assert run.store.location not in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "copy").iterdir())


def test_unfinished_and_unknown_runs_are_neither_pulled_nor_verified(run: RunFolder, tmp_path: Path) -> None:
    for action in (run.verify, lambda: run.pull(tmp_path / "copy")):
        with pytest.raises(RunError, match=r"train-1: unfinished run"):
            action()
    with pytest.raises(RunError, match=r"other: no such run"):
        RunFolder(run.store, "other").verify()


class CutStore:
    """A store that fails, as a killed process would, from the n-th change on."""

    def __init__(self, store: Store, changes: int) -> None:
        self._store = store
        self._left = changes

    def __getattr__(self, name: str) -> object:
        if name in {"put_file", "put_bytes", "put_version", "delete", "delete_folder"}:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        return getattr(self._store, name)


@pytest.mark.parametrize("changes", range(5))
def test_upload_that_is_cut_anywhere_is_not_a_finished_run(store: Store, changes: int) -> None:
    run = RunFolder(CutStore(store, changes), "run")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        for name in ("a", "b", "c", "d"):
            run.put_bytes(name, b"x")
        run.finish("train")
    assert RunFolder(store, "run").state() == ("absent" if changes == 0 else "unfinished")


class LaggingStore:
    """A store whose listings do not have anything yet."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        return iter(())


def test_listing_that_lags_behind_is_no_proof_of_absence(store: Store) -> None:
    run = RunFolder(LaggingStore(store), "run")  # type: ignore[arg-type]
    assert run.state() == "absent"
    for name in (CONFIG, "history.csv"):
        run.put_bytes(name, b"x")
    assert run.state() == "unfinished"

    run.finish("train")

    assert run.verify() == []
    assert RunFolder(store, "run").verify() == []


def test_checkpoint_that_a_worker_wrote_and_a_listing_lacks_is_part_of_the_run(store: Store, tmp_path: Path) -> None:
    run = RunFolder(LaggingStore(store), "run")  # type: ignore[arg-type]
    for name in ("removed", "weights"):
        RunFolder(store, "run").put_bytes(f"{CHECKPOINTS}/{name}", b"x")
        run.get_file(f"{CHECKPOINTS}/{name}", tmp_path / name)
    store.delete(f"run/{CHECKPOINTS}/removed")

    assert [file.path for file in run.finish("train").files] == [f"{CHECKPOINTS}/weights"]
    assert RunFolder(store, "run").verify() == []


def test_removal_that_is_cut_leaves_an_unfinished_run(run: RunFolder) -> None:
    run.finish("train")
    with pytest.raises(KeyboardInterrupt):
        RunFolder(CutStore(run.store, 1), run.run_id).remove()  # type: ignore[arg-type]
    assert run.state() == "unfinished"


def test_runs_are_listed_with_what_they_reached(run: RunFolder) -> None:
    store = run.store
    run.finish("train")
    RunFolder(store, "train-2").put_bytes(f"{CHECKPOINTS}/epoch_1/weights", b"")
    tune = RunFolder(store, "tune-1")
    tune.put_bytes(CONFIG, b"")
    tune.finish("tune")
    store.put_bytes(f"broken/{MANIFEST}", b"{")
    store.put_bytes("src/main.py", b"not a run")
    store.put_bytes("not a run/config.yaml", b"")
    assert list_runs(store) == [
        RunSummary("broken", None, "damaged", problem=ANY),
        RunSummary("train-1", "train", "finished", 0.91, "2026-11-23T18:45:00Z", 61.5),
        RunSummary("train-2", None, "unfinished"),
        RunSummary("tune-1", "tune", "finished"),
    ]


def test_store_without_runs_lists_none(store: Store) -> None:
    assert list_runs(store) == []


def test_json_of_a_run_is_read_back_and_damage_is_told(run: RunFolder) -> None:
    assert run.get_json(METRICS) == METRICS_OF_A_RUN
    run.put_bytes(METRICS, b"{")
    with pytest.raises(IntegrityError, match=r"metrics.json: damaged, not JSON"):
        run.get_json(METRICS)
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.put_json(METRICS, {"loss": float("nan")})


def test_credentials_are_in_no_file_log_or_error(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    store = S3Store(s3_bucket, "runs")
    with caplog.at_level(logging.INFO):
        run = RunFolder(store, "run")
        run.put_bytes(CONFIG, b"epochs: 3\n")
        run.finish("train")
        run.pull(tmp_path / "copy")
        seen = [repr(store), repr(list_runs(store)), json.dumps([str(problem) for problem in run.verify()])]
        for broken in (S3Store(s3_bucket + "-missing"), S3Store("not a bucket")):
            with pytest.raises(StoreError) as caught:
                broken.check()
            seen.append(str(caught.value))
    stored = [store.get_bytes(entry.key) for entry in store.entries()]
    copied = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(stored) == len(copied) == 2
    everything = b"".join([*stored, *copied, caplog.text.encode(), *map(str.encode, seen)])
    assert secret.encode() not in everything
    assert os.environ["AWS_ACCESS_KEY_ID"].encode() not in everything


def test_run_survives_a_restart_of_the_server(s3_server: S3Server, s3_bucket: str) -> None:
    run = RunFolder(S3Store(s3_bucket, "runs"), "run")
    run.put_bytes(CONFIG, b"epochs: 3\n")
    run.finish("train")
    s3_server.restart()
    assert run.verify() == []
