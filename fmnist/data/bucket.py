"""Downloading a data set from S3 into the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from fmnist.data.files import DataFile
from fmnist.data.folder import Choice, choose_csv_pair, choose_files, is_csv
from fmnist.errors import DataError, StoreError
from fmnist.storage import s3


def download(url: str, cache: Path, progress: Callable[[str], None]) -> tuple[Choice, list[DataFile]]:
    """Downloads the files of a data set, unless the cache has them in the versions that the bucket has.

    Args:
        url: ``s3://bucket/prefix`` of a folder, or ``s3://bucket/…/x_train.csv`` with its test file beside it.
        cache: files go to a sub-folder of it.
        progress: called with a line of text for each file downloaded.

    Raises:
        DataError: if S3 cannot be reached or refuses, or does not have the files of a data set there.
    """
    try:
        bucket, key = s3.split_url(url)
    except StoreError as error:
        raise DataError(str(error)) from error
    train = key.rpartition("/")[2] if is_csv(key) else None
    folder = key.rpartition("/")[0] if train else key
    prefix = f"{folder}/" if folder else ""
    try:
        objects = s3.versions(bucket, prefix)
        choice = choose_csv_pair(train, objects, url) if train else choose_files(objects, url)
        versions = "\n".join(f"{name} {objects[name]}" for _, name in choice.files)
        # A folder for each version: an object that changed in the bucket is never read from the cache.
        target = cache / "s3" / hashlib.sha256(f"s3://{bucket}/{prefix}\n{versions}".encode()).hexdigest()[:16]
        target.mkdir(parents=True, exist_ok=True)
        for _, name in choice.files:
            if not (target / name).exists():
                progress(f"downloading s3://{bucket}/{prefix}{name}")
                partial = target / f".{name}.{os.getpid()}.partial"
                try:
                    s3.client().download_file(bucket, prefix + name, str(partial))
                    partial.replace(target / name)
                finally:
                    partial.unlink(missing_ok=True)
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise DataError(f"{url}: cannot be read: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise DataError(f"{cache}: cannot be written ({error.strerror}): set FMNIST_CACHE to a folder") from error
    files = [DataFile(target / name, f"s3://{bucket}/{prefix}{name}") for _, name in choice.files]
    return choice, files
