"""``fmnist export``: a run's model as a file of another runtime, compared with the run's own on the test images."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from fmnist.commands.models import load_run_model
from fmnist.console import aside
from fmnist.errors import FmnistError, UserError, printable
from fmnist.files import local_path
from fmnist.options import CommandParser
from fmnist.runs import CONFIG, MODEL, RunFolder
from fmnist.runs.documents import json_bytes
from fmnist.storage import open_store

if TYPE_CHECKING:
    from fmnist.data import Dataset
    from fmnist.training.export import Predictor

CALIBRATION_IMAGES = 500
TIMED_CALLS = 100
# Of a probability, without quantization: the runtimes' sums differ by rounding only.
LARGEST_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class ExportFigures:
    """How an exported file compares with the model that it was made of.

    Attributes:
        quantize: ``int8``, or None for float32.
        images: of the test set that both have predicted.
        accuracy, run_accuracy: of the file and of the run's model, 0 to 1.
        other_class: number of images for which the two predict different classes.
        greatest_difference: between two probabilities of the same image and class, 0 to 1.
        bytes: size of the file, or of all files of a SavedModel.
        milliseconds: median wall time of one image, on this machine's CPU or GPU.
    """

    run_id: str
    to: str
    quantize: str | None
    images: int
    accuracy: float
    run_accuracy: float
    other_class: int
    greatest_difference: float
    bytes: int
    milliseconds: float


@dataclass(frozen=True)
class _Settings:
    data: str
    seed: int = 0


def run(arguments: list[str]) -> int:
    """Runs ``fmnist export``: writes the file, and beside it the figures of its comparison as JSON."""
    from fmnist.training import export

    parser = CommandParser(
        prog="fmnist export",
        description="Writes a run's model for another runtime, and compares its predictions with the run's.",
        allow_abbrev=False,
    )
    parser.add_run()
    parser.add_argument("--to", required=True, choices=list(export.SUFFIXES), help="format of the file")
    parser.add_argument(
        "--quantize", choices=["int8"], help="of weights and activations, calibrated on training images"
    )
    parser.add_argument("--output", default=".", metavar="DIR", help="folder for the file (default: .)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument("--data", help="the images, as for train; the run's own source if not given")
    options = parser.parse_args(arguments)

    if options.quantize and options.to not in export.QUANTIZED:
        raise UserError(
            f"quantize: found {options.quantize} for {options.to}, expected {' or '.join(export.QUANTIZED)}"
        )
    export.check_libraries(options.to)
    folder = RunFolder(open_store(options.artifacts), options.run)
    quantized = f"-{options.quantize}" if options.quantize else ""
    target = local_path(options.output) / f"{folder.run_id}{quantized}{export.SUFFIXES[options.to]}"
    if target.exists() and not options.overwrite:
        raise UserError(f"{target}: exists already; take another --output, or --overwrite")
    model = load_run_model(folder)
    from fmnist import data

    settings = folder.get_yaml(CONFIG, _Settings)
    dataset = data.load(options.data or settings.data, progress=aside.print)
    images = data.take(dataset.train, CALIBRATION_IMAGES, settings.seed).pixels if options.quantize else None
    with _written(target) as (file, figures_file):
        try:
            predictor = export.export_model(model, options.to, file, images)
        except FmnistError as error:
            raise FmnistError(f"{folder.location}/{MODEL}: {error}") from error
        figures = _compare(model, predictor, dataset, file, folder.run_id, options.to, options.quantize)
        if not options.quantize and figures.greatest_difference > LARGEST_DIFFERENCE:
            found = f"its probabilities in {options.to} differ by {figures.greatest_difference:.1e}"
            raise FmnistError(f"{folder.location}/{MODEL}: {found}, expected {LARGEST_DIFFERENCE} at most")
        figures_file.write_bytes(json_bytes(asdict(figures)))
    _print(figures, target)
    return 0


@contextmanager
def _written(target: Path) -> Iterator[tuple[Path, Path]]:
    """Yields where to write an export and its figures; both get their names if the block ends without an error.

    Raises:
        UserError: if the folder cannot be written.
    """
    figures = target.with_name(f"{target.name}.json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as staging:
            yield Path(staging, target.name), Path(staging, figures.name)
            if target.is_dir():
                shutil.rmtree(target)
            Path(staging, target.name).replace(target)
            Path(staging, figures.name).replace(figures)
    except OSError as error:
        raise UserError(f"{error.filename or target}: cannot be written: {error.strerror or error}") from error


def _compare(
    model: object, predictor: Predictor, dataset: Dataset, file: Path, run_id: str, to: str, quantize: str | None
) -> ExportFigures:
    from fmnist.training.export import predict
    from fmnist.training.inference import probabilities

    pixels, labels = dataset.test.pixels, dataset.test.labels
    expected, found = probabilities(model, pixels), predict(predictor, pixels)
    seconds = []
    predictor(pixels[:1])
    for image in range(TIMED_CALLS):
        one = pixels[image % len(pixels)][None]
        began = time.perf_counter()
        predictor(one)
        seconds.append(time.perf_counter() - began)
    return ExportFigures(
        run_id=run_id,
        to=to,
        quantize=quantize,
        images=len(labels),
        accuracy=float((found.argmax(axis=1) == labels).mean()),
        run_accuracy=float((expected.argmax(axis=1) == labels).mean()),
        other_class=int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        greatest_difference=float(np.abs(found - expected).max()),
        bytes=sum(path.stat().st_size for path in (file, *file.rglob("*")) if path.is_file()),
        milliseconds=1000 * median(seconds),
    )


def _print(figures: ExportFigures, path: Path) -> None:
    print(f"{printable(str(path))}: {figures.bytes:,} bytes, {figures.milliseconds:.2f} ms for one image")
    print(
        f"on {figures.images:,} test images: accuracy {figures.accuracy:.4f} (run {figures.run_id}: "
        f"{figures.run_accuracy:.4f}), another class for {figures.other_class:,} of them, probabilities differ by "
        f"{figures.greatest_difference:.1e} at most"
    )
