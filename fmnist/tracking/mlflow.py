"""Runs in MLflow: a run of MLflow for each run, with children for its trials, folds, phases, or stages.

They are found again by tags, so that a run has one of MLflow's, whatever was killed. Artifacts stay in the store, and
are linked; only the model is copied, since MLflow loads none from elsewhere.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, TypeVar

from fmnist.errors import UserError, redacted
from fmnist.runs import MODEL, REPORT
from fmnist.runs.comparison import leaves
from fmnist.runs.inputs import IMAGE, INPUTS, REVISION
from fmnist.tracking.records import Part, RunRecord

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
# The run's identity; the part that a child is of, empty for the run itself.
RUN_TAG, PART_TAG, PARENT_TAG = "fmnist.run", "fmnist.part", "mlflow.parentRunId"

# Settings that say where a run is, not what it is.
_PLACES = {"artifacts", "run_id", "overwrite", "skip_finished", "wait", "track", "data"}
# The last of an epoch's values that is sent: an epoch that has it is there.
_LAST = "images_per_second"
# What MLflow takes at once.
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100
# MLflow's limit is 250; a number may follow.
_LONGEST_NAME = 240

Value = TypeVar("Value")


class MLflowTracker:
    """Sends runs to the server, database or folder in ``MLFLOW_TRACKING_URI``, into the experiment ``fmnist`` or that
    in ``MLFLOW_EXPERIMENT_NAME``.

    Raises:
        UserError: if ``MLFLOW_TRACKING_URI`` is not set.
    """

    def __init__(self) -> None:
        check_address()
        # A training does not wait long for a server that is away.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        # It may have a password.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        self._client = MlflowClient(os.environ[ADDRESS])
        self._experiment = self._experiment_id()
        # Of the opened run: MLflow's id and the last epoch of each part.
        self._ids: dict[str, str] = {}
        self._last: dict[str, int] = {}

    def open(self, record: RunRecord, parent: str | None = None) -> None:
        """Finds or creates the run, and finds its children."""
        self._ids = self._found(record.identity)
        self._last = {}
        if "" not in self._ids:
            self._create(record, "", record.run_id, {})
        if parent and (above := self._found(parent).get("")):
            self._client.set_tag(self._ids[""], PARENT_TAG, above)
        settings = {name: value for name, value in record.settings.items() if name not in _PLACES}
        self._describe(self._ids[""], dict(leaves(settings)), _tags(record))

    def epochs(self, record: RunRecord) -> None:
        """Sends the epochs that are not there; creates the children that are new."""
        for part in record.parts:
            if part.name in self._ids and self._done(part.name) > len(part.rows):
                # Trained anew, or trained beyond what the search decided on; MLflow deletes no metric.
                self._client.delete_run(self._ids.pop(part.name))
                if not part.name:
                    self.open(record)
            if part.name not in self._ids:
                tags = {PARENT_TAG: self._ids[""], "fmnist.kind": part.kind}
                self._create(record, part.name, f"{record.run_id} {part.name}", tags)
                self._describe(self._ids[part.name], part.parameters, {})
            done = self._done(part.name)
            values = [
                (name, value, at, int(row["epoch"]))
                for row, at in zip(part.rows[done:], record.times(part)[done:], strict=True)
                for name, value in row.items()
                if name != "epoch"
            ]
            self._log(part.name, values)
            self._last[part.name] = len(part.rows)

    def finish(self, record: RunRecord) -> None:
        """Sends the metrics, the model, and the status of a finished run and its children."""
        step, main = int(record.metrics.get("best_epoch", 0)), self._ids[""]
        scores = {name: value for name, value in leaves(record.metrics) if type(value) in (int, float)}
        self._log_missing("", scores, record.ended, step)
        if record.folder.exists(MODEL) and not self._client.list_artifacts(main, "model"):
            with tempfile.TemporaryDirectory() as folder:
                write_model(record, Path(folder), main)
                self._client.log_artifacts(main, folder, "model")
        ended = int(record.ended * 1000)
        for part in record.parts:
            if part.name:
                self._log_missing(part.name, part.scores, record.ended, len(part.rows))
                self._client.set_terminated(self._ids[part.name], "FAILED" if part.failed else "FINISHED", ended)
        self._client.set_terminated(main, "FINISHED", ended)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get(EXPERIMENT, "fmnist")
        if not (known := self._client.get_experiment_by_name(name)):
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                # Another run may have created it.
                if not (known := self._client.get_experiment_by_name(name)):
                    raise
        return str(known.experiment_id)

    def _found(self, identity: str) -> dict[str, str]:
        """Returns the ids of a run and its children, by part."""
        found: dict[str, str] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{RUN_TAG}` = '{identity}'", max_results=1000, page_token=token
            )
            found |= {run.data.tags.get(PART_TAG, ""): run.info.run_id for run in page}
            if not (token := page.token):
                return found

    def _create(self, record: RunRecord, part: str, name: str, tags: Mapping[str, str]) -> None:
        # The tags come with it: a process that is killed leaves none that is not found again.
        identity = {RUN_TAG: record.identity, PART_TAG: part}
        rows = next((one for one in record.parts if one.name == part), Part(part, "run", ()))
        times = record.times(rows)
        start = int((times[0] if times else record.ended) * 1000)
        run = self._client.create_run(self._experiment, start, {**identity, **tags}, run_name=name)
        self._ids[part], self._last[part] = run.info.run_id, 0

    def _done(self, part: str) -> int:
        if part not in self._last:
            history = self._client.get_metric_history(self._ids[part], _LAST)
            self._last[part] = max((metric.step for metric in history), default=0)
        return self._last[part]

    def _describe(self, run_id: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Sends parameters that are not there, and tags. MLflow's parameters never change; a resumed run's may."""
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(run_id).data.params
        new = [
            Param(name, redacted(str(value)))
            for name, value in _named(parameters).items()
            if name not in known and value is not None
        ]
        for some in _batches(new, _MOST_PARAMETERS):
            self._client.log_batch(run_id, params=some)
        if tags:
            self._client.log_batch(run_id, tags=[RunTag(name, redacted(value)) for name, value in tags.items()])

    def _log_missing(self, part: str, scores: Mapping[str, float], at: float, step: int) -> None:
        known = self._client.get_run(self._ids[part]).data.metrics
        self._log(part, [(name, value, at, step) for name, value in _named(scores).items() if name not in known])

    def _log(self, part: str, values: Sequence[tuple[str, float, float, int]]) -> None:
        """Sends metrics: name, value, seconds since 1970, step."""
        from mlflow.entities import Metric

        metrics = [Metric(name, float(value), int(at * 1000), step) for name, value, at, step in values]
        for some in _batches(metrics, _MOST_METRICS):
            self._client.log_batch(self._ids[part], metrics=some)


