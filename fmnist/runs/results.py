"""The results of a job: typed metrics, and the files of a finished run, written in one order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fmnist.errors import first_line
from fmnist.runs.files import ENVIRONMENT, METRICS, PLOTS, PREDICTIONS, REPORT
from fmnist.runs.folder import RunFolder
from fmnist.training.evaluation import Evaluation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What ``metrics.json`` has for every job; each job's own class adds to it.

    Attributes:
        started, finished: UTC, such as ``2026-11-23T18:45:00Z``.
        seconds: wall or processor time by what it went into; ``total`` is the wall time of the whole run.
    """

    job: str
    run_id: str
    started: str
    finished: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class SetScores:
    """A model's scores on one set of images: mean loss in nats, accuracy from 0 to 1, number of images."""

    loss: float
    accuracy: float
    images: int


@dataclass(frozen=True, kw_only=True)
class ModelMetrics(Metrics):
    """What ``metrics.json`` has for a job that leaves a model.

    Attributes:
        model: name of the model, search space or backbone.
        seed: of the split, the initial weights and the order of the images.
        precision: of the products, ``float32`` or ``bfloat16``.
        epochs: how many the model was trained.
        best_epoch: the epoch, from 1, whose weights were kept.
        train, val: scores of the kept epoch.
        test: the saved model on the test images.
        restarts: how often workers were started again.
    """

    model: str
    parameters: int
    seed: int
    precision: str
    epochs: int
    best_epoch: int
    train: SetScores
    val: SetScores
    test: Evaluation
    restarts: int


AnyMetrics = TypeVar("AnyMetrics", bound=Metrics)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The files that a job writes when its work is done.

    Attributes:
        metrics: content of ``metrics.json``.
        environment: content of ``environment.json``: as written at the start, and what the work itself found.
        page: content of ``report.html``.
        plots: PNG by name.
        tables: CSV files by path; the probabilities of ``predictions.csv`` have six digits.
        files: content of other files by path.
        temporary: files and folders that only an unfinished run needs; they are deleted after the manifest is written.
    """

    metrics: Metrics
    environment: Mapping[str, Any]
    page: str
    plots: Mapping[str, bytes]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    temporary: Sequence[str] = ()


def write_results(run: RunFolder, results: Results) -> None:
    """Writes all files but the manifest."""
    for path, content in results.files.items():
        run.put_bytes(path, content)
    for path, table in results.tables.items():
        digits = {"float_format": "%.6g"} if path.endswith(PREDICTIONS) else {}
        run.put_csv(path, table, **digits)
    for name, image in results.plots.items():
        run.put_bytes(f"{PLOTS}/{name}.png", image)
    run.put_json(ENVIRONMENT, results.environment)
    run.put_bytes(REPORT, results.page.encode(errors="backslashreplace"))
    run.put_json(METRICS, asdict(results.metrics))


def finish_run(run: RunFolder, results: Results, lines: Sequence[str], note: Callable[[str], None]) -> None:
    """Writes the manifest, prints where the results are, and deletes the temporary files.

    With the manifest the run is finished. A failure afterwards is one line on standard error and no error of the job.

    Args:
        results: as they were written.
        lines: to show then.
        note: shows a line.

    Raises:
        IntegrityError: if a file that was written is gone or has another size.
    """
    metrics = results.metrics
    run.finish(metrics.job, without=results.temporary)
    try:
        for line in lines:
            note(line)
        note(f"finished in {metrics.seconds['total']:.0f} s: {run.location}/{REPORT}")
        for path in results.temporary:
            # In this order: a folder store cannot delete a folder as a file.
            run.store.delete_folder(f"{run.run_id}/{path}")
            run.delete(path)
    except Exception as error:
        with suppress(OSError):
            print(f"fmnist: run {run.run_id} is finished, but: {first_line(error)}", file=sys.stderr)


def read_metrics(run: RunFolder, record: type[AnyMetrics]) -> AnyMetrics:
    """Returns the metrics of a finished run; errors as in `RunFolder.get_record`."""
    return run.get_record(METRICS, record)
