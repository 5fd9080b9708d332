"""Downloading a data set from S3 into the cache."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fmnist.data.files import NOT_OURS, DataFile
from fmnist.data.folder import Choice, choose_csv_pair, choose_files, is_csv, with_class_names
from fmnist.errors import DataError, StoreError
from fmnist.storage import S3Store


def find(url: str) -> tuple[S3Store, Choice, dict[str, str]]:
    """Finds a data set at ``s3://bucket/prefix``, or ``s3://bucket/…/x_train.csv`` with its test file in that folder.

    Returns:
        The folder that has the files, which of them to read, and their versions as `S3Store.versions` gives them.

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
    return store, with_class_names(choice, versions), versions


@contextmanager
def downloaded(url: str, cache: Path, progress: Callable[[str], None]) -> Iterator[tuple[Choice, list[DataFile]]]:
    """Downloads the files of a data set for the block, unless the cache has them in the versions that the bucket has.

    Args:
        url: as `find` takes it; errors are as there.
        cache: files are kept in a sub-folder of it, if it can be written.
        progress: called with a line of text for each file downloaded.
    """
    store, choice, versions = find(url)
    names = [name for _, name in choice.files]
    # A folder for each version: an object that changed in the bucket is never read from the cache.
    version = "\n".join([f"{store.location}/", *(f"{name} {versions[name]}" for name in names)])
    target = cache / "s3" / hashlib.sha256(version.encode()).hexdigest()[:16]
    with ExitStack() as ends:
        try:
            target.mkdir(parents=True, exist_ok=True)
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            if error.errno not in NOT_OURS:
                expected = "set FMNIST_CACHE to a folder"
                raise DataError(f"{cache}: cannot be written ({error.strerror}): {expected}") from error
            progress(f"{cache}: cannot be written ({error.strerror}): files are not kept; FMNIST_CACHE names a folder")
            target = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fmnist-")))
        try:
            for name in names:
                if not (target / name).exists():
                    progress(f"downloading {store.location}/{name}")
                    store.get_file(name, target / name)
        except StoreError as error:
            raise DataError(str(error)) from error
        yield choice, [DataFile(target / name, f"{store.location}/{name}") for name in names]
