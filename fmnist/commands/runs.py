"""``fmnist runs``: the runs of a store."""

from __future__ import annotations

import json
import re
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.progress import Progress

from fmnist import runs
from fmnist.commands.reproduction import reproduce_run
from fmnist.console import aside, console, plural, print_table, rounded
from fmnist.errors import RunError, StoreError, UserError, printable
from fmnist.files import local_path
from fmnist.options import CommandParser, settings_yaml
from fmnist.runs import (
    CONFIG,
    LOGS,
    METRICS,
    TENSORBOARD,
    TEST_ACCURACY,
    TEST_ACCURACY_INTERVAL,
    Number,
    Pairs,
    RunComparison,
    RunFolder,
)
from fmnist.runs.comparison import leaves
from fmnist.runs.documents import Names
from fmnist.runs.listing import ALL, SORTS, STATUSES, Selection
from fmnist.storage import FolderStore, S3Store, open_store
from fmnist.tracking.records import read_run
from fmnist.tracking.tracker import Tracker, beside, check_installed, open_tracker, send
from fmnist.workflows import JOBS

NOTHING = "-"

Row = tuple[str, str, str, str, str]


def list_runs(location: str, selection: Selection = ALL, as_json: bool = False) -> int:
    """Prints runs of a store: a table in a terminal, plain numbers with tabs between where the output is piped."""
    store = open_store(location)
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise StoreError(f"{location}: no such folder, expected an artifact store")
    if isinstance(store, S3Store):
        # Two quick attempts: a wrong address is an error at once.
        store.versions()
    selected = selection.of(runs.list_runs(store))
    if as_json:
        print(json.dumps([asdict(run) for run in selected], indent=2))
        return 0
    rows = []
    for run in selected:
        accuracy, held_out = (NOTHING if v is None else f"{v:.4f}" for v in (run.test_accuracy, run.held_out_accuracy))
        status = run.status
        if console.is_terminal:
            status += f": {run.problem}" if run.problem else ""
            if run.test_accuracy is None and run.held_out_accuracy is not None:
                accuracy = f"{held_out} (held out)"
            others = [NOTHING if run.seconds is None else rounded(run.seconds)]
        else:
            others = [NOTHING if run.seconds is None else f"{run.seconds:.0f}", held_out, run.problem or NOTHING]
        rows.append((run.run_id, run.job or NOTHING, status, accuracy, run.finished or NOTHING, *others))
    columns = ("took",) if console.is_terminal else ("seconds", "held-out accuracy", "problem")
    print_table(("run", "job", "status", "test accuracy", "finished", *columns), rows)
    return 0


def _since(text: str) -> str:
    """Returns the UTC time that a text means, as `RunSummary` has it."""
    try:
        if ago := re.fullmatch(r"(\d+)([dh])", text):
            time = datetime.now(UTC) - timedelta(**{{"d": "days", "h": "hours"}[ago[2]]: int(ago[1])})
        else:
            time = datetime.fromisoformat(text)
            time = time.astimezone(UTC) if time.tzinfo else time
    except (ValueError, OverflowError):
        expected = "a UTC time such as 2026-11-23 or 2026-11-23T18:45, or an age such as 7d or 12h"
        raise ArgumentTypeError(f"found {text}, expected {expected}") from None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def show_run(run: RunFolder) -> int:
    """Prints a finished run's metrics, settings and files, as the job stored them."""
    manifest = run.manifest()
    metrics = run.get_record(METRICS, Names)
    settings = run.get_yaml(CONFIG, Names)
    print(f"run {run.location}: {printable(manifest.job)}, finished {printable(manifest.created)}")
    print("metrics:")
    rows = [(printable(name), text) for name, text in _scalar_texts(metrics)]
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"  {name:{width}}  {text}")
    for name, value in leaves(metrics):
        if isinstance(value, list) and value and all(isinstance(record, dict) for record in value):
            print(f"  {printable(name)}:")
            for record in value:
                print("    " + ", ".join(f"{printable(key)} {text}" for key, text in _scalar_texts(record)))
    print("settings:")
    for line in settings_yaml(settings).splitlines():
        print(f"  {printable(line)}")
    print("files:")
    for file in manifest.files:
        print(f"  {file.size:>12,}  {file.path}")
    return 0


