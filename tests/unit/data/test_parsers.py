"""Laws of the two readers: what is written is read, and nothing but DataError is raised for what is not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from data_files import CSV_HEADER, csv_rows, csv_text, idx_images, idx_labels, some_images
from fuzzing import examples
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fmnist.data import Images
from fmnist.data.csv_table import COLUMNS, parse_csv
from fmnist.data.files import DataFile
from fmnist.data.idx import parse_images, parse_labels
from fmnist.errors import DataError

FEW = some_images(3)


@st.composite
def images_of_any_content(draw: st.DrawFn) -> Images:
    count = draw(st.integers(1, 5))
    pixels = draw(arrays(np.uint8, (count, 28, 28)))
    return Images(pixels, draw(arrays(np.uint8, count, elements=st.integers(0, 9))))


def assert_same(found: Images, expected: Images) -> None:
    assert np.array_equal(found.pixels, expected.pixels)
    assert np.array_equal(found.labels, expected.labels)


@given(images_of_any_content())
def test_idx_files_are_read_as_written(images: Images) -> None:
    read = Images(parse_images(idx_images(images), "images"), parse_labels(idx_labels(images), "labels"))
    assert_same(read, images)


@given(images_of_any_content())
def test_csv_files_are_read_as_written(images: Images) -> None:
    assert_same(parse_csv(csv_text(csv_rows(images)), "train.csv"), images)


@given(st.integers(0, len(idx_images(FEW)) - 1))
def test_idx_images_cut_anywhere_are_refused(length: int) -> None:
    with pytest.raises(DataError, match="truncated IDX file"):
        parse_images(idx_images(FEW)[:length], "images")


@given(st.integers(0, len(idx_images(FEW)) - 1), st.integers(0, 255))
def test_idx_images_with_any_byte_changed_are_refused_or_valid(position: int, value: int) -> None:
    content = bytearray(idx_images(FEW))
    content[position] = value
    try:
        pixels = parse_images(bytes(content), "images")
    except DataError as error:
        assert position < 16, "a pixel may have any value"
        assert_one_line(error)
    else:
        assert pixels.shape == (3, 28, 28)


@given(st.integers(0, len(idx_labels(FEW)) - 1), st.integers(0, 255))
def test_idx_labels_with_any_byte_changed_are_refused_or_valid(position: int, value: int) -> None:
    content = bytearray(idx_labels(FEW))
    content[position] = value
    try:
        labels = parse_labels(bytes(content), "labels")
    except DataError as error:
        assert_one_line(error)
    else:
        assert labels.shape == (3,)
        assert labels.max() <= 9


@given(st.binary(max_size=200))
@example(b"\x00\x00\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
@example(b"\x00\x00\x08\x03\xff\xff\xff\xff\x00\x00\x00\x1c\x00\x00\x00\x1c")
def test_bytes_that_are_no_idx_file_are_refused(content: bytes) -> None:
    with pytest.raises(DataError) as raised:
        parse_images(content, "images")
    assert_one_line(raised.value)


@given(st.data())
def test_gzip_files_with_any_byte_changed_or_cut_are_refused_or_give_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(gzip.compress(idx_labels(FEW)))
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), label="length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), label="position")] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("gzip") / "labels.gz"
    path.write_bytes(content)
    try:
        read = DataFile(path, "labels.gz").read()
    except DataError as error:
        assert_one_line(error)
    else:
        assert read == idx_labels(FEW), "gzip has a checksum: only its header can change unnoticed"


cells = st.one_of(
    st.integers(-300, 70_000).map(str),
    st.sampled_from(
        ["", " ", "NaN", "NA", "null", "inf", "-inf", "1e1", "1e400", "1.0", "1.5", "-0", "+1", "1_0", "0x1"]
    ),
    st.sampled_from(["True", '"', '"1"', '"1,2"', "\x00", "\ufeff", "\n", "\r", "99999999999999999999", "é", ","]),
    st.text(max_size=3),
)


@examples(300)
@given(row=st.integers(0, 2), column=st.integers(0, 784), cell=cells)
def test_csv_files_with_any_cell_changed_are_refused_by_place_or_hold_that_integer(
    row: int, column: int, cell: str
) -> None:
    rows = csv_rows(FEW)
    rows[row][column] = cell
    content = "\n".join([CSV_HEADER, *(",".join(each) for each in rows), ""]).encode("utf-8", errors="replace")
    try:
        read = parse_csv(content, "train.csv")
    except DataError as error:
        assert_one_line(error)
        assert str(error).startswith("train.csv: ")
        # A stray quote or line end can move what follows it, but not what comes before.
        assert any(f"row {number} " in str(error) for number in range(row + 1, 5)), str(error)
    else:
        value = read.labels[row] if column == 0 else read.pixels[row].reshape(-1)[column - 1]
        assert value == float(cell.strip().strip('"').rstrip("\x00"))


@examples(200)
@given(st.binary(max_size=60), st.booleans())
def test_bytes_that_are_no_csv_file_are_refused(content: bytes, with_header: bool) -> None:
    with pytest.raises(DataError) as raised:
        parse_csv((CSV_HEADER.encode() + b"\n" if with_header else b"") + content, "train.csv")
    assert_one_line(raised.value)


@given(st.randoms(use_true_random=False))
def test_csv_columns_are_found_by_name_in_any_order(random: object) -> None:
    order = list(range(785))
    random.shuffle(order)  # type: ignore[attr-defined]
    rows = [[row[position] for position in order] for row in csv_rows(FEW)]
    assert_same(parse_csv(csv_text(rows, ",".join(COLUMNS[position] for position in order)), "train.csv"), FEW)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: b"\xef\xbb\xbf" + text, id="byte order mark"),
        pytest.param(lambda text: text.replace(b"\n", b"\r\n"), id="line ends of Windows"),
        pytest.param(lambda text: text.replace(b"\n", b"\n\n"), id="blank lines"),
        pytest.param(lambda text: text.rstrip(b"\n"), id="no last line end"),
        pytest.param(lambda text: text.replace(b",", b", "), id="spaces after commas"),
        pytest.param(
            lambda text: b'"' + CSV_HEADER.replace(",", '","').encode() + b'"' + text[len(CSV_HEADER) :], id="q"
        ),
    ],
)
def test_csv_files_of_other_programs_are_read(change: object) -> None:
    assert_same(parse_csv(change(csv_text(csv_rows(FEW))), "train.csv"), FEW)  # type: ignore[operator]


def test_plain_and_compressed_files_have_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"content")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"content"))
    assert DataFile(tmp_path / "plain", "plain").read() == DataFile(tmp_path / "packed.gz", "packed.gz").read()


def assert_one_line(error: DataError) -> None:
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 400
