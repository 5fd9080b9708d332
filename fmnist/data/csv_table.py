"""Reading Kaggle's CSV form: a header ``label,pixel1,…,pixel784``, then one image a row."""

from __future__ import annotations

import csv
import io
import warnings
from typing import NoReturn

import numpy as np
import pandas as pd

from fmnist.data.types import CLASS_NAMES, SIDE, Images
from fmnist.errors import DataError

COLUMNS = ("label", *(f"pixel{number}" for number in range(1, SIDE * SIDE + 1)))

_HIGHEST_LABEL = len(CLASS_NAMES) - 1
_HIGHEST_PIXEL = 255
_LABEL_CELLS = frozenset(map(str, range(_HIGHEST_LABEL + 1)))
_PIXEL_CELLS = frozenset(map(str, range(_HIGHEST_PIXEL + 1)))
_NULL_CELLS = frozenset(("", "nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "null", "none"))


def parse_csv(content: bytes, shown: str) -> Images:
    """Reads a CSV file of labelled images; the columns may come in any order.

    Args:
        content: the decompressed file.
        shown: what messages call the file.

    Raises:
        DataError: if a column is missing or there are others, if a row has another number of cells, or if a cell is
            empty, not an integer, or out of range. It names the first such row (counted from 1 without the header),
            its line in the file, and the column.
    """
    columns = _header(content, shown)
    try:
        with warnings.catch_warnings():
            # pandas only warns of a first row that is too long, and numpy of an infinity made an integer.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            # pandas refuses what a byte cannot hold instead of wrapping it, so this is also the check of the pixels.
            frame = pd.read_csv(io.BytesIO(content), names=columns, header=0, dtype=np.uint8, index_col=False)
    except (ValueError, OverflowError, Warning) as error:
        _raise_first_problem(content, shown, columns, str(error))
    if frame.empty:
        raise DataError(f"{shown}: holds no images, only a header")
    labels = frame["label"].to_numpy()
    if labels.max() > _HIGHEST_LABEL:
        _raise_first_problem(content, shown, columns, "value out of range")
    # C order, which the column-wise frame does not have: an image's bytes lie together.
    pixels = np.ascontiguousarray(frame[list(COLUMNS[1:])].to_numpy())
    return Images(pixels.reshape(-1, SIDE, SIDE), labels)


def check_head(head: bytes, shown: str) -> None:
    """Raises a `DataError` unless the first bytes of a file are those of a CSV file of labelled images."""
    _header(head, shown)


def _header(content: bytes, shown: str) -> list[str]:
    if not content.strip():
        raise DataError(f"{shown}: empty file")
    first_line = content.lstrip().split(b"\n", 1)[0].decode("utf-8-sig", errors="replace")
    columns = [name.strip().strip('"') for name in first_line.split(",")]
    present = set(columns)
    missing = [name for name in COLUMNS if name not in present]
    if missing:
        found = f"found {len(columns)} columns, the first named {_quote(columns[0])}"
        expected = f"expected a header with the {len(COLUMNS)} columns label,pixel1,...,pixel784"
        raise DataError(f"{shown}: line 1: missing column {_names(missing)}: {found}; {expected}")
    if len(columns) != len(COLUMNS):
        others = [name for position, name in enumerate(columns) if name not in COLUMNS or name in columns[:position]]
        expected = f"expected {len(COLUMNS)}; not expected: {_names(others)}"
        raise DataError(f"{shown}: line 1: wrong column count: found {len(columns)}, {expected}")
    return columns


def _raise_first_problem(content: bytes, shown: str, columns: list[str], reason: str) -> NoReturn:
    """Reads the file again, slowly, for the place of the first bad cell."""
    text = io.StringIO(content.lstrip().decode("utf-8-sig", errors="replace"), newline="")
    reader = csv.reader(text)
    next(reader)
    lines_before = content[: len(content) - len(content.lstrip())].count(b"\n")
    row = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) and len(cells) <= 1:
                continue
            row += 1
            where = f"{shown}: row {row} (line {lines_before + reader.line_num})"
            if len(cells) != len(columns):
                raise DataError(f"{where}: wrong column count: found {len(cells)} cells, expected {len(columns)}")
            if cells[0] in _LABEL_CELLS and _PIXEL_CELLS.issuperset(cells) and columns[0] == "label":
                continue
            for name, cell in zip(columns, cells, strict=True):
                problem = _problem(cell, _HIGHEST_LABEL if name == "label" else _HIGHEST_PIXEL)
                if problem:
                    raise DataError(f"{where}, column {name}: {problem}")
    except csv.Error as error:
        reason = str(error)
    raise DataError(f"{shown}: not readable as CSV: {' '.join(reason.split())}")


def _problem(cell: str, highest: int) -> str | None:
    expected = f"expected an integer from 0 to {highest}"
    if cell.strip().lower() in _NULL_CELLS:
        return f"found {'an empty cell' if not cell.strip() else _quote(cell)}, {expected}"
    try:
        value = float(cell)
    except ValueError:
        value = 0.5
    if "_" in cell or not value.is_integer():
        return f"found {_quote(cell)}, not an integer, {expected}"
    if not 0 <= value <= highest:
        return f"found {_quote(cell)}, {expected}"
    return None


def _quote(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def _names(names: list[str]) -> str:
    shown = ", ".join(name if name.isidentifier() and len(name) <= 40 else _quote(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
