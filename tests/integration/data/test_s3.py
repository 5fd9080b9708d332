"""Data sets in a bucket of a real S3 server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import some_images, write_csv_folder, write_idx_folder

from fmnist.data import Dataset, load
from fmnist.errors import DataError
from fmnist.storage import s3

TRAIN = some_images(20, seed=1)
TEST = some_images(10, seed=2)


def upload(folder: Path, bucket: str, prefix: str) -> None:
    for path in folder.iterdir():
        s3.client().upload_file(str(path), bucket, f"{prefix}{path.name}")


def assert_is_train_and_test(dataset: Dataset) -> None:
    assert np.array_equal(dataset.train.pixels, TRAIN.pixels)
    assert np.array_equal(dataset.test.pixels, TEST.pixels)
    assert np.array_equal(dataset.train.labels, TRAIN.labels)


@pytest.mark.parametrize("prefix", ["some/data/", ""])
def test_idx_folder_in_a_bucket_is_read_and_kept(s3_bucket: str, tmp_path: Path, prefix: str) -> None:
    upload(write_idx_folder(tmp_path / "data", TRAIN, TEST), s3_bucket, prefix)
    url = f"s3://{s3_bucket}/{prefix}"
    steps: list[str] = []
    dataset = load(url, cache=tmp_path / "cache", progress=steps.append)
    assert_is_train_and_test(dataset)
    assert dataset.source.location == url
    assert len(steps) == 4
    steps.clear()
    assert_is_train_and_test(load(url, cache=tmp_path / "cache", progress=steps.append))
    assert steps == [], "the files are in the cache"


def test_csv_pair_in_a_bucket_is_read_by_folder_and_by_file(s3_bucket: str, tmp_path: Path) -> None:
    folder = write_csv_folder(tmp_path / "data", TRAIN, TEST, compress=True)
    upload(folder, s3_bucket, "kaggle/")
    s3.client().put_object(Bucket=s3_bucket, Key="kaggle/archive/other.csv", Body=b"not to be downloaded")
    for url in (f"s3://{s3_bucket}/kaggle", f"s3://{s3_bucket}/kaggle/fashion-mnist_train.csv.gz"):
        steps: list[str] = []
        dataset = load(url, cache=tmp_path / url[-5:], progress=steps.append)
        assert_is_train_and_test(dataset)
        assert dataset.source.format == "csv"
        assert len(steps) == 2


def test_object_that_changed_is_downloaded_again(s3_bucket: str, tmp_path: Path) -> None:
    upload(write_idx_folder(tmp_path / "old", TEST, TRAIN), s3_bucket, "data/")
    load(f"s3://{s3_bucket}/data", cache=tmp_path / "cache")
    upload(write_idx_folder(tmp_path / "new", TRAIN, TEST), s3_bucket, "data/")
    assert_is_train_and_test(load(f"s3://{s3_bucket}/data", cache=tmp_path / "cache"))


def test_bad_file_in_a_bucket_is_named_by_its_address(s3_bucket: str, tmp_path: Path) -> None:
    folder = write_csv_folder(tmp_path / "data", TRAIN, TEST)
    train = folder / "fashion-mnist_train.csv"
    train.write_text(train.read_text().replace("\n3,", "\n33,", 1))
    upload(folder, s3_bucket, "data/")
    place = rf"^s3://{s3_bucket}/data/fashion-mnist_train\.csv: row 4 \(line 5\), column label: found '33'"
    with pytest.raises(DataError, match=place):
        load(f"s3://{s3_bucket}/data", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("bucket", "path", "said"),
    [
        (None, "empty", "no data files"),
        (None, "outer", "no data files"),
        (None, "empty/x_train.csv", "no such file"),
        ("no-such-bucket", "data", "cannot be read at .*: no such bucket"),
    ],
)
def test_address_without_data_is_refused(
    s3_bucket: str, tmp_path: Path, bucket: str | None, path: str, said: str
) -> None:
    upload(write_csv_folder(tmp_path / "data", TRAIN, TEST), s3_bucket, "outer/inner/")
    url = f"s3://{bucket or s3_bucket}/{path}"
    with pytest.raises(DataError, match=f"^{url}: {said}") as raised:
        load(url, cache=tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_wrong_keys_are_refused_without_printing_them(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # boto3's default session keeps the first keys that it saw.
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    s3.client.cache_clear()
    with pytest.raises(DataError, match=f"^s3://{s3_bucket}/data: cannot be read at .*: access denied") as raised:
        load(f"s3://{s3_bucket}/data", cache=tmp_path)
    assert "not-the-secret" not in str(raised.value)
