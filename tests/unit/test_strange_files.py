"""What is read from outside: a file of any kind in any place is one line that names it, and never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_files import some_images, write_csv_folder, write_idx_folder
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from library_errors import LINES, SECRET, of_mlflow
from PIL import Image

from fmnist import cli, data
from fmnist.data import files
from fmnist.runs import CONFIG, DATA, METRICS, MODEL, RunFolder
from fmnist.storage import FolderStore

METRICS_CONTENT = {
    "job": "train", "model": "lenet5", "finished": "2026-11-23T18:45:00Z", "seconds": {"total": 61.5},
    "test": {"accuracy": 0.91, "accuracy_low": 0.9, "accuracy_high": 0.92},
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with settings, data of both forms, a picture, and a store of one run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text("epochs: 1\ndata: nowhere\n")
    train, test = some_images(40), some_images(10, seed=1)
    write_idx_folder(tmp_path / "idx", train, test)
    write_csv_folder(tmp_path / "csv", train, test)
    for folder in ("idx", "csv"):
        (tmp_path / folder / "classes.txt").write_text("\n".join("abcdefghij"))
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "array.npy").write_bytes(b"")
    run = RunFolder(FolderStore(tmp_path / "artifacts"), "one")
    run.put_bytes(CONFIG, b"data: idx\nmodel: lenet5\n")
    run.put_json(METRICS, METRICS_CONTENT)
    run.put_json(DATA, {"official": True})
    run.put_bytes(MODEL, b"no model")
    run.finish("train")
    return tmp_path


# A file of each reader, and a command that reads it.
READERS: dict[str, list[str]] = {
    "settings.yaml": ["train", "--config", "settings.yaml"],
    "idx/train-images-idx3-ubyte.gz": ["data", "info", "--data", "idx"],
    "idx/t10k-labels-idx1-ubyte.gz": ["data", "info", "--data", "idx"],
    "idx/classes.txt": ["data", "info", "--data", "idx"],
    "csv/fashion-mnist_test.csv": ["data", "info", "--data", "csv"],
    "picture.png": ["predict", "--run", "one", "picture.png"],
    "array.npy": ["predict", "--run", "one", "array.npy"],
    "artifacts/one/manifest.json": ["runs", "show", "one"],
    "artifacts/one/metrics.json": ["runs", "compare", "one", "one"],
    "artifacts/one/config.yaml": ["runs", "show", "one"],
}


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


KINDS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00\x80" * 20),
    "of a later version": lambda path: path.write_text(json.dumps({"schema": 99, "settings": None})),
    "absent": Path.unlink,
    "a folder": as_folder,
    "a pipe": as_pipe,
    "endless": as_endless,
}


NOTHING_STRANGE = {
    ("idx/classes.txt", "absent"),
    ("artifacts/one/metrics.json", "of a later version"),
    ("artifacts/one/config.yaml", "of a later version"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_strange_file_is_one_line(name: str, kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    KINDS[kind](place / name)
    code = cli.main(READERS[name])

    error = capsys.readouterr().err
    # It need not be there; and these may have any names.
    if (name, kind) in NOTHING_STRANGE:
        assert code == 0
        return
    assert code in {1, 2}, error
    assert error.startswith("fmnist: ") and len(error.splitlines()) == 1, error
    folder, _, file = name.rpartition("/")
    assert file.removesuffix(".gz") in error or folder in error


@examples(60)
@given(name=st.sampled_from(sorted(READERS)), content=st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_any_bytes_are_at_most_one_line(
    name: str, content: bytes, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (place / name).read_bytes()
    (place / name).write_bytes(content)
    try:
        assert cli.main(READERS[name]) in {0, 1, 2}
    finally:
        (place / name).write_bytes(before)
    assert len(capsys.readouterr().err.splitlines()) <= 1


# Commands that read a store, and those that read images.
OF_STORE = [
    ["train", "--run-id", "new", "--data", "idx"],
    *([*command, "one"] for command in (["runs", "show"], ["runs", "verify"], ["runs", "logs"], ["audit"])),
    *(["runs", "list"], ["runs", "compare", "one", "one"], ["runs", "pull", "one", "--to", "pulled"]),
    *(["runs", "reproduce", "one"], ["runs", "track", "one", "--to", "tensorboard", "board"]),
    *(["evaluate", "--run", "one"], ["predict", "--run", "one", "picture.png"]),
    ["export", "--run", "one", "--to", "savedmodel"],
]
OF_IMAGES = [["data", "info", "--data", "idx"], ["audit", "--data", "idx"]]
PLACES = [
    *((FolderStore, name, command) for name in ("get_bytes", "size", "entries") for command in OF_STORE),
    *((data, "load", command) for command in OF_IMAGES),
]


@pytest.mark.parametrize(("owner", "name", "command"), PLACES, ids=lambda it: it if isinstance(it, str) else "")
def test_error_of_a_library_inside_a_command_is_one_line(
    owner: object,
    name: str,
    command: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("L", (28, 28)).save("picture.png")
    for error in (*LINES, of_mlflow()):
        thrown = []

        def throw(*_: object, error: Exception = error, thrown: list[Exception] = thrown, **__: object) -> None:
            thrown.append(error)
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, throw)
            code = cli.main(command)
        shown = capsys.readouterr()
        if not thrown:
            return
        assert SECRET not in shown.err + shown.out
        # One run that cannot be read is a row.
        if command == ["runs", "list"] and code == 0:
            assert shown.err == "" and shown.out.count("\n") == 2
            continue
        assert code in {1, 2}, (error, shown.err)
        assert shown.err.startswith("fmnist: ") and shown.err.count("\n") == 1, (error, shown.err)


@pytest.fixture
def stranger() -> Iterator[None]:
    """The test is another user for its duration, who may not read the files of this one."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["one", "one/manifest.json", "one/metrics.json"])
