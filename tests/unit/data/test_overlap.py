"""Test images among the training images, names of classes, and how training images are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_files import some_images, write_csv_folder, write_idx_folder

from fmnist import cli
from fmnist.config import JobConfig
from fmnist.data import CLASS_NAMES, LABELS, Images, PixelStatistics, count_overlap, load
from fmnist.data.pictures import PreparedPicture, as_trained
from fmnist.data.preparation import prepare
from fmnist.errors import DataError

TRAIN, TEST = some_images(200), some_images(100, seed=1)


def leaking(count: int) -> Images:
    """Test images of which some are training images, with other labels."""
    pixels = TEST.pixels.copy()
    pixels[:count] = TRAIN.pixels[:count]
    return Images(pixels, TEST.labels)


@pytest.mark.parametrize("write", [write_idx_folder, write_csv_folder])
def test_test_images_among_the_training_images_are_refused_above_one_in_a_hundred(tmp_path: Path, write) -> None:
    write(tmp_path, TRAIN, leaking(2))
    config = JobConfig(data=str(tmp_path))
    with pytest.raises(DataError, match=r"found 2 of 100 test images among the training images, expected at most 1%"):
        prepare(config, print)
    assert prepare(replace(config, allow_overlap=True), print).summary["overlap"] == 2
    write(tmp_path, TRAIN, leaking(1))
    assert prepare(config, print).summary["overlap"] == 1


def test_overlap_is_counted_by_pixels_whatever_the_labels() -> None:
    assert [count_overlap(TRAIN, leaking(count)) for count in (0, 7, 100)] == [0, 7, 100]


def test_data_info_shows_the_overlap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_idx_folder(tmp_path, TRAIN, leaking(100))
    assert cli.main(["data", "info", "--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "overlap: 100 of the 100 test images equal a training image" in out
    assert "    label   pixel1   pixel2   pixel3   pixel4 ... pixel781 pixel782 pixel783 pixel784\n        0" in out
    assert cli.main(["data", "info", "--data", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overlap"] == 100


def test_names_are_for_the_published_files_or_from_a_file_beside_the_data(tmp_path: Path) -> None:
    write_idx_folder(tmp_path, TRAIN, TEST)
    dataset = load(str(tmp_path), cache=tmp_path)
    assert dataset.train.class_names == dataset.source.class_names == LABELS
    (tmp_path / "classes.txt").write_text("\n".join(f"digit {label}" for label in range(10)))
    dataset = load(str(tmp_path), cache=tmp_path)
    assert dataset.test.select(np.array([0])).class_names[3] == "digit 3"


@pytest.mark.parametrize("content", ["ab", "aabcdefghi", "abcdefghi\x1b", "abcdefghijk"])
def test_file_of_other_than_ten_printable_names_is_refused(content: str, tmp_path: Path) -> None:
    write_idx_folder(tmp_path, TRAIN, TEST)
    (tmp_path / "classes.txt").write_text("\n".join(content))
    with pytest.raises(DataError, match=r"classes\.txt: found \d+ names"):
        load(str(tmp_path), cache=tmp_path)


def test_official_names_stay(official_cache: Path) -> None:
    assert load("auto", cache=official_cache).test.class_names == CLASS_NAMES


@pytest.mark.parametrize(
    ("change", "light"), [(lambda x: x, False), (lambda x: 255 - x, True), (lambda x: x // 2, False)]
)
def test_picture_is_brought_to_what_the_training_images_are(change, light: bool) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[5:20, 5:20] = 200
    image[10, 10] = 255
    trained = PixelStatistics.of(change(image)[None])
    picture = PreparedPicture("a.png", image, "dark", (28, 28), ())

    assert trained.light_background is light
    np.testing.assert_allclose(as_trained(picture, trained).pixels.astype(int), change(image), atol=1)
