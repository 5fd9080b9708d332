"""Every kind of bad input is refused with one line that names the file, and row and column where there is one."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from data_files import (
    CSV_HEADER,
    csv_rows,
    csv_text,
    idx_images,
    idx_labels,
    some_images,
    write_csv_folder,
    write_idx_folder,
)

import fmnist.storage.s3
from fmnist.data import load
from fmnist.errors import DataError

TRAIN = some_images(20, seed=1)
TEST = some_images(10, seed=2)
ROWS = csv_rows(TRAIN)
CSV = "fashion-mnist_train.csv"
IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "train-labels-idx1-ubyte.gz"


def csv_cell(row: int, column: str, cell: str) -> bytes:
    rows = [list(each) for each in ROWS]
    rows[row - 1][CSV_HEADER.split(",").index(column)] = cell
    return csv_text(rows)


def without_column(column: str) -> bytes:
    position = CSV_HEADER.split(",").index(column)
    rows = [row[:position] + row[position + 1 :] for row in ROWS]
    return csv_text(rows, ",".join(name for name in CSV_HEADER.split(",") if name != column))


def idx_header(magic: int, *shape: int) -> bytes:
    return struct.pack(f">{1 + len(shape)}I", magic, *shape)


def label_changed(row: int, label: int) -> bytes:
    content = bytearray(idx_labels(TRAIN))
    content[8 + row - 1] = label
    return bytes(content)


# One changed file of an otherwise good folder, and what the message must say of it.
BAD_FILES = {
    "csv: missing column": (CSV, without_column("pixel17"), ["line 1", "missing column pixel17", "784", "785"]),
    "csv: missing label column": (CSV, without_column("label"), ["line 1", "missing column label"]),
    "csv: no header": (CSV, csv_text(ROWS).split(b"\n", 1)[1], ["line 1", "missing column label", "header"]),
    "csv: extra column": (
        CSV,
        csv_text([[*row, "1"] for row in ROWS], CSV_HEADER + ",source"),
        ["line 1", "wrong column count", "786", "785", "source"],
    ),
    "csv: a column twice": (
        CSV,
        csv_text([[*row, "1"] for row in ROWS], CSV_HEADER + ",pixel3"),
        ["line 1", "wrong column count", "786", "785", "pixel3"],
    ),
    "csv: short row": (
        CSV,
        csv_text([*ROWS[:6], ROWS[6][:-2], *ROWS[7:]]),
        ["row 7", "line 8", "wrong column count", "783", "785"],
    ),
    "csv: long row": (
        CSV,
        csv_text([*ROWS[:6], [*ROWS[6], "0"], *ROWS[7:]]),
        ["row 7", "line 8", "wrong column count", "786", "785"],
    ),
    "csv: long first row": (
        CSV,
        csv_text([[*ROWS[0], "0"], *ROWS[1:]]),
        ["row 1 ", "line 2", "wrong column count", "786", "785"],
    ),
    "csv: all rows long": (CSV, csv_text([[*row, "0"] for row in ROWS]), ["row 1 ", "wrong column count", "786"]),
    "csv: label 10": (CSV, csv_cell(3, "label", "10"), ["row 3", "line 4", "column label", "'10'", "0 to 9"]),
    "csv: label -1": (CSV, csv_cell(3, "label", "-1"), ["row 3", "line 4", "column label", "'-1'", "0 to 9"]),
    "csv: pixel 256": (CSV, csv_cell(9, "pixel5", "256"), ["row 9", "line 10", "column pixel5", "'256'", "0 to 255"]),
    "csv: pixel -1": (CSV, csv_cell(9, "pixel784", "-1"), ["row 9", "line 10", "column pixel784", "'-1'", "0 to 255"]),
    "csv: pixel beyond 16 bits": (CSV, csv_cell(9, "pixel5", "65536"), ["row 9", "column pixel5", "'65536'"]),
    "csv: pixel beyond 64 bits": (CSV, csv_cell(9, "pixel5", "9" * 30), ["row 9", "column pixel5", "0 to 255"]),
    "csv: fraction": (
        CSV,
        csv_cell(2, "pixel1", "12.5"),
        ["row 2", "line 3", "column pixel1", "'12.5'", "not an integer"],
    ),
    "csv: word": (CSV, csv_cell(2, "pixel1", "abc"), ["row 2", "line 3", "column pixel1", "'abc'", "not an integer"]),
    "csv: infinity": (CSV, csv_cell(2, "pixel1", "inf"), ["row 2", "column pixel1", "'inf'", "not an integer"]),
    "csv: empty cell": (CSV, csv_cell(20, "pixel28", ""), ["row 20", "line 21", "column pixel28", "empty cell"]),
    "csv: NaN": (CSV, csv_cell(20, "pixel28", "NaN"), ["row 20", "line 21", "column pixel28", "'NaN'"]),
    "csv: NaN after blank lines": (
        CSV,
        csv_cell(20, "pixel28", "NaN").replace(b"\n", b"\n\n"),
        ["row 20", "line 41", "column pixel28", "'NaN'"],
    ),
    "csv: empty file": (CSV, b"", ["empty file"]),
    "csv: only line ends": (CSV, b"\n\n", ["empty file"]),
    "csv: only a header": (CSV, CSV_HEADER.encode() + b"\n", ["no images"]),
    "csv: not text": (CSV, bytes(range(128, 256)) * 10, ["line 1", "missing column label"]),
    "idx: empty file": (IMAGES, b"", ["empty file"]),
    "idx: empty inside gzip": (IMAGES, gzip.compress(b""), ["empty file"]),
    "idx: truncated gzip": (IMAGES, gzip.compress(idx_images(TRAIN))[:-100], ["truncated gzip"]),
    "idx: damaged gzip": (
        IMAGES,
        gzip.compress(idx_images(TRAIN))[:-8] + b"\x00" * 8,
        ["damaged gzip"],
    ),
    "idx: not gzip": (IMAGES, idx_images(TRAIN), ["not a gzip file"]),
    "idx: labels for images": (IMAGES, gzip.compress(idx_labels(TRAIN)), ["wrong magic number", "2049", "2051"]),
    "idx: images for labels": (LABELS, gzip.compress(idx_images(TRAIN)), ["wrong magic number", "2051", "2049"]),
    "idx: header cut": (IMAGES, gzip.compress(idx_images(TRAIN)[:10]), ["truncated IDX", "10 bytes", "16"]),
    "idx: payload cut": (IMAGES, gzip.compress(idx_images(TRAIN)[:-1]), ["truncated IDX", "15,679", "15,680"]),
    "idx: payload too long": (IMAGES, gzip.compress(idx_images(TRAIN) + b"\0"), ["15,681", "15,680"]),
    "idx: no images": (IMAGES, gzip.compress(idx_header(2051, 0, 28, 28)), ["no images"]),
    "idx: wrong image size": (
        IMAGES,
        gzip.compress(idx_header(2051, 2, 32, 32) + bytes(2 * 32 * 32)),
        ["32x32", "28x28"],
    ),
    "idx: 28x28 pixels in another shape": (
        IMAGES,
        gzip.compress(idx_header(2051, 20, 14, 56) + TRAIN.pixels.tobytes()),
        ["14x56", "28x28"],
    ),
    "idx: other image count": (LABELS, gzip.compress(idx_labels(some_images(19))), ["19 labels", "20", IMAGES]),
    "idx: label 10": (LABELS, gzip.compress(label_changed(row=4, label=10)), ["row 4", "label 10", "0 to 9"]),
}


@pytest.mark.parametrize(("name", "content", "said"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_refused_by_name_and_place(tmp_path: Path, name: str, content: bytes, said: list[str]) -> None:
    folder = tmp_path / "data"
    (write_csv_folder if name == CSV else write_idx_folder)(folder, TRAIN, TEST)
    load(str(folder), cache=tmp_path / "cache")
    (folder / name).write_bytes(content)
    assert_refused(folder, tmp_path, [str(folder / name), *said])


T10K = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")

# What is taken away from a folder that has both IDX files and a CSV pair.
BAD_FOLDERS = {
    "csv train with idx test": ([IMAGES, LABELS, "fashion-mnist_test.csv"], ["CSV train", CSV, "IDX test", "both"]),
    "idx train with csv test": ([*T10K, CSV], ["IDX train", "CSV test", "fashion-mnist_test.csv", "both"]),
    "idx without test": (
        [*T10K, CSV, "fashion-mnist_test.csv"],
        ["2 of the four", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
    ),
    "idx without one file": (
        [LABELS, CSV, "fashion-mnist_test.csv"],
        ["3 of the four", "missing train-labels-idx1-ubyte"],
    ),
    "csv without test": ([IMAGES, LABELS, *T10K, "fashion-mnist_test.csv"], [CSV, "missing fashion-mnist_test.csv"]),
    "csv without train": ([IMAGES, LABELS, *T10K, CSV], ["fashion-mnist_test.csv", "missing", "train"]),
    "nothing": (
        [IMAGES, LABELS, *T10K, CSV, "fashion-mnist_test.csv"],
        ["no data files", IMAGES.removesuffix(".gz"), CSV],
    ),
}


@pytest.mark.parametrize(("gone", "said"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_incomplete_or_mixed_folder_is_refused(tmp_path: Path, gone: list[str], said: list[str]) -> None:
    folder = write_csv_folder(write_idx_folder(tmp_path / "data", TRAIN, TEST), TRAIN, TEST)
    for name in gone:
        (folder / name).unlink()
    assert_refused(folder, tmp_path, [str(folder), *said])


def test_csv_file_beside_idx_test_files_is_refused(tmp_path: Path) -> None:
    folder = write_csv_folder(write_idx_folder(tmp_path / "data", TRAIN, TEST), TRAIN, TEST)
    (folder / "fashion-mnist_test.csv").unlink()
    assert_refused(folder / CSV, tmp_path, [str(folder / CSV), "IDX test"])


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("nowhere", ["no such file or folder", "auto"]),
        ("nowhere/fashion-mnist_train.csv", ["no such file or folder"]),
        ("data/fashion-mnist_test.csv", ["'train' in its name"]),
        ("data/notes.txt", ["expected a folder"]),
        ("two", ["more than one CSV pair", "a_train.csv", "b_train.csv"]),
    ],
)
def test_location_that_is_no_data_set_is_refused(tmp_path: Path, location: str, said: list[str]) -> None:
    write_csv_folder(tmp_path / "data", TRAIN, TEST)
    (tmp_path / "data" / "notes.txt").write_text("notes")
    (tmp_path / "two").mkdir()
    for name in ("a_train.csv", "a_test.csv", "b_train.csv", "b_test.csv"):
        (tmp_path / "two" / name).write_text("label")
    assert_refused(tmp_path / location, tmp_path, [str(tmp_path / location), *said])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://", ["not an S3 address"]),
        ("s3://key:word@bucket/data", ["carries credentials"]),
    ],
)
def test_s3_address_that_is_none_is_refused_without_repeating_credentials(
    tmp_path: Path, address: str, said: list[str]
) -> None:
    with pytest.raises(DataError) as raised:
        load(address, cache=tmp_path)
    assert all(part in str(raised.value) for part in said)
    assert "word" not in str(raised.value)


def test_unreachable_s3_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # boto3's default session keeps the first keys that it saw.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "some-secret")
    fmnist.storage.s3.client.cache_clear()
    try:
        with pytest.raises(
            DataError, match=r"^s3://bucket/data: cannot be read at 127\.0\.0\.1:9: cannot connect$"
        ) as raised:
            load("s3://bucket/data", cache=tmp_path)
    finally:
        fmnist.storage.s3.client.cache_clear()
    assert len(str(raised.value).splitlines()) == 1
    assert "some-" not in str(raised.value)


def assert_refused(location: Path, tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(DataError) as raised:
        load(str(location), cache=tmp_path / "cache")
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert [part for part in said if part not in message] == [], message
    assert raised.value.exit_code == 2
