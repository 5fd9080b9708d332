"""``fmnist data``: describes and prepares a data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from fmnist.console import aside, console
from fmnist.data import CLASS_NAMES
from fmnist.options import command_parser


def data_info(source: str, as_json: bool) -> int:
    """Prints where images come from, their counts and checksums, and what cleaning finds."""
    from fmnist import data

    dataset = data.load(source, cache=data.default_cache(), progress=aside.print)
    counts = {"train": data.clean(dataset.train)[1], "test": data.clean(dataset.test)[1]}
    if as_json:
        print(
            json.dumps(
                {
                    **asdict(dataset.source),
                    **{name: asdict(count) for name, count in counts.items()},
                    "class_counts": {"train": dataset.train.class_counts(), "test": dataset.test.class_counts()},
                },
                indent=2,
            )
        )
        return 0
    origin = "the published Fashion-MNIST" if dataset.source.official else "not the published Fashion-MNIST files"
    print(f"{dataset.source.location}: {dataset.source.format} files, {origin}")
    for name, count in counts.items():
        print(f"{name}: {count.rows:,} images, {count.nulls} nulls, {count.duplicates} exact duplicates")
    table = Table("label", "class", "train", "test")
    for label, name in enumerate(CLASS_NAMES):
        table.add_row(
            str(label), name, f"{dataset.train.class_counts()[label]:,}", f"{dataset.test.class_counts()[label]:,}"
        )
    console.print(table)
    for name, digest in dataset.source.sha256.items():
        print(f"sha256 {digest}  {name}")
    return 0


def prepare_data(source: str, figures: str | None) -> int:
    """Obtains and checks the data for later jobs, and draws the study's figures of it."""
    from fmnist import data

    dataset = data.load(source, cache=data.default_cache(), progress=aside.print)
    print(f"{dataset.source.location}: {len(dataset.train):,} training and {len(dataset.test):,} test images, checked")
    if figures:
        from fmnist.report.data_plots import data_plots

        folder = Path(figures)
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in data_plots({"train": data.clean(dataset.train)[0], "test": dataset.test}).items():
            (folder / f"{name}.png").write_bytes(image)
            print(folder / f"{name}.png")
    return 0


def run(arguments: list[str]) -> int:
    """Runs ``fmnist data`` with the arguments behind its name; returns the exit code."""
    parser = command_parser("fmnist data", "Describes and prepares a data set.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|prepare")
    info = actions.add_parser("info", help="where the images come from, counts, nulls, duplicates, checksums")
    prepare = actions.add_parser("prepare", help="obtain and check them now, and draw the study's figures")
    for action in (info, prepare):
        action.add_argument("--data", default="auto", help="as for train (default: auto)")
    info.add_argument("--json", action="store_true", help="print the summary as JSON")
    prepare.add_argument("--figures", metavar="DIR", help="folder for the figures; none are drawn if not given")
    options = parser.parse_args(arguments)

    if options.action == "info":
        return data_info(options.data, options.json)
    return prepare_data(options.data, options.figures)
