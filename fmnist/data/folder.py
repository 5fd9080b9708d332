"""Choosing the files of a data set among the names in a folder, on a disk or in a bucket."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fmnist.data.types import CLASSES, OFFICIAL_SHA256
from fmnist.errors import DataError, UserError
from fmnist.files import read_text

_IDX_TRAIN = tuple(name for name in OFFICIAL_SHA256 if name.startswith("train"))
_IDX_TEST = tuple(name for name in OFFICIAL_SHA256 if not name.startswith("train"))
_CSV_ENDINGS = (".csv", ".csv.gz")
# Beside the data: the names of the labels 0 to 9, one a line.
CLASS_NAMES_FILE = "classes.txt"
_LARGEST_NAMES = 2**12

_LEAK = (
    "the two were split differently, so training images would be among the test images: "
    "expected both as CSV or both as IDX files"
)


@dataclass(frozen=True)
class Choice:
    """The files to read, all from one folder.

    Attributes:
        format: of the files; csv if only one half is.
        files: for each file its canonical name (what its sum is recorded under) and its name in the folder. IDX: train
            images, train labels, test images, test labels. CSV: train, test. The class names, if there are, are last.
    """

    format: Literal["idx", "csv"]
    files: tuple[tuple[str, str], ...]


def choose_files(names: Collection[str], location: str, *, mixed: bool = False) -> Choice:
    """Chooses the four IDX files, else a CSV pair, among a folder's file names.

    Raises:
        DataError: if neither is complete, or the folder has the train half of one and the test half of the other;
            ``mixed`` takes the two halves as they are.
    """
    idx = {canonical: found for canonical in OFFICIAL_SHA256 if (found := _find_idx(canonical, names))}
    if len(idx) == len(OFFICIAL_SHA256):
        return Choice("idx", tuple(idx.items()))
    csv_trains = [name for name in names if name.endswith(_CSV_ENDINGS) and "train" in name]
    csv_pairs = [name for name in csv_trains if _find_csv(_csv_sibling(name), names)]
    if len(csv_pairs) > 1:
        csv_pairs = [name for name in csv_pairs if _without_gz(name) == "fashion-mnist_train.csv"] or csv_pairs
    if len({_without_gz(name) for name in csv_pairs}) > 1:
        raise DataError(f"{location}: more than one CSV pair ({', '.join(sorted(csv_pairs))}): name the train file")
    if csv_pairs:
        return choose_csv_pair(min(csv_pairs), names, location)
    csv_tests = [name for name in names if name.endswith(_CSV_ENDINGS) and "test" in name and name not in csv_trains]
    if mixed and csv_trains and all(name in idx for name in _IDX_TEST):
        return Choice("csv", (_plain_name(min(csv_trains)), *((name, idx[name]) for name in _IDX_TEST)))
    if mixed and csv_tests and all(name in idx for name in _IDX_TRAIN):
        return Choice("csv", (*((name, idx[name]) for name in _IDX_TRAIN), _plain_name(min(csv_tests))))
    if csv_trains and any(name in idx for name in _IDX_TEST):
        raise DataError(f"{location}: CSV train file {min(csv_trains)} with IDX test files: {_LEAK}")
    if csv_tests and any(name in idx for name in _IDX_TRAIN):
        raise DataError(f"{location}: IDX train files with CSV test file {min(csv_tests)}: {_LEAK}")
    if idx:
        missing = ", ".join(name for name in OFFICIAL_SHA256 if name not in idx)
        raise DataError(f"{location}: found {len(idx)} of the four IDX files, missing {missing} (or the same with .gz)")
    if csv_trains:
        raise DataError(f"{location}: found {min(csv_trains)}, missing {_csv_sibling(min(csv_trains))} beside it")
    if csv_tests:
        raise DataError(f"{location}: found {min(csv_tests)}, missing the CSV train file beside it")
    expected = f"expected {', '.join(OFFICIAL_SHA256)} (or the same with .gz), or fashion-mnist_train.csv and _test.csv"
    raise DataError(f"{location}: no data files among the {len(names)} names there: {expected}")


def choose_csv_pair(train: str, names: Collection[str], location: str) -> Choice:
    """Chooses a CSV train file and its sibling, which has ``test`` for ``train`` in its name.

    Raises:
        DataError: if the train file, or the sibling, is not among the names.
    """
    if not is_csv(train) or "train" not in train:
        expected = "expected a folder, or a .csv file with 'train' in its name and its test file beside it"
        raise DataError(f"{location}: {expected}")
    found = _find_csv(train, names)
    if not found:
        raise DataError(f"{location}: no such file")
    sibling = _csv_sibling(found)
    test = _find_csv(sibling, names)
    if test:
        return Choice("csv", ((_without_gz(found), found), (_without_gz(test), test)))
    if any(_find_idx(canonical, names) for canonical in _IDX_TEST):
        raise DataError(f"{location}: CSV train file with IDX test files: {_LEAK}")
    raise DataError(f"{location}: missing {sibling} beside it")


def is_csv(name: str) -> bool:
    """Whether a file's name says that it is CSV, compressed or not."""
    return name.endswith(_CSV_ENDINGS)


def _find_idx(canonical: str, names: Collection[str]) -> str | None:
    dotted = canonical.replace("-idx", ".idx")
    return next((name for stem in (canonical, dotted) for name in (stem, stem + ".gz") if name in names), None)


def _find_csv(name: str, names: Collection[str]) -> str | None:
    plain = _without_gz(name)
    return next((each for each in (name, plain, plain + ".gz") if each in names), None)


def _csv_sibling(train: str) -> str:
    before, _, after = train.rpartition("train")
    return f"{before}test{after}"


def _plain_name(name: str) -> tuple[str, str]:
    return _without_gz(name), name


def _without_gz(name: str) -> str:
    return name.removesuffix(".gz")


def with_class_names(choice: Choice, names: Collection[str]) -> Choice:
    """Adds the file of class names to the files to read, if it is among the names in their folder."""
    own = ((CLASS_NAMES_FILE, CLASS_NAMES_FILE),) if CLASS_NAMES_FILE in names else ()
    return replace(choice, files=choice.files + own)


def read_class_names(path: Path, shown: str) -> tuple[str, ...]:
    """Reads a file of ten class names, one a line.

    Raises:
        DataError: if it has others than ten different names of printable characters, or is no text.
    """
    try:
        names = tuple(line.strip() for line in read_text(path, _LARGEST_NAMES).splitlines() if line.strip())
    except UserError as error:
        raise DataError(str(error).replace(str(path), shown)) from error
    if len(set(names)) != CLASSES or len(names) != CLASSES or not all(map(str.isprintable, names)):
        found = f"found {len(names)} names, {len(set(names))} of them different"
        raise DataError(f"{shown}: {found}, expected the names of the labels 0 to 9, one a line")
    return names