def check_address() -> None:
    """Raises a `UserError` if nothing says where MLflow is."""
    if not os.environ.get(ADDRESS):
        raise UserError(f"{ADDRESS}: not set, expected the address of an MLflow server, or file:FOLDER")


def write_model(record: RunRecord, folder: Path, mlflow_run: str) -> None:
    """Writes a run's model as `mlflow.keras.save_model` would, without importing Keras: the file is already there."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    record.folder.get_file(MODEL, folder / "data/model.keras")
    (folder / "data/keras_module.txt").write_text("keras")
    images = Schema([TensorSpec(np.dtype("uint8"), (-1, 28, 28))])
    probabilities = Schema([TensorSpec(np.dtype("float32"), (-1, 10))])
    model = Model(artifact_path="model", run_id=mlflow_run, signature=ModelSignature(images, probabilities))
    versions = {name: str(record.environment[name]) for name in ("keras", "tensorflow") if name in record.environment}
    model.add_flavor(
        "keras", data="data", keras_version=versions.get("keras"), keras_backend="tensorflow", save_exported_model=False
    )
    pyfunc.add_to_model(model, loader_module="mlflow.keras")
    model.save(str(folder / "MLmodel"))
    (folder / "requirements.txt").write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))


def _tags(record: RunRecord) -> dict[str, str]:
    """Returns what a run is and depends on, and where its files are."""
    inputs = {**record.data.get("sha256", {}), **record.environment.get(INPUTS, {})}
    named = {f"fmnist.sha256.{_name(name)}": str(value) for name, value in inputs.items()}
    if revision := record.environment.get(REVISION):
        named["mlflow.source.git.commit"] = str(revision)
    if image := record.environment.get(IMAGE):
        named["fmnist.image"] = str(image)
    if record.job:
        named["fmnist.job"] = record.job
    where = record.folder.location
    named["fmnist.location"] = where
    named["mlflow.note.content"] = f"Files of the run: `{where}`, its report: `{where}/{REPORT}`"
    return named


def _name(text: str) -> str:
    """Returns a text as a name that MLflow takes: of its characters, no path but a plain one, and not too long."""
    name = "".join(one if one.isalnum() or one in "_-. /" else "_" for one in text)[:_LONGEST_NAME]
    is_plain = all(part and part != "." and not part.startswith("..") for part in name.split("/"))
    return name if is_plain else f"_{name.replace('/', '_')}"


def _named(values: Mapping[str, Value]) -> dict[str, Value]:
    """Returns values by names that MLflow takes; those whose names become one are numbered, in their order."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        names = chain([_name(name)], (f"{_name(name)}_{number}" for number in count(2)))
        found[next(one for one in names if one not in found)] = value
    return found


def _batches(values: Sequence[Any], most: int) -> Iterator[list[Any]]:
    rest = iter(values)
    while some := list(islice(rest, most)):
        yield some
