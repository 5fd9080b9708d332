"""The commands that look at the runs of a store. Each prints and returns an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import Progress

from fmnist import runs as stored
from fmnist.console import aside, console, print_table, rounded
from fmnist.options import add_artifacts, command_parser
from fmnist.runs import (
    BEST,
    CANDIDATES_TABLE,
    CONFIG,
    FOLDS_TABLE,
    METRICS,
    TEST_ACCURACY,
    TEST_ACCURACY_INTERVAL,
    TRIALS_TABLE,
    Number,
    Pairs,
    RunComparison,
    RunFolder,
    RunSummary,
)
from fmnist.storage import open_store

NOTHING = "-"

Row = tuple[str, str, str, str, str]


def list_runs(location: str) -> int:
    """Prints the runs of a store: for a person in a terminal, with plain numbers where the output is piped."""
    store = open_store(location)
    store.check()
    runs = stored.list_runs(store)
    columns = ("run", "job", "status", "test accuracy", "finished")
    if console.is_terminal:
        print_table((*columns, "took"), [_row_for_a_person(run) for run in runs])
    else:
        print_table((*columns, "seconds", "held-out accuracy"), [_row_for_a_program(run) for run in runs])
    return 0


def _row_for_a_person(run: RunSummary) -> tuple[str, ...]:
    if run.test_accuracy is None and run.held_out_accuracy is not None:
        accuracy = f"{run.held_out_accuracy:.4f} (held out)"
    else:
        accuracy = _share(run.test_accuracy)
    took = NOTHING if run.seconds is None else rounded(run.seconds)
    return run.run_id, run.job or NOTHING, run.status, accuracy, run.finished or NOTHING, took


def _row_for_a_program(run: RunSummary) -> tuple[str, ...]:
    seconds = NOTHING if run.seconds is None else f"{run.seconds:.0f}"
    accuracies = _share(run.test_accuracy), _share(run.held_out_accuracy)
    return run.run_id, run.job or NOTHING, run.status, accuracies[0], run.finished or NOTHING, seconds, accuracies[1]


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def show_run(location: str, run_id: str) -> int:
    """Prints a finished run's result, settings and files."""
    run = RunFolder(open_store(location), run_id)
    manifest = run.manifest()
    metrics = run.get_json(METRICS)
    print(
        f"run {run.location}: {manifest.job}, finished {metrics['finished']} after {metrics['seconds']['total']:.0f} s"
    )
    if test := metrics.get("test"):
        print(
            f"test accuracy {test['accuracy']:.4f} (95 % interval {test['accuracy_low']:.4f}-"
            f"{test['accuracy_high']:.4f}), best epoch {metrics['best_epoch']} of {metrics['epochs']} with "
            f"val_accuracy {metrics['val']['accuracy']:.4f}"
        )
    if held_out := metrics.get("held_out"):
        print(
            f"held-out accuracy {held_out['accuracy']:.4f} +- {held_out['accuracy_sd']:.4f} over {metrics['folds']} "
            f"folds (95 % interval of the mean {held_out['accuracy_low']:.4f}-{held_out['accuracy_high']:.4f}; "
            f"{FOLDS_TABLE})"
        )
    if search := metrics.get("search"):
        print(
            f"search: {search['trials']} trials, {search['failed']} failed, {search['epochs']} epochs; best "
            f"trial {search['winner']} with val_accuracy {search['val_accuracy']:.4f} ({TRIALS_TABLE}, {BEST})"
        )
    for one in metrics.get("candidates", ()):
        print(
            f"{one['backbone']}, {one['phase']}: test accuracy {one['test']['accuracy']:.4f}, val_accuracy "
            f"{one['val_accuracy']:.4f}, {one['trained_parameters']:,} of {one['parameters']:,} parameters trained "
            f"({CANDIDATES_TABLE})"
        )
    for stage in metrics.get("stages", ()):
        print(f"{stage['name']}: {stage['status']}, {stage['reason'] or 'run ' + stage['run_id']}")
    print("settings:")
    for line in run.get_bytes(CONFIG).decode().splitlines():
        print(f"  {line}")
    print("files:")
    for file in manifest.files:
        print(f"  {file.size:>12,}  {file.path}")
    return 0


