"""Where a data set is read from: folders of both kinds, single files, and the ways of ``auto``."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from data_files import idx_images, idx_labels, some_images, write_csv_folder, write_idx_folder

from fmnist.data import OFFICIAL_SHA256, Dataset, check_source, default_cache, load, official
from fmnist.errors import DataError

TRAIN = some_images(20, seed=1)
TEST = some_images(10, seed=2)
CONTENTS = {
    "train-images-idx3-ubyte": idx_images(TRAIN),
    "train-labels-idx1-ubyte": idx_labels(TRAIN),
    "t10k-images-idx3-ubyte": idx_images(TEST),
    "t10k-labels-idx1-ubyte": idx_labels(TEST),
}


def assert_is_train_and_test(dataset: Dataset) -> None:
    assert np.array_equal(dataset.train.pixels, TRAIN.pixels)
    assert np.array_equal(dataset.train.labels, TRAIN.labels)
    assert np.array_equal(dataset.test.pixels, TEST.pixels)
    assert np.array_equal(dataset.test.labels, TEST.labels)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("write", [write_idx_folder, write_csv_folder])
def test_folder_of_either_kind_is_read(tmp_path: Path, write: object, compress: bool) -> None:
    folder = write(tmp_path / "data", TRAIN, TEST, compress)  # type: ignore[operator]
    dataset = load(str(folder), cache=tmp_path / "cache")
    assert_is_train_and_test(dataset)
    assert dataset.source.location == str(folder)
    assert dataset.source.format == ("idx" if write is write_idx_folder else "csv")
    assert not dataset.source.official
    assert not (tmp_path / "cache").exists(), "nothing was fetched"


def test_sums_are_those_of_the_decompressed_files(tmp_path: Path) -> None:
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    for compress in (True, False):
        folder = write_idx_folder(tmp_path / str(compress), TRAIN, TEST, compress)
        assert load(str(folder), cache=tmp_path).source.sha256 == expected


def test_idx_names_with_dots_are_read(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "data", TRAIN, TEST, compress=False)
    for name in CONTENTS:
        (folder / name).rename(folder / name.replace("-idx", ".idx"))
    dataset = load(str(folder), cache=tmp_path)
    assert_is_train_and_test(dataset)
    assert list(dataset.source.sha256) == list(CONTENTS)


def test_idx_is_read_where_a_folder_has_both(tmp_path: Path) -> None:
    write_csv_folder(write_idx_folder(tmp_path / "data", TRAIN, TEST), TEST, TRAIN)
    dataset = load(str(tmp_path / "data"), cache=tmp_path)
    assert dataset.source.format == "idx"
    assert_is_train_and_test(dataset)


def test_csv_train_file_is_read_with_its_sibling(tmp_path: Path) -> None:
    folder = write_csv_folder(tmp_path / "training" / "data", TRAIN, TEST)
    (folder / "fashion-mnist_train.csv").rename(folder / "training_train_1.csv")
    (folder / "fashion-mnist_test.csv").rename(folder / "training_test_1.csv")
    dataset = load(str(folder / "training_train_1.csv"), cache=tmp_path)
    assert_is_train_and_test(dataset)
    assert list(dataset.source.sha256) == ["training_train_1.csv", "training_test_1.csv"]


def test_own_data_is_not_taken_for_the_published(tmp_path: Path) -> None:
    assert not load(str(write_idx_folder(tmp_path / "idx", TRAIN, TEST)), cache=tmp_path).source.official
    assert not load(str(write_csv_folder(tmp_path / "csv", TRAIN, TEST)), cache=tmp_path).source.official


def test_source_is_checked_without_reading_its_files(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "idx", TRAIN, TEST)
    for file in folder.iterdir():
        file.write_bytes(b"")
    check_source(str(folder))
    check_source("auto")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    for location in (str(folder), str(tmp_path / "none"), str(tmp_path / "none.csv")):
        with pytest.raises(DataError, match=f"^{location}: ") as raised:
            check_source(location)
        with pytest.raises(DataError) as again:
            load(location, cache=tmp_path)
        assert str(again.value) == str(raised.value)


def test_cache_is_in_the_home_folder_unless_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FMNIST_CACHE", raising=False)
    assert default_cache() == tmp_path / ".cache" / "fmnist"
    monkeypatch.setenv("FMNIST_CACHE", str(tmp_path / "elsewhere"))
    assert default_cache() == tmp_path / "elsewhere"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The small data set is the published one, no way leads to it, and each test opens those it needs."""
    for name, content in CONTENTS.items():
        monkeypatch.setitem(OFFICIAL_SHA256, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(official, "DEBIAN_FOLDER", tmp_path / "not-installed")
    # A port that nothing listens on.
    monkeypatch.setattr(official, "DOWNLOAD_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(official.shutil, "which", lambda _name: None)


@pytest.mark.usefixtures("published")
def test_auto_reads_a_prepared_cache_without_a_step(tmp_path: Path) -> None:
    cache = write_idx_folder(tmp_path / "cache", TRAIN, TEST)
    steps: list[str] = []
    dataset = load("auto", cache=cache, progress=steps.append)
    assert_is_train_and_test(dataset)
    assert dataset.source.official
    assert steps == []


@pytest.mark.usefixtures("published")
def test_auto_takes_the_installed_package_and_leaves_a_prepared_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "DEBIAN_FOLDER", write_idx_folder(tmp_path / "installed", TRAIN, TEST))
    assert_is_train_and_test(load("auto", cache=tmp_path / "cache"))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(f"{name}.gz" for name in CONTENTS)
    monkeypatch.setattr(official, "DEBIAN_FOLDER", tmp_path / "not-installed")
    assert_is_train_and_test(load("auto", cache=tmp_path / "cache"))


@pytest.mark.usefixtures("published")
def test_auto_fills_a_damaged_cache_anew_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = write_idx_folder(tmp_path / "cache", TRAIN, some_images(10, seed=3))
    damaged = cache / "t10k-images-idx3-ubyte.gz"
    monkeypatch.setattr(official, "DEBIAN_FOLDER", write_idx_folder(tmp_path / "installed", TRAIN, TEST))
    steps: list[str] = []
    assert_is_train_and_test(load("auto", cache=cache, progress=steps.append))
    assert "damaged" in steps[0]
    assert f"{damaged}: checksum mismatch: found sha256 " in steps[0]
    assert OFFICIAL_SHA256["t10k-images-idx3-ubyte"] in steps[0]
    steps.clear()
    load("auto", cache=cache, progress=steps.append)
    assert steps == []


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves a folder over HTTP; yields its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.usefixtures("published")
def test_auto_downloads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(write_idx_folder(tmp_path / "served", TRAIN, TEST)) as address:
        monkeypatch.setattr(official, "DOWNLOAD_URL", address)
        assert_is_train_and_test(load("auto", cache=tmp_path / "cache"))


@pytest.mark.usefixtures("published")
def test_auto_never_accepts_a_download_with_other_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(write_idx_folder(tmp_path / "served", TRAIN, some_images(10, seed=3))) as address:
        monkeypatch.setattr(official, "DOWNLOAD_URL", address)
        with pytest.raises(DataError, match=r"; download: .*t10k-images-idx3-ubyte\.gz: checksum mismatch"):
            load("auto", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("published")
def test_auto_continues_when_the_download_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(official, "DOWNLOAD_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DataError, match=r"download: .*timed out.*no apt-get"):
            load("auto", cache=tmp_path / "cache")


@pytest.mark.usefixtures("published")
def test_auto_that_fails_says_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load("auto", cache=tmp_path / "cache")
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    for part in ("not-installed", "Connection refused", "no apt-get on this machine", "--data DIR"):
        assert part in message
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("published")
def test_auto_never_accepts_fetched_files_with_other_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = write_idx_folder(tmp_path / "installed", TRAIN, some_images(10, seed=3))
    monkeypatch.setattr(official, "DEBIAN_FOLDER", installed)
    with pytest.raises(DataError) as raised:
        load("auto", cache=tmp_path / "cache")
    found = hashlib.sha256(idx_images(some_images(10, seed=3))).hexdigest()
    expected = OFFICIAL_SHA256["t10k-images-idx3-ubyte"]
    said = f"{installed}/t10k-images-idx3-ubyte.gz: checksum mismatch: found sha256 {found}, expected {expected}"
    assert said in str(raised.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("published")
def test_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "DEBIAN_FOLDER", write_idx_folder(tmp_path / "installed", TRAIN, TEST))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .* set FMNIST_CACHE"):
        load("auto", cache=tmp_path / "file" / "cache")
