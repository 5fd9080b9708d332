"""Writing small data sets to disk, for tests: the inverse of the readers, and independent of them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from fmnist.data import Images

CSV_HEADER = ",".join(["label", *(f"pixel{number}" for number in range(1, 785))])


def some_images(count: int, seed: int = 0) -> Images:
    """Random images whose labels go round the ten classes."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return Images(pixels, (np.arange(count) % 10).astype(np.uint8))


def idx_images(images: Images) -> bytes:
    return struct.pack(">4I", 2051, len(images), 28, 28) + images.pixels.tobytes()


def idx_labels(images: Images) -> bytes:
    return struct.pack(">2I", 2049, len(images)) + images.labels.tobytes()


def csv_rows(images: Images) -> list[list[str]]:
    table = np.column_stack([images.labels, images.pixels.reshape(len(images), -1)])
    return [[str(value) for value in row] for row in table.tolist()]


def csv_text(rows: list[list[str]], header: str = CSV_HEADER) -> bytes:
    return "\n".join([header, *(",".join(row) for row in rows), ""]).encode()


def write_idx_folder(folder: Path, train: Images, test: Images, compress: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "train-images-idx3-ubyte": idx_images(train),
        "train-labels-idx1-ubyte": idx_labels(train),
        "t10k-images-idx3-ubyte": idx_images(test),
        "t10k-labels-idx1-ubyte": idx_labels(test),
    }
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content, 1) if compress else content)
    return folder


def write_csv_folder(folder: Path, train: Images, test: Images, compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in (("fashion-mnist_train.csv", train), ("fashion-mnist_test.csv", test)):
        content = csv_text(csv_rows(images))
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content, 1) if compress else content)
    return folder
