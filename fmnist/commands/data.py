"""``fmnist data``: describes and prepares a data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from fmnist import data
from fmnist.console import aside, console
from fmnist.data import Dataset, PixelStatistics, TableHead
from fmnist.errors import UserError, printable
from fmnist.files import local_path
from fmnist.options import CommandParser


def run(arguments: list[str]) -> int:
    """Runs ``fmnist data`` with the arguments behind its name; returns the exit code."""
    parser = CommandParser(prog="fmnist data", description="Describes and prepares a data set.", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|prepare")
    info = actions.add_parser("info", help="where the images come from, counts, nulls, duplicates, checksums")
    prepare = actions.add_parser("prepare", help="obtain and check them now, and draw the study's figures")
    for action in (info, prepare):
        action.add_argument("--data", default="auto", help="as for train (default: auto)")
    info.add_argument("--json", action="store_true", help="print the summary as JSON")
    prepare.add_argument("--figures", metavar="DIR", help="folder for the figures; none are drawn if not given")
    options = parser.parse_args(arguments)

    dataset = data.load(options.data, progress=aside.print)
    if options.action == "info":
        _print_info(dataset, options.json)
        return 0
    counts = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    print(f"{printable(dataset.source.location)}: {counts}, checked")
    if options.figures:
        _write_figures(dataset, local_path(options.figures))
    return 0


def _print_info(dataset: Dataset, as_json: bool) -> None:
    counts = {"train": data.clean(dataset.train)[1], "test": data.clean(dataset.test)[1]}
    overlap, pixels = data.count_overlap(dataset.train, dataset.test), PixelStatistics.of(dataset.train.pixels)
    head = TableHead.of(dataset.train)
    class_counts = {"train": dataset.train.class_counts(), "test": dataset.test.class_counts()}
    if as_json:
        cleaning = {name: asdict(count) for name, count in counts.items()}
        more = {"overlap": overlap, "pixels": asdict(pixels), "head": asdict(head), "class_counts": class_counts}
        print(json.dumps({**asdict(dataset.source), **cleaning, **more}, indent=2))
        return
    origin = "the published Fashion-MNIST" if dataset.source.official else "not the published Fashion-MNIST files"
    print(f"{printable(dataset.source.location)}: {dataset.source.format} files, {origin}")
    for name, count in counts.items():
        print(f"{name}: {count.rows:,} images, {count.nulls} nulls, {count.duplicates} exact duplicates")
    equal = "equals" if overlap == 1 else "equal"
    print(f"overlap: {overlap:,} of the {len(dataset.test):,} test images {equal} a training image")
    lies = "light" if pixels.light_background else "dark"
    print(f"pixels: {pixels.low} to {pixels.high}, mean {pixels.mean:.1f}; on a {lies} background")
    print("first rows of the training table:")
    for row in (head.columns, *head.rows):
        cells = [f"{cell:>9}" for cell in row]
        print(*cells[:5], " ...", *cells[5:], sep="")
    table = Table("label", "class", *class_counts)
    for label, name in enumerate(dataset.source.class_names):
        table.add_row(str(label), Text(name), *(f"{count[label]:,}" for count in class_counts.values()))
    console.print(table)
    for name, digest in dataset.source.sha256.items():
        print(f"sha256 {digest}  {printable(name)}")


def _write_figures(dataset: Dataset, folder: Path) -> None:
    from fmnist.report.data_plots import data_plots

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in data_plots({"train": data.clean(dataset.train)[0], "test": dataset.test}).items():
            (folder / f"{name}.png").write_bytes(image)
            print(printable(str(folder / f"{name}.png")))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
