"""The published data set itself, obtained as ``make train`` obtains it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import csv_rows, csv_text

from fmnist.data import OFFICIAL_SHA256, Dataset, Images, clean, load, official, split


@pytest.fixture(scope="module")
def dataset(official_cache: Path) -> Dataset:
    return load("auto", cache=official_cache)


def test_published_data_has_its_sizes_and_balance(dataset: Dataset) -> None:
    assert dataset.train.pixels.shape == (60_000, 28, 28)
    assert dataset.test.pixels.shape == (10_000, 28, 28)
    assert dataset.train.class_counts() == [6_000] * 10
    assert dataset.test.class_counts() == [1_000] * 10


def test_published_data_is_recognised_by_its_sums(official_cache: Path, dataset: Dataset) -> None:
    assert dataset.source.official
    assert dataset.source.sha256 == OFFICIAL_SHA256
    assert load(str(official_cache), cache=official_cache).source.official


def test_published_data_has_no_duplicates(dataset: Dataset) -> None:
    for images in (dataset.train, dataset.test):
        kept, counts = clean(images)
        assert kept is images
        assert (counts.nulls, counts.duplicates) == (0, 0)


def test_duplicates_of_the_published_size_are_found(dataset: Dataset) -> None:
    # The study's table: 43 of 60,000 rows repeat another.
    order = np.random.default_rng(0).permutation(np.r_[np.arange(59_957), np.arange(43)])
    kept, counts = clean(dataset.train.select(order))
    assert (counts.duplicates, counts.kept) == (43, 59_957)
    assert [len(part) for part in split(kept, seed=0)] == [47_965, 11_992]


def test_csv_of_the_published_images_gives_the_same_images(dataset: Dataset, tmp_path: Path) -> None:
    some = Images(dataset.test.pixels[:2_000], dataset.test.labels[:2_000])
    for half in ("train", "test"):
        (tmp_path / f"fashion-mnist_{half}.csv").write_bytes(csv_text(csv_rows(some)))
    read = load(str(tmp_path), cache=tmp_path)
    assert np.array_equal(read.train.pixels, some.pixels)
    assert np.array_equal(read.train.labels, some.labels)
    assert not read.source.official


def test_flipped_byte_in_the_cache_is_found(
    official_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = shutil.copytree(official_cache, tmp_path / "cache") / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(official, "DEBIAN_FOLDER", official_cache)
    steps: list[str] = []
    assert load("auto", cache=tmp_path / "cache", progress=steps.append).source.official
    assert str(damaged) in steps[0]
    assert damaged.read_bytes() == (official_cache / damaged.name).read_bytes()


def test_apt_route_needs_no_package_lists_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fresh container `apt-get download` fails until lists are fetched: we fetch them into a folder of our own."""
    if not shutil.which("apt-get"):
        pytest.skip("no apt-get on this machine")
    run = official._run
    commands = []

    def without_lists(folder: Path, *command: str) -> None:
        commands.append(command)
        if len(commands) == 1:
            raise official._NotObtainedError("Unable to locate package")
        run(folder, *command)

    monkeypatch.setattr(official, "_run", without_lists)
    try:
        folder = official._download_with_apt(tmp_path, print)
    except official._NotObtainedError as error:
        pytest.skip(f"no package archive is reachable: {error}")
    assert {f"{name}.gz" for name in OFFICIAL_SHA256} <= {path.name for path in folder.iterdir()}