def compare_runs(location: str, a: str, b: str, everything: bool, as_json: bool) -> int:
    """Prints two finished runs side by side: the settings that differ, then what came out, with the difference B - A.

    Args:
        location: of the artifact store.
        a: id of a run.
        b: id of another one, of the same job or not.
        everything: print the settings that are the same too, and what only one of the runs has.
        as_json: print one JSON document, which always has everything.
    """
    comparison = stored.compare_runs(open_store(location), a, b)
    if as_json:
        print(json.dumps(_comparison_as_json(comparison), indent=2))
        return 0
    facts = [("run", name, _text(of_a), _text(of_b), "") for name, (of_a, of_b) in comparison.facts.items()]
    print_table(
        ("what", "name", a, b, "difference"),
        [*_setting_rows(comparison.settings, everything)],
        facts,
        [*_metric_rows(comparison, everything)],
    )
    return 0


def _setting_rows(settings: Pairs, everything: bool) -> Iterator[Row]:
    for name, (a, b) in settings.shared.items():
        if a != b:
            yield "setting", name, _text(a), _text(b), ""
    same = {name: (a, b) for name, (a, b) in settings.shared.items() if a == b}
    if everything:
        for name, (a, b) in same.items():
            yield "setting", name, _text(a), _text(b), ""
    elif same:
        yield "setting", "(the same in both)", str(len(same)), str(len(same)), ""
    yield from _unshared_rows("setting", settings, everything)


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
    return {
        "runs": {"a": comparison.a, "b": comparison.b},
        "facts": {name: {"a": a, "b": b} for name, (a, b) in comparison.facts.items()},
        "settings": {
            "different": {name: {"a": a, "b": b} for name, (a, b) in settings.shared.items() if a != b},
            "same": {name: a for name, (a, b) in settings.shared.items() if a == b},
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


def verify_run(location: str, run_id: str) -> int:
    """Compares a run's files with its manifest; 1 if one is missing or differs."""
    run = RunFolder(open_store(location), run_id)
    problems = run.verify()
    for problem in problems:
        print(f"{'note' if problem.is_note else 'damaged'}: {problem}")
    damaged = sum(not problem.is_note for problem in problems)
    files = len(run.manifest().files)
    print(f"{run.location}: {damaged} of {files} files damaged" if damaged else f"{run.location}: {files} files intact")
    return 1 if damaged else 0


def pull_run(location: str, run_id: str, destination: str) -> int:
    """Fetches a run's files into ``destination/run_id`` and checks each."""
    run = RunFolder(open_store(location), run_id)
    target = Path(destination) / run_id
    with Progress(console=aside, disable=not aside.is_terminal, transient=True) as bar:
        task = bar.add_task("pulling", total=sum(file.size for file in run.manifest().files))
        pulled = run.pull(target, lambda file, _fetched: bar.advance(task, file.size))
    print(f"{target}: {pulled.fetched} files fetched ({pulled.bytes:,} bytes), {pulled.kept} were there; all verified")
    return 0


def run(arguments: list[str]) -> int:
    """Runs ``fmnist runs`` with the arguments behind its name; returns the exit code."""
    parser = command_parser("fmnist runs", "Looks at the runs of an artifact store.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|compare|pull|verify")
    listing = actions.add_parser("list", help="every run: job, status, accuracy, when, how long")
    show = actions.add_parser("show", help="one run's result, settings and files")
    compare = actions.add_parser("compare", help="two finished runs side by side: settings that differ, then metrics")
    pull = actions.add_parser("pull", help="fetch a run's files; goes on where it was interrupted, checks every sha256")
    verify = actions.add_parser("verify", help="compare a run's files with its manifest; exit code 1 if one differs")
    for action in (listing, show, compare, pull, verify):
        add_artifacts(action)
    for action in (show, pull, verify):
        action.add_argument("run", metavar="RUN", help="run id")
    compare.add_argument("a", metavar="A", help="run id")
    compare.add_argument("b", metavar="B", help="run id; differences are B - A")
    compare.add_argument("--all", action="store_true", help="also what is the same, and what only one of them has")
    compare.add_argument("--json", action="store_true", help="print one JSON document, which has everything")
    pull.add_argument("--to", default=".", metavar="DIR", help="folder that the run folder is put into (default: .)")
    options = parser.parse_args(arguments)

    if options.action == "list":
        return list_runs(options.artifacts)
    if options.action == "compare":
        return compare_runs(options.artifacts, options.a, options.b, options.all, options.json)
    if options.action == "pull":
        return pull_run(options.artifacts, options.run, options.to)
    command = {"show": show_run, "verify": verify_run}[options.action]
    return command(options.artifacts, options.run)
