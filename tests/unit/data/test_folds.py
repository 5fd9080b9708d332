"""Laws of folds: disjoint, complete, stratified, and stopped by images that are not held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.data import Images, folds
from fmnist.errors import DataError


def images_of(counts: list[int]) -> Images:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)
    return Images(np.zeros((len(labels), 28, 28), np.uint8), labels)


# Enough of every class that is present.
IMAGES = st.lists(st.one_of(st.just(0), st.integers(20, 45)), min_size=10, max_size=10).filter(any).map(images_of)
COUNTS, VAL_FRACTIONS, SEEDS = st.integers(2, 10), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 1000)


@given(IMAGES, COUNTS, VAL_FRACTIONS, SEEDS)
def test_each_fold_uses_every_image_once(images: Images, count: int, val_fraction: float, seed: int) -> None:
    found = folds(images, count, val_fraction=val_fraction, seed=seed)

    assert [fold.number for fold in found] == list(range(1, count + 1))
    for fold in found:
        together = np.concatenate([fold.train, fold.val, fold.held_out])
        assert sorted(together) == list(range(len(images)))


@given(IMAGES, COUNTS, VAL_FRACTIONS, SEEDS)
def test_every_image_is_held_out_in_one_fold(images: Images, count: int, val_fraction: float, seed: int) -> None:
    found = folds(images, count, val_fraction=val_fraction, seed=seed)

    assert sorted(np.concatenate([fold.held_out for fold in found])) == list(range(len(images)))


@given(IMAGES, COUNTS, VAL_FRACTIONS, SEEDS)
def test_every_fold_has_its_share_of_each_class(images: Images, count: int, val_fraction: float, seed: int) -> None:
    of_class = np.array(images.class_counts())

    for fold in folds(images, count, val_fraction=val_fraction, seed=seed):
        held_out = np.bincount(images.labels[fold.held_out], minlength=10)
        assert (np.abs(held_out - of_class / count) <= 1).all()
        rest = len(images) - len(fold.held_out)
        assert len(fold.val) == np.ceil(val_fraction * rest)
        val = np.bincount(images.labels[fold.val], minlength=10)
        # The share is that of val in what is not held out, a little above val_fraction where val's size was rounded up.
        assert (np.abs(val - (of_class - held_out) * len(fold.val) / rest) < 1).all()


def test_folds_follow_from_the_seed() -> None:
    images = images_of([30] * 10)

    def held_out(seed: int) -> list[list[int]]:
        return [fold.held_out.tolist() for fold in folds(images, 5, val_fraction=0.1, seed=seed)]

    assert held_out(1) == held_out(1) != held_out(2)


def test_training_images_of_a_fold_are_shuffled() -> None:
    images = images_of([30] * 10)

    train = folds(images, 5, val_fraction=0.1, seed=0)[0].train

    assert train.tolist() != sorted(train)


@pytest.mark.parametrize(
    ("counts", "count", "val_fraction", "message"),
    [
        ([30, 9], 10, 0.1, r"10 folds of 39 images: found 9 of label 1, expected at least 10, one for every fold"),
        ([30, 30], 1, 0.1, r"folds: found 1, expected at least 2"),
        ([30, 30], 2, 1.0, r"val_fraction: found 1.0, expected above 0 and below 1"),
        ([2, 2], 2, 0.5, r"split of 2 images: found 1 image of label 0, expected at least 2 of each"),
        ([10] * 10, 2, 0.1, r"split of 50 images: found 45 for train and 5 for val, expected at least 10 in each"),
    ],
)
def test_too_few_images_are_one_line(counts: list[int], count: int, val_fraction: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        folds(images_of(counts), count, val_fraction=val_fraction, seed=0)
