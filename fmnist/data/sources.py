"""Reading a data set from wherever the user says it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fmnist.data import csv_table, idx
from fmnist.data.files import DataFile
from fmnist.data.folder import (
    CLASS_NAMES_FILE,
    Choice,
    choose_csv_pair,
    choose_files,
    read_class_names,
    with_class_names,
)
from fmnist.data.official import obtain_official
from fmnist.data.types import CLASS_NAMES, LABELS, OFFICIAL_SHA256, Dataset, DataSource
from fmnist.errors import DataError
from fmnist.files import local_path


def default_cache() -> Path:
    """Returns the folder in which obtained data is kept: ``$FMNIST_CACHE``, else ``~/.cache/fmnist``."""
    configured = os.environ.get("FMNIST_CACHE")
    return local_path(configured or "~/.cache/fmnist")


def load(
    location: str,
    *,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
    mixed: bool = False,
) -> Dataset:
    """Reads a data set of 28x28 grey images in ten classes.

    Args:
        location: one of
            ``auto``: the published Fashion-MNIST, from the cache, Debian's package, or the network;
            a folder with the four IDX files or a CSV pair, each plain or ``.gz`` (IDX is taken where it has both);
            a CSV train file, with its test file (``test`` for ``train`` in the name) beside it;
            ``s3://bucket/prefix`` of such a folder, or ``s3://…/x_train.csv``.
            Beside the files, ``classes.txt`` may name the labels 0 to 9, one a line.
        cache: folder for what is fetched, which need not exist; `default_cache` if None.
        progress: called with a line of text for each step that takes time.
        mixed: whether to read also a folder with training images as CSV and test images as IDX files, or the reverse,
            which is refused otherwise: it is to be audited, not to be trained on.

    Returns:
        Training and test images as the source has them: neither cleaned nor split.

    Raises:
        DataError: if the data is missing, incomplete or malformed; one line that names file, row and column.

    Example:
        >>> dataset = load("auto")  # doctest: +SKIP
        >>> len(dataset.train), len(dataset.test)  # doctest: +SKIP
        (60000, 10000)
    """
    cache = cache or default_cache()
    if location == "auto":
        contents = obtain_official(cache, progress)
        return _parse(location, "idx", contents, {name: f"{cache / name}.gz" for name in contents}, None)
    if location.lower().startswith("s3://"):
        # Imported here: boto3 is for those who use it.
        from fmnist.data.bucket import downloaded

        with downloaded(location, cache, progress) as (choice, files):
            return _read(location, choice, files)
    return _read(location, *_find(location, mixed))


def check_source(location: str) -> None:
    """Checks that there are the files of a data set at a location that `load` takes, without reading them.

    Raises:
        DataError: as `load`. The published data set of ``auto`` is not looked for.
    """
    if location.lower().startswith("s3://"):
        from fmnist.data.bucket import find

        find(location)
    elif location != "auto":
        _find(location)


def _find(location: str, mixed: bool = False) -> tuple[Choice, list[DataFile]]:
    path = local_path(location)
    try:
        if not path.exists():
            raise DataError(f"{location}: no such file or folder: expected auto, a folder, a CSV file, or s3://…")
        folder = path if path.is_dir() else path.parent
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise DataError(f"{location}: cannot be read: {error.strerror}") from error
    if path.is_dir():
        choice = choose_files(names, location, mixed=mixed)
    else:
        choice = choose_csv_pair(path.name, names, location)
    choice = with_class_names(choice, names)
    return choice, [DataFile(folder / name, str(folder / name)) for _, name in choice.files]


def _read(location: str, choice: Choice, files: list[DataFile]) -> Dataset:
    by_name = {canonical: file for (canonical, _), file in zip(choice.files, files, strict=True)}
    names = by_name.pop(CLASS_NAMES_FILE, None)
    class_names = read_class_names(names.path, names.shown) if names else None
    contents = {
        canonical: file.read(idx.promised_size(canonical) if canonical in OFFICIAL_SHA256 else csv_table.check_head)
        for canonical, file in by_name.items()
    }
    shown = {canonical: file.shown for canonical, file in by_name.items()}
    return _parse(location, choice.format, contents, shown, class_names)


def _parse(
    location: str,
    data_format: Literal["idx", "csv"],
    contents: Mapping[str, bytes],
    shown: Mapping[str, str],
    class_names: tuple[str, ...] | None,
) -> Dataset:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    official = sums == OFFICIAL_SHA256
    # Other data under the published names, such as handwritten digits, are not clothes.
    class_names = class_names or (CLASS_NAMES if official else LABELS)
    source = DataSource(location, data_format, sums, official, class_names)
    halves = []
    names = list(contents)
    while names:
        first, *names = names
        if first in OFFICIAL_SHA256:
            second, *names = names
            pixels = idx.parse_images(contents[first], shown[first])
            labels = idx.parse_labels(contents[second], shown[second])
            halves.append(idx.pair(pixels, labels, shown[first], shown[second]))
        else:
            halves.append(csv_table.parse_csv(contents[first], shown[first]))
    train, test = (replace(half, class_names=class_names) for half in halves)
    return Dataset(train, test, source)
