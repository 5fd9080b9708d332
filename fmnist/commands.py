"""The commands that use saved models and obtain data and weights. Each prints and returns an exit code."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from rich.table import Table

from fmnist.artifacts import CONFIG, METRICS, MODEL, RunFolder, open_store
from fmnist.data import CLASS_NAMES
from fmnist.errors import RunError, UserError
from fmnist.output import aside, console

# Between machines the same model's probabilities differ by rounding, which can turn an image on the border of two
# classes; on one machine they are equal.
REPRODUCTION_TOLERANCE = 1e-6


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
