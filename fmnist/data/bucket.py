"""Downloading a data set from S3 into the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fmnist.data.files import DataFile
from fmnist.data.folder import Choice, choose_csv_pair, choose_files, is_csv
from fmnist.errors import DataError, StoreError
from fmnist.storage import S3Store


@dataclass(frozen=True)
class BucketFiles:
    """The files of a data set in a bucket.

    Attributes:
        store: the folder that has them.
        choice: which of its files to read.
        versions: for each file of the folder a text that changes with its content.
    """

    store: S3Store
    choice: Choice
    versions: dict[str, str]


def find(url: str) -> BucketFiles:
    """Finds a data set in a bucket.

    Args:
        url: ``s3://bucket/prefix`` of a folder, or ``s3://bucket/…/x_train.csv`` with its test file beside it.

    Raises:
        DataError: if S3 cannot be reached or refuses, or does not have the files of a data set there.
    """
    folder, _, name = url.rpartition("/") if is_csv(url) else (url, "", "")
    try:
        store = S3Store.at(folder)
        versions = store.versions()
    except StoreError as error:
        raise DataError(str(error)) from error
    choice = choose_csv_pair(name, versions, url) if name else choose_files(versions, url)
    return BucketFiles(store, choice, versions)


def download(url: str, cache: Path, progress: Callable[[str], None]) -> tuple[Choice, list[DataFile]]:
    """Downloads the files of a data set, unless the cache has them in the versions that the bucket has.

    Args:
        url: as `find` takes it.
        cache: files go to a sub-folder of it.
        progress: called with a line of text for each file downloaded.

    Raises:
        DataError: as `find`, or if the cache cannot be written.
    """
    found = find(url)
    location = found.store.location
    # A folder for each version: an object that changed in the bucket is never read from the cache.
    versions = "\n".join(f"{name} {found.versions[name]}" for _, name in found.choice.files)
    target = cache / "s3" / hashlib.sha256(f"{location}/\n{versions}".encode()).hexdigest()[:16]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for _, name in found.choice.files:
            if not (target / name).exists():
                progress(f"downloading {location}/{name}")
                found.store.get_file(name, target / name)
    except StoreError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{cache}: cannot be written ({error.strerror}): set FMNIST_CACHE to a folder") from error
    return found.choice, [DataFile(target / name, f"{location}/{name}") for _, name in found.choice.files]