def _scalar_texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the names, with dots, and the texts of all values that are not lists, and of lists of such values."""
    for name, value in leaves(values):
        if not isinstance(value, list):
            yield name, _short(value)
        elif not any(isinstance(one, (list, dict)) for one in value):
            yield name, ", ".join(map(_short, value))


def _short(value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:{_style(value)}}" if number else printable(_text(value))


def compare_runs(location: str, a: str, b: str, everything: bool, as_json: bool) -> int:
    """Prints two finished runs side by side: the settings that differ, then the metrics with the difference B - A.

    Args:
        location: of the artifact store.
        a, b: ids of two runs, of the same job or not.
        everything: print also the settings that are the same, and the values that only one of the runs has.
        as_json: print one JSON document, which always has all values.
    """
    comparison = runs.compare_runs(open_store(location), a, b)
    if as_json:
        print(json.dumps(_comparison_as_json(comparison), indent=2))
        return 0
    facts = [("run", name, _text(of_a), _text(of_b), "") for name, (of_a, of_b) in comparison.facts.items()]
    settings, metrics = _setting_rows(comparison.settings, everything), _metric_rows(comparison, everything)
    print_table(("what", "name", a, b, "difference"), [*settings], facts, [*metrics])
    return 0


def _setting_rows(settings: Pairs, everything: bool) -> Iterator[Row]:
    different, same = _by_difference(settings)
    for name, (a, b) in (different | same if everything else different).items():
        yield "setting", name, _text(a), _text(b), ""
    if same and not everything:
        yield "setting", "(the same in both)", str(len(same)), str(len(same)), ""
    yield from _unshared_rows("setting", settings, everything)


def _by_difference(settings: Pairs) -> tuple[dict[str, tuple[Any, Any]], dict[str, tuple[Any, Any]]]:
    """Returns the shared settings that differ, and those that are the same."""
    different = {name: pair for name, pair in settings.shared.items() if pair[0] != pair[1]}
    return different, {name: pair for name, pair in settings.shared.items() if name not in different}


def _metric_rows(comparison: RunComparison, everything: bool) -> Iterator[Row]:
    metrics = comparison.metrics
    overlap = comparison.test_accuracy_intervals_overlap
    for name, (a, b) in metrics.shared.items():
        # The interval is one row, below the accuracy.
        if overlap is None or name not in TEST_ACCURACY_INTERVAL:
            style = _style(a, b)
            yield "metric", name, f"{a:{style}}", f"{b:{style}}", f"{b - a:+{style}}"
        if overlap is not None and name == TEST_ACCURACY:
            (low_a, low_b), (high_a, high_b) = (metrics.shared[end] for end in TEST_ACCURACY_INTERVAL)
            intervals = f"{low_a:.4f}-{high_a:.4f}", f"{low_b:.4f}-{high_b:.4f}"
            yield "metric", f"{name} (95 % interval)", *intervals, "overlap" if overlap else "no overlap"
    yield from _unshared_rows("metric", metrics, everything)


def _unshared_rows(what: str, pairs: Pairs, everything: bool) -> Iterator[Row]:
    if everything:
        for name, value in pairs.only_a.items():
            yield what, name, _text(value), NOTHING, ""
        for name, value in pairs.only_b.items():
            yield what, name, NOTHING, _text(value), ""
    elif pairs.only_a or pairs.only_b:
        yield what, "(only in this run)", str(len(pairs.only_a)), str(len(pairs.only_b)), ""


def _style(*numbers: Number) -> str:
    """Returns one format for all of a row's numbers, so that they can be compared digit by digit."""
    if all(isinstance(number, int) for number in numbers):
        return "d"
    largest = max(map(abs, numbers))
    if largest >= 100:
        return ".1f"
    return ".4f" if largest >= 0.01 or largest == 0 else ".2e"


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _comparison_as_json(comparison: RunComparison) -> dict[str, Any]:
    settings, metrics = comparison.settings, comparison.metrics
    different, same = _by_difference(settings)
    return {
        "runs": {"a": comparison.a, "b": comparison.b},
        "facts": {name: {"a": a, "b": b} for name, (a, b) in comparison.facts.items()},
        "settings": {
            "different": {name: {"a": a, "b": b} for name, (a, b) in different.items()},
            "same": {name: a for name, (a, _) in same.items()},
            "only_a": settings.only_a,
            "only_b": settings.only_b,
        },
        "metrics": {
            "shared": {name: {"a": a, "b": b, "difference": b - a} for name, (a, b) in metrics.shared.items()},
            "only_a": metrics.only_a,
            "only_b": metrics.only_b,
        },
        "test_accuracy_intervals_overlap": comparison.test_accuracy_intervals_overlap,
    }


def verify_run(run: RunFolder) -> int:
    """Compares a run's files with its manifest; 1 if one is missing or differs."""
    problems = run.verify()
    for problem in problems:
        print(f"{'note' if problem.is_note else 'damaged'}: {printable(str(problem))}")
    damaged = sum(not problem.is_note for problem in problems)
    files = len(run.manifest().files)
    print(f"{run.location}: {damaged} of {files} files damaged" if damaged else f"{run.location}: {files} files intact")
    return 1 if damaged else 0


def pull_run(run: RunFolder, target: Path) -> int:
    """Fetches a run's files into a folder and checks each."""
    with Progress(console=aside, disable=not aside.is_terminal, transient=True) as bar:
        task = bar.add_task("pulling", total=sum(file.size for file in run.manifest().files))
        pulled = run.pull(target, lambda file, _fetched: bar.advance(task, file.size))
    fetched = f"{pulled.fetched} files fetched ({pulled.bytes:,} bytes)"
    print(f"{printable(str(target))}: {fetched}, {pulled.kept} were there; all verified")
    return 0


