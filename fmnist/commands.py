"""The commands that look at what is there: runs, saved models, data. Each prints and returns an exit code."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fmnist import artifacts
from fmnist.artifacts import (
    BEST,
    CANDIDATES_TABLE,
    CONFIG,
    FOLDS_TABLE,
    METRICS,
    MODEL,
    TRIALS_TABLE,
    RunFolder,
    open_store,
)
from fmnist.data import CLASS_NAMES
from fmnist.errors import RunError, UserError

console = Console(highlight=False, soft_wrap=True)
# Progress goes to standard error: what a command prints can be piped.
aside = Console(highlight=False, soft_wrap=True, stderr=True)

# Between machines the same model's probabilities differ by rounding, which can turn an image on the border of two
# classes; on one machine they are equal.
REPRODUCTION_TOLERANCE = 1e-6


def list_runs(location: str) -> int:
    """Prints the runs of a store as a table, or tab-separated where the output is not a terminal."""
    store = open_store(location)
    store.check()
    header = ("run", "job", "status", "test accuracy", "finished", "seconds")
    rows = [
        (
            run.run_id,
            run.job or "-",
            run.status,
            "-" if run.test_accuracy is None else f"{run.test_accuracy:.4f}",
            run.finished or "-",
            "-" if run.seconds is None else f"{run.seconds:.0f}",
        )
        for run in artifacts.list_runs(store)
    ]
    if not console.is_terminal:
        for row in (header, *rows):
            print(*row, sep="\t")
        return 0
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return 0


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
    print("settings:")
    for line in run.get_bytes(CONFIG).decode().splitlines():
        print(f"  {line}")
    print("files:")
    for file in manifest.files:
        print(f"  {file.size:>12,}  {file.path}")
    return 0


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


def evaluate(location: str, run_id: str, source: str | None, as_json: bool) -> int:
    """Measures a run's saved model on the raw test images; 1 if that is not the accuracy the run recorded.

    Args:
        location: of the artifact store.
        run_id: of a finished run.
        source: where the test images are; the run's own source if None, and then the accuracy has to be the run's.
        as_json: print the metrics as JSON.
    """
    run = RunFolder(open_store(location), run_id)
    _check_model(run)
    from fmnist import data
    from fmnist.evaluation import evaluate as evaluate_probabilities
    from fmnist.inference import probabilities

    recorded = run.get_json(METRICS)["test"]["accuracy"]
    wanted = source or yaml.safe_load(run.get_bytes(CONFIG))["data"]
    test = data.load(wanted, cache=data.default_cache(), progress=aside.print).test
    measured = evaluate_probabilities(test.labels, probabilities(_model(run), test.pixels))
    difference = measured.accuracy - recorded
    if as_json:
        print(json.dumps({**measured.as_dict(), "recorded_accuracy": recorded}))
    else:
        print(
            f"run {run_id} on {measured.images:,} test images: accuracy {measured.accuracy:.6f} (95 % interval "
            f"{measured.accuracy_low:.4f}-{measured.accuracy_high:.4f}), loss {measured.loss:.4f}; "
            f"the run recorded {recorded:.6f}, difference {difference:+.1e}"
        )
    return 0 if source or abs(difference) <= REPRODUCTION_TOLERANCE else 1


def predict(
    location: str, run_id: str, images: list[str], background: Literal["auto", "light", "dark"], as_json: bool
) -> int:
    """Prints what pictures show, with the probabilities of all classes."""
    from fmnist.pictures import read_pictures

    pictures = [picture for image in images for picture in read_pictures(image, background)]
    run = RunFolder(open_store(location), run_id)
    _check_model(run)
    from fmnist.inference import probabilities

    predicted = probabilities(_model(run), np.stack([picture.pixels for picture in pictures]))
    answers: list[dict[str, Any]] = [
        {
            "image": picture.name,
            "background": picture.background,
            "label": int(chances.argmax()),
            "class": CLASS_NAMES[int(chances.argmax())],
            "probabilities": dict(zip(CLASS_NAMES, (round(float(chance), 6) for chance in chances), strict=True)),
        }
        for picture, chances in zip(pictures, predicted, strict=True)
    ]
    if as_json:
        print(json.dumps({"run": run_id, "predictions": answers}, indent=2))
        return 0
    for answer in answers:
        print(f"{answer['image']} ({answer['background']} background assumed): {answer['class']}")
        for name, chance in sorted(answer["probabilities"].items(), key=lambda item: -item[1]):
            print(f"  {name:<12} {chance:7.2%} {'█' * round(30 * chance)}".rstrip())
    return 0


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
    """Obtains and checks the data, so that later jobs find it, and draws the study's figures of it."""
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


def fetch_weights(backbone: str, source: str, destination: str) -> int:
    """Puts pretrained weights into a folder or a bucket, one file a backbone.

    Args:
        backbone: of ``fmnist.recipes.FACTS``, or all.
        source: as ``fmnist.weights.obtain_weights`` takes it.
        destination: a folder or ``s3://bucket/prefix``.

    Raises:
        UserError: if there are no such weights, or the destination cannot be written.
    """
    from fmnist.recipes import FACTS
    from fmnist.weights import SUFFIX, stage_weights

    if backbone == "all" and source.endswith(SUFFIX):
        raise UserError(f"weights fetch: --backbone: found all, expected the one whose weights {source} holds")
    for name in FACTS if backbone == "all" else [backbone]:
        weights, place = stage_weights(name, source, destination, aside.print)
        print(f"{weights.name}: {weights.path.stat().st_size:,} bytes, sha256 {weights.sha256}, now {place}")
    return 0


def _check_model(run: RunFolder) -> None:
    """Sees that a run has finished, and with a model.

    Raises:
        RunError: if it has not.
    """
    manifest = run.manifest()
    if not any(file.path == MODEL for file in manifest.files):
        raise RunError(f"{run.location}: a {manifest.job} run has no {MODEL}, expected one of train, tune or transfer")


def _model(run: RunFolder) -> Any:
    from fmnist.inference import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        run.get_file(MODEL, path)
        return load_model(path)
