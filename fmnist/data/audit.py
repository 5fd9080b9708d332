"""What makes an accuracy on a data set unreliable: images more than once, within a part or across parts or splits."""

from __future__ import annotations

from dataclasses import dataclass

from fmnist.data.cleaning import clean, count_overlap
from fmnist.data.types import Dataset

DUPLICATES = "duplicates among the {part} images"
OVERLAP = "test images among the training images"
SPLIT = "another split of the published images"


@dataclass(frozen=True)
class Check:
    """One thing that an audit looks for, and what it found.

    Attributes:
        name: of the check.
        found: whether it found something; None if it could not be checked.
        count: of what was found: images, folds, epochs or trials.
        text: the finding in one sentence.
    """

    name: str
    found: bool | None
    count: int
    text: str


def audit_data(dataset: Dataset, published: Dataset | None) -> list[Check]:
    """Counts the images that a data set has more than once.

    Args:
        dataset: as `fmnist.data.load` returns it.
        published: the published Fashion-MNIST, to compare with; None if it could not be obtained.
    """
    checks = []
    for part, images in (("training", dataset.train), ("test", dataset.test)):
        count = clean(images)[1].duplicates
        text = f"{count:,} of the {len(images):,} {part} images equal an earlier one and its label"
        if count:
            harm = "a random split puts copies on both sides" if part == "training" else "each counts more than once"
            text += f": {harm}"
        checks.append(Check(DUPLICATES.format(part=part), count > 0, count, text))
    overlap = overlap_check(count_overlap(dataset.train, dataset.test), len(dataset.test))
    return [*checks, overlap, _split(dataset, published)]


def overlap_check(overlap: int, images: int) -> Check:
    """Says how many of a number of test images equal a training image."""
    text = f"{overlap:,} of the {images:,} test images equal a training image"
    text += ": their accuracy measures what a model remembers" if overlap else ""
    return Check(OVERLAP, overlap > 0, overlap, text)


def _split(dataset: Dataset, published: Dataset | None) -> Check:
    if dataset.source.official:
        return Check(SPLIT, False, 0, "these are the published files, in the published split")
    if published is None:
        return Check(SPLIT, None, 0, "the published files could not be obtained to compare with")
    # Of the images that are in both parts of the published data, none says anything.
    trained = count_overlap(published.test, dataset.train)
    tested = count_overlap(published.train, dataset.test)
    equal = count_overlap(published.train, dataset.train)
    count = trained + tested
    text = (
        f"{trained:,} of the {len(dataset.train):,} training images are published test images, {tested:,} of the "
        f"{len(dataset.test):,} test images are published training images, {equal:,} training images are in both"
    )
    if count:
        text += ": it is another split, as Kaggle's files are, so its figures and published ones do not compare"
    return Check(SPLIT, count > 0, count, text)