def test_private_run_is_a_row_of_the_list(
    what: str, place: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    shutil.copytree(place / "artifacts" / "one", place / "artifacts" / "two")
    for path in (place, *place.parents, place / "artifacts", *(place / "artifacts").rglob("*")):
        if "pytest" in str(path):
            path.chmod(0o755)
    (place / "artifacts" / what).chmod(0)
    request.getfixturevalue("stranger")
    assert cli.main(["runs", "list"]) == 0

    rows = {row[0]: row for row in (line.split("\t") for line in capsys.readouterr().out.splitlines()[1:])}
    assert rows["one"][2] == "unreadable" and "Permission denied" in rows["one"][7]
    assert rows["two"][2] == "finished"


def test_gzip_file_that_holds_more_than_its_header_promises_is_not_unpacked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = place / "idx" / "train-images-idx3-ubyte.gz"
    header = gzip.decompress(images.read_bytes())[:16]
    with gzip.open(images, "wb", 1) as file:
        file.write(header + bytes(200 * 2**20))

    assert cli.main(["data", "info", "--data", "idx"]) == 2
    error = capsys.readouterr().err
    assert "bytes after the end" in error
    found = int(error.partition("found ")[2].partition(" ")[0].replace(",", ""))
    assert found < 2**25


def test_compressed_csv_file_that_holds_more_than_it_may_is_not_unpacked(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "LARGEST_CONTENT", 2**20)
    table = place / "csv" / "fashion-mnist_train.csv"
    with gzip.open(f"{table}.gz", "wb", 1) as file:
        file.write(table.read_bytes() + b"0" * 2**21)
    table.unlink()

    assert cli.main(["data", "info", "--data", "csv"]) == 2
    expected = f"fmnist: csv/{table.name}.gz: found more than 1,048,576 bytes, expected at most as many\n"
    assert capsys.readouterr().err == expected


def test_list_of_a_folder_that_is_not_there_makes_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "list", "--artifacts", "artefacts"]) == 2
    assert "artefacts: no such folder" in capsys.readouterr().err
    assert not Path("artefacts").exists()