def show_logs(run: RunFolder) -> int:
    """Prints the logs of all attempts at a run, finished or not, in the order of their start."""
    paths = sorted(path for path in run.files() if path.startswith(f"{LOGS}/"))
    if not paths:
        raise RunError(f"{run.location}: found no {LOGS}/, expected what the run's jobs have printed")
    for path in paths:
        print(f"==> {printable(path)} <==")
        for line in run.get_bytes(path).decode(errors="replace").splitlines():
            print(printable(line))
    return 0


def track_runs(location: str, run_ids: list[str], tracker: Tracker) -> int:
    """Sends what a tracker lacks of runs, finished or not, and of pipelines their stages."""
    store = open_store(location)
    for run_id in run_ids:
        record = read_run(RunFolder(store, run_id))
        send(record, tracker)
        epochs = sum(len(part.rows) for part in record.parts)
        print(f"{record.folder.location}: {'finished' if record.finished else 'unfinished'}, {plural(epochs, 'epoch')}")
    return 0


def run(arguments: list[str]) -> int:
    """Runs ``fmnist runs`` with the arguments behind its name; returns the exit code."""
    description = "Lists, shows, compares, reproduces, fetches, verifies and tracks runs of a store."
    parser = CommandParser(prog="fmnist runs", description=description, allow_abbrev=False)
    names = "list|show|logs|compare|reproduce|pull|verify|track"
    actions = parser.add_subparsers(dest="action", required=True, metavar=names)
    listing = actions.add_parser("list", help="every run: job, status, accuracy, when, how long")
    listing.add_argument("--job", choices=list(JOBS), help="only runs of this job")
    listing.add_argument("--status", choices=STATUSES, help="only runs of this status")
    since = "only runs that finished since this time, such as 2026-11-23, 2026-11-23T18:45 (UTC), 7d or 12h"
    listing.add_argument("--since", type=_since, metavar="TIME", help=since)
    order = "what the runs are sorted by; accuracies, times and seconds with the greatest first (default: run_id)"
    listing.add_argument("--sort", choices=SORTS, default="run_id", help=order)
    listing.add_argument("--json", action="store_true", help="print one JSON document")
    show = actions.add_parser("show", help="one run's metrics, settings and files")
    logs = actions.add_parser("logs", help="what a run's driver and workers have printed; of a run at work, so far")
    compare = actions.add_parser("compare", help="two finished runs side by side: settings that differ, then metrics")
    again = actions.add_parser(
        "reproduce", help="train a finished run again and compare epoch by epoch; exit code 1 if one differs"
    )
    pull = actions.add_parser("pull", help="fetch a run's files and check every sha256; an interrupted pull continues")
    verify = actions.add_parser("verify", help="compare a run's files with its manifest; exit code 1 if one differs")
    track = actions.add_parser("track", help="send runs to TensorBoard or MLflow, which then have all that is stored")
    for action in (listing, show, logs, compare, again, pull, verify, track):
        action.add_artifacts()
    for action in (show, logs, again, pull, verify):
        action.add_argument("run", metavar="RUN", help="run id")
    compare.add_argument("a", metavar="A", help="run id")
    compare.add_argument("b", metavar="B", help="run id; differences are B - A")
    compare.add_argument("--all", action="store_true", help="also equal settings, and values that only one of them has")
    compare.add_argument("--json", action="store_true", help="print one JSON document with all values")
    again.add_argument("--run-id", metavar="NEW", help="id of the new run (default: RUN-reproduced)")
    again.add_argument("--data", help="the run's images, as for train; its own source if not given")
    again.add_argument(
        "--workers", type=int, metavar="N", help="share this machine among N; the run's own if not given"
    )
    pull.add_argument("--to", default=".", metavar="DIR", help="parent of the fetched run folder (default: .)")
    track.add_argument("runs", nargs="+", metavar="RUN", help="run id; of a pipeline also its stages are sent")
    track.add_argument(
        "--to",
        required=True,
        nargs="+",
        metavar="TRACKER",
        help="tensorboard DIR (a folder or s3://bucket/prefix; beside the runs if not given), or mlflow, whose address "
        "is in MLFLOW_TRACKING_URI",
    )
    options = parser.parse_args(arguments)

    if options.action == "track":
        kind, *target = options.to
        if len(target) > (kind == TENSORBOARD):
            raise UserError(f"--to: found {' '.join(options.to)}, expected tensorboard, tensorboard DIR, or mlflow")
        check_installed(kind)
        where = target[0] if target else beside(options.artifacts)
        return track_runs(options.artifacts, options.runs, open_tracker(kind, where))
    if options.action == "list":
        selection = Selection(options.job, options.status, options.since, options.sort)
        return list_runs(options.artifacts, selection, options.json)
    if options.action == "compare":
        return compare_runs(options.artifacts, options.a, options.b, options.all, options.json)
    folder = RunFolder(open_store(options.artifacts), options.run)
    if options.action == "reproduce":
        return reproduce_run(folder, options.run_id or f"{options.run}-reproduced", options.data, options.workers)
    if options.action == "pull":
        return pull_run(folder, local_path(options.to) / options.run)
    if options.action == "logs":
        return show_logs(folder)
    return show_run(folder) if options.action == "show" else verify_run(folder)
