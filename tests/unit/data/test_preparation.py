"""Laws of cleaning, sampling and splitting, and the data summary."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from data_files import some_images
from fuzzing import examples
from hypothesis import assume, given
from hypothesis import strategies as st

from fmnist.config import JobConfig
from fmnist.data import (
    CLASS_NAMES,
    LABELS,
    CleaningCounts,
    DataSource,
    Images,
    PixelStatistics,
    TableHead,
    clean,
    split,
    take,
)
from fmnist.data.preparation import Loaded
from fmnist.errors import DataError

DISTINCT = some_images(4, seed=5)


@st.composite
def images_with_repeats(draw: st.DrawFn) -> Images:
    """Images of which many equal another in pixels, and some of those in the label as well."""
    chosen = draw(st.lists(st.integers(0, 3), max_size=12))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(chosen), max_size=len(chosen)))
    return Images(DISTINCT.pixels[np.array(chosen, int)], np.array(labels, np.uint8))


@st.composite
def images_of_some_classes(draw: st.DrawFn) -> Images:
    """Images with at least 5 of each class present; pixel (0, 0) to (0, 1) numbers them."""
    counts = draw(st.lists(st.one_of(st.just(0), st.integers(5, 30)), min_size=10, max_size=10))
    assume(any(counts))
    labels = np.repeat(np.arange(10), counts).astype(np.uint8)
    return Images(numbered(len(labels)), labels)


def numbered(count: int) -> np.ndarray:
    pixels = np.zeros((count, 28, 28), np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = np.divmod(np.arange(count), 256)
    return pixels


def numbers(images: Images) -> list[int]:
    return (images.pixels[:, 0, 0].astype(int) * 256 + images.pixels[:, 0, 1]).tolist()


@given(images_with_repeats())
def test_cleaning_keeps_what_pandas_drop_duplicates_keeps(images: Images) -> None:
    frame = pd.DataFrame(np.column_stack([images.labels, images.pixels.reshape(len(images), 784)]))
    expected = frame.drop_duplicates().to_numpy()
    kept, counts = clean(images)
    assert np.array_equal(kept.labels, expected[:, 0])
    assert np.array_equal(kept.pixels.reshape(-1, 784), expected[:, 1:])
    assert counts == CleaningCounts(len(images), 0, len(images) - len(expected), len(expected))


@given(images_with_repeats())
def test_cleaning_twice_changes_nothing(images: Images) -> None:
    kept, _ = clean(images)
    again, counts = clean(kept)
    assert again is kept
    assert counts.duplicates == 0


def test_same_picture_with_another_label_is_no_duplicate() -> None:
    pixels = DISTINCT.pixels[[0, 0, 0]]
    kept, counts = clean(Images(pixels, np.array([1, 2, 1], np.uint8)))
    assert kept.labels.tolist() == [1, 2]
    assert counts == CleaningCounts(rows=3, nulls=0, duplicates=1, kept=2)


@given(images_of_some_classes(), st.integers(0, 2**32 - 1))
def test_split_is_a_stratified_partition(images: Images, seed: int) -> None:
    train, val = split(images, val_fraction=0.2, seed=seed)
    assert sorted(numbers(train) + numbers(val)) == numbers(images)
    assert len(val) == int(np.ceil(0.2 * len(images)))
    for count, count_in_val in zip(images.class_counts(), val.class_counts(), strict=True):
        # The share is that of val in all images, a little above 0.2 where val's size was rounded up.
        assert abs(count_in_val - count * len(val) / len(images)) < 1
    for part in (train, val):
        assert np.array_equal(part.labels, images.labels[numbers(part)]), "labels stay with their pixels"


@examples(20)
@given(images_of_some_classes(), st.integers(0, 1000))
def test_split_depends_on_the_seed_alone(images: Images, seed: int) -> None:
    def parts(seed: int) -> list[list[int]]:
        return [numbers(part) for part in split(images, seed=seed)]

    assert parts(seed) == parts(seed)
    # Few images have few splits, and two seeds may give the same one.
    assert any(parts(seed + step) != parts(seed) for step in range(1, 11))


def test_split_of_the_study_has_its_sizes() -> None:
    images = Images(numbered(59_957), (np.arange(59_957) % 10).astype(np.uint8))
    assert [len(part) for part in split(images, seed=0)] == [47_965, 11_992]


@pytest.mark.parametrize(
    ("labels", "val_fraction", "said"),
    [
        ([0, 0, 1], 0.5, "found 1 image of label 1, expected at least 2"),
        ([0, 0, 1, 1, 2, 2], 0.2, "found 4 for train and 2 for val, expected at least 3 in each"),
        ([0, 0, 1, 1, 2, 2], 0.9, "found 0 for train"),
        ([0, 0, 1, 1], 0.0, "val_fraction: found 0.0"),
        ([0, 0, 1, 1], 1.0, "val_fraction: found 1.0"),
        ([0, 0, 1, 1], float("nan"), "val_fraction: found nan"),
        ([], 0.2, "split of 0 images"),
    ],
)
def test_split_without_enough_images_is_refused(labels: list[int], val_fraction: float, said: str) -> None:
    images = Images(numbered(len(labels)), np.array(labels, np.uint8))
    with pytest.raises(DataError, match=said):
        split(images, val_fraction=val_fraction, seed=0)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000))
def test_take_is_the_beginning_of_one_shuffled_order(few: int, more: int, seed: int) -> None:
    few, more = sorted((few, more))
    images = Images(numbered(50), np.zeros(50, np.uint8))
    order = numbers(take(images, 50, seed))
    assert sorted(order) == list(range(50))
    assert numbers(take(images, few, seed)) == order[:few]
    assert numbers(take(images, more, seed)) == order[:more]


def test_take_shuffles_by_seed_and_takes_all_without_a_count() -> None:
    images = Images(numbered(50), np.zeros(50, np.uint8))
    assert take(images, None, seed=0) is images
    assert numbers(take(images, 10, seed=0)) != numbers(take(images, 10, seed=1))
    with pytest.raises(DataError, match="limit: found 0"):
        take(images, 0, seed=0)


def test_summary_is_the_data_json_of_a_run() -> None:
    images = some_images(100)
    cleaned, train_cleaning = clean(Images(images.pixels[[0, *range(100)]], images.labels[[0, *range(100)]]))
    test, test_cleaning = clean(some_images(20, seed=1))
    train, val = split(take(cleaned, 60, seed=3), seed=3)
    source = DataSource("data", "idx", {"train-images-idx3-ubyte": "c59f"}, False, LABELS)
    pixels = PixelStatistics(127.0, 127.5, 0, 255)
    loaded = Loaded(cleaned, test, source, train_cleaning, test_cleaning, 2, pixels, TableHead.of(images))
    result = loaded.summary(JobConfig(seed=3, val_fraction=0.2, limit=60), {"train": train, "val": val, "test": test})
    counts, head = result.pop("class_counts"), json.loads(json.dumps(result.pop("head")))
    first = images.pixels.reshape(100, 784)[:5]
    assert head["columns"] == ["label", *(f"pixel{place}" for place in (1, 2, 3, 4, 781, 782, 783, 784))]
    assert head["rows"] == [[label, *row[:4], *row[-4:]] for label, row in enumerate(first.tolist())]
    assert json.loads(json.dumps(result)) == {
        "location": "data",
        "format": "idx",
        "official": False,
        "class_names": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        "sha256": {"train-images-idx3-ubyte": "c59f"},
        "train": {"rows": 101, "nulls": 0, "duplicates": 1, "kept": 100},
        "test": {"rows": 20, "nulls": 0, "duplicates": 0, "kept": 20},
        "overlap": 2,
        "pixels": {"border": 127.0, "mean": 127.5, "low": 0, "high": 255},
        "limit": 60,
        "split": {"train": 48, "val": 12, "seed": 3, "val_fraction": 0.2},
    }
    assert {part: sum(of_part) for part, of_part in counts.items()} == {"train": 48, "val": 12, "test": 20}
    assert counts["test"] == [2] * 10


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (np.zeros((2, 784), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.uint8)),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64)),
    ],
)
def test_images_of_other_shapes_or_types_are_a_bug(pixels: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Images(pixels, labels)


def test_there_are_ten_class_names() -> None:
    assert len(set(CLASS_NAMES)) == 10
