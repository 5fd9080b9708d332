"""``fmnist audit``: says what makes the figures of a run, or of anybody's data and predictions, unreliable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fmnist.console import aside
from fmnist.data.audit import Check
from fmnist.errors import DataError, first_line, printable
from fmnist.files import local_path, open_regular
from fmnist.options import CommandParser

if TYPE_CHECKING:
    import pandas as pd

STATUS = {True: "found", False: "nothing", None: "not checked"}
# Names that people give to the columns; the first one that a table has counts.
PREDICTED = ("predicted", "prediction", "predictions", "pred", "y_pred")
CHOSEN_BY = ("val_accuracy", "val_acc", "score")
OF_FOLD = ("held_out_accuracy", "test_accuracy", "accuracy")
FOLD_IMAGES = ("held_out_images", "test_images", "images")


def run(arguments: list[str]) -> int:
    """Runs ``fmnist audit``; returns 1 if a check found something."""
    parser = CommandParser(
        prog="fmnist audit",
        description="Says what makes a run's figures, or anybody's data and predictions, unreliable.",
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="id of a finished run")
    parser.add_artifacts()
    parser.add_argument("--data", help="images to look at instead of a run, as for train; CSV and IDX may be mixed")
    parser.add_argument("--predictions", metavar="FILE", help="CSV: a row for each test image, with a column predicted")
    parser.add_argument("--history", metavar="FILE", help="CSV: a row for each epoch, with a column val_accuracy")
    parser.add_argument("--trials", metavar="FILE", help="CSV: a row for each trial, with a column val_accuracy")
    parser.add_argument("--folds", metavar="FILE", help="CSV: a row for each fold, with columns accuracy and images")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    others = [name for name in ("data", "predictions", "history", "trials", "folds") if getattr(options, name)]
    if bool(options.run) == bool(others):
        found = f"{options.run} and --{others[0]}" if others else "neither"
        parser.error(f"found {found}, expected a run, or --data or --folds")
    for name, needed in (("predictions", "data"), ("history", "predictions"), ("trials", "predictions")):
        if getattr(options, name) and not getattr(options, needed):
            parser.error(f"--{name}: found no --{needed}, expected one to compare with")

    checks = list(_run_checks(options) if options.run else _checks(options))
    problems = sum(check.found is True for check in checks)
    if options.json:
        shown = [{**asdict(check), "found": STATUS[check.found]} for check in checks]
        print(json.dumps({"subject": options.run or options.data or options.folds, "checks": shown}, indent=2))
    else:
        for check in checks:
            print(printable(f"{STATUS[check.found]:<11}  {check.name}: {check.text}"))
        print(f"{problems} of {len(checks)} checks found something")
    return 1 if problems else 0


def _run_checks(options: Any) -> Iterator[Check]:
    from fmnist.runs import RunFolder
    from fmnist.runs.audit import audit_run
    from fmnist.storage import open_store

    return audit_run(RunFolder(open_store(options.artifacts), options.run))


def _checks(options: Any) -> Iterator[Check]:
    from fmnist import data
    from fmnist.data.audit import audit_data
    from fmnist.runs import audit

    # First, as they are read at once.
    folds = _fold_checks(options.folds) if options.folds else []
    choices = [
        (audit.EPOCH, "epochs", options.history),
        (audit.POINT, "trials", options.trials),
    ]
    tables = [(name, what, path, _shares(*_column(path, CHOSEN_BY))) for name, what, path in choices if path]
    predicted = _column(options.predictions, PREDICTED)[1] if options.predictions else None
    if options.data:
        dataset = data.load(options.data, progress=aside.print, mixed=True)
        published = None
        if not dataset.source.official:
            try:
                published = data.load("auto", progress=aside.print)
            except DataError as error:
                aside.print(str(error))
        yield from audit_data(dataset, published)
        if predicted is not None:
            classes = _classes(options.predictions, predicted, len(dataset.test))
            known = data.equal_to_any(dataset.test, dataset.train)
            yield from audit.audit_predictions(classes, dataset.test.labels, known)
            accuracy = float((classes == dataset.test.labels).mean())
            for name, what, _, values in tables:
                yield audit.audit_choice(name, what, values, accuracy)
    yield from folds


def _fold_checks(path: str) -> list[Check]:
    import pandas as pd

    from fmnist.runs.audit import audit_folds

    table = _table(path)
    # A run's folds.csv has both protocols.
    names = table["weights"].astype(str) if "weights" in table else pd.Series("", table.index)
    parts = {str(name): rows for name, rows in table.groupby(names)}
    checks = []
    for name, rows in parts.items():
        numbers = rows["fold"].tolist() if "fold" in rows else list(range(1, len(rows) + 1))
        images = _column(path, FOLD_IMAGES, rows)[1].tolist()
        accuracies = _shares(*_column(path, OF_FOLD, rows))
        if len(set(numbers)) < 2 or min(images) < 1:
            raise DataError(f"{path}: found {len(rows)} folds, expected two or more, each with its number of images")
        check = audit_folds(numbers, accuracies, images)
        checks.append(Check(f"{check.name} ({name})" if name else check.name, check.found, check.count, check.text))
    return checks


def _table(path: str) -> pd.DataFrame:
    import pandas as pd

    with open_regular(local_path(path), path, DataError) as file:
        try:
            table = pd.read_csv(file)
        except (ValueError, UnicodeError) as error:
            raise DataError(f"{path}: not CSV: {first_line(error)}") from error
    if table.empty:
        raise DataError(f"{path}: found no rows, expected some")
    return table


def _column(path: str, names: tuple[str, ...], table: pd.DataFrame | None = None) -> tuple[str, pd.Series]:
    """Returns the path and the first of these columns that a table has, of finite numbers."""
    import numpy as np

    table = _table(path) if table is None else table
    name = next((name for name in names if name in table), None)
    if name is None:
        columns = ", ".join(map(str, table.columns[:8]))
        raise DataError(f"{path}: found the columns {columns}, expected one of {', '.join(names)}")
    column = table[name]
    if column.dtype.kind not in "iuf" or not np.isfinite(column).all():
        raise DataError(f"{path}: column {name}: found other than finite numbers")
    return path, column


def _shares(path: str, column: pd.Series) -> list[float]:
    """Returns accuracies as shares of 1; people write per cent, too."""
    values = column / 100 if column.max() > 1 else column
    if values.min() < 0 or values.max() > 1:
        raise DataError(
            f"{path}: column {column.name}: found {column.min():g} to {column.max():g}, expected accuracies"
        )
    return values.tolist()


def _classes(path: str, predicted: pd.Series, images: int) -> Any:
    if len(predicted) != images:
        raise DataError(f"{path}: found {len(predicted):,} rows, expected {images:,}, one for each test image")
    if not predicted.isin(range(10)).all():
        raise DataError(f"{path}: column {predicted.name}: found other values, expected the labels 0 to 9")
    return predicted.to_numpy().astype(int)
