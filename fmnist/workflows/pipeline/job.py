"""The pipeline job: the whole study, each stage a run of its own, and one report of all of them.

It has nothing of its own but order, resumption and the report: a stage is what `fmnist train`, `tune`, `crossval` or
`transfer` with the same settings would do, and what has finished is not run again.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from fmnist.config import JobConfig
from fmnist.console import labelled, plain_console
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.session import finish_run
from fmnist.errors import FmnistError, TrainingError, UserError, first_line
from fmnist.runs import METRICS, PLOTS, REPORT, REPORT_MARKDOWN, RunFolder, utc
from fmnist.runs.lifecycle import begin_run, changed_setting, goes_on, is_done, open_run
from fmnist.storage import open_store
from fmnist.workflows import JOBS
from fmnist.workflows.crossval.config import CROSSVAL
from fmnist.workflows.pipeline.config import PIPELINE, PipelineConfig
from fmnist.workflows.pipeline.stages import Stage, limit_of, plan
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.weights import SUFFIX, obtain_weights
from fmnist.workflows.tune.config import TUNE

Note = Callable[[str], None]


@dataclass(frozen=True)
class StageOutcome:
    """What became of a stage.

    Attributes:
        stage: that was planned.
        status: ``finished`` now or before, ``failed``, or ``left out``.
        reason: why it is not finished, in one line.
        metrics: its run's, if it is.
    """

    stage: Stage
    status: str
    reason: str | None = None
    metrics: dict[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        """The stage's entry in the pipeline's ``metrics.json``."""
        return {
            "name": self.stage.name,
            "job": self.stage.job,
            "run_id": self.stage.config.run_id,
            "status": self.status,
            "reason": self.reason,
            "seconds": self.seconds if self.metrics else None,
        }

    @property
    def seconds(self) -> float:
        """What the stage's run took; 0 if it is not finished."""
        return float(self.metrics["seconds"]["total"]) if self.metrics else 0.0


def pipeline(config: PipelineConfig) -> RunFolder:
    """Runs the pipeline job.

    Args:
        config: the job's settings.

    Returns:
        The finished run folder; beside it lie those of the stages.

    Raises:
        UserError: if data, store, run ids, weights or resources are not as they must be; nothing has been trained then.
        TrainingError: if a stage failed; the others have been run, and the report has them.
    """
    started = time.time()
    to_go_on_with = _with_stages_left(config)
    run = to_go_on_with or open_run(PIPELINE, config)
    if to_go_on_with is None and is_done(run, config):
        return run
    note = partial(plain_console().print, markup=False)
    note(f"run {run.run_id} in {run.store.location}")
    anew = config.overwrite and not goes_on(run, config)
    stages = plan(config, run.run_id)
    folders = {stage.name: _folder(stage) for stage in stages}
    wanted = [stage for stage in stages if stage.left_out is None]
    missing = wanted if anew else [stage for stage in wanted if not _is_finished(stage)]
    # Looked for before the first is trained: weights that are missing for the last one must not cost an evening.
    _check_weights(missing, note)
    data = prepare(replace(config, limit=limit_of(config)), note)
    failures: dict[str, str] = {}
    with _resources(config, missing) as resources:
        sides = _sides(config, missing, resources) if resources else []
        if anew:
            for folder in folders.values():
                folder.remove()
        elif run.state() == "finished":
            run.reopen()
        environment = begin_run(run, config, data.summary)
        note(f"{len(wanted)} stages, {len(wanted) - len(missing)} of them finished before")
        for side_by_side in sides:
            failures |= _run_side_by_side(side_by_side, resources, note)
        outcomes = [_outcome(stage, failures) for stage in stages]
        before = sum(one.seconds for one in outcomes if one.stage in wanted and one.stage not in missing)
        metrics = _write_report(config, run, data, outcomes, environment, started, before)
        if failures:
            raise TrainingError(
                f"run {run.run_id}: {len(failures)} of {len(wanted)} stages failed, {', '.join(failures)}; "
                f"{run.location}/{REPORT} has the others, and the same command with this --run-id runs what is missing"
            )
        # Before Ray is left, as in every job.
        line = f"finished in {metrics['seconds']['total']:.0f} s: {run.location}/{REPORT}"
        finish_run(run, PIPELINE, [line], note)
    return run


def _with_stages_left(config: PipelineConfig) -> RunFolder | None:
    """The folder of a pipeline that has finished, but whose report lacks stages that are wanted now; None without one.

    Raises:
        StoreError: if the artifact store cannot be used.
    """
    if config.run_id is None or config.overwrite:
        return None
    store = open_store(config.artifacts)
    store.check()
    run = RunFolder(store, config.run_id)
    if run.state() != "finished" or changed_setting(run, config):
        return None
    reported = {one["name"] for one in run.get_json(METRICS)["stages"] if one["status"] == "finished"}
    wanted = [stage for stage in plan(config, run.run_id) if stage.left_out is None]
    left = any(stage.name not in reported or _folder(stage).state() != "finished" for stage in wanted)
    return run if left else None


def _check_weights(stages: Sequence[Stage], note: Note) -> None:
    """Obtains the weights of all backbones.

    Raises:
        UserError: if there are none, or one file is to be those of several.
    """
    transfers = [stage.config for stage in stages if isinstance(stage.config, TransferConfig)]
    backbones = {config.backbone: config.weights for config in transfers}
    for backbone, weights in backbones.items():
        if len(backbones) > 1 and weights.endswith(SUFFIX):
            raise UserError(
                f"weights: found {weights} for {', '.join(backbones)}, expected a folder of one file each, or one "
                "--backbone"
            )
        obtain_weights(weights, backbone, note)


def _is_finished(stage: Stage) -> bool:
    """Whether there is nothing to do.

    Raises:
        RunError: if the stage's run id is taken by a run of other settings.
    """
    return is_done(open_run(stage.job, stage.config), stage.config)


@contextmanager
def _resources(config: PipelineConfig, missing: Sequence[Stage]) -> Iterator[cluster.Resources | None]:
    """Connects to Ray if there is anything to do.

    Raises:
        UserError: if there is no room for it.
    """
    if not missing:
        yield None
        return
    with cluster.connected() as resources:
        if any(stage.job != CROSSVAL for stage in missing):
            cluster.check_room(resources, "worker", config.workers, 1, config.gpus_per_worker)
        cluster.check_room(resources, "task", 1, 1, config.gpus_per_task)
        yield resources


def _sides(
    config: PipelineConfig, stages: Sequence[Stage], resources: cluster.Resources
) -> list[tuple[list[Stage], ...]]:
    """Puts stages in order: a list of what is run one after the other, each one list or two that share the cluster.

    A transfer stage follows the training that it is compared with. A search stands alone: Ray Tune takes all processors
    there are and would let the others starve.

    Raises:
        UserError: if stages must share a cluster that is too small for that.
    """
    folds = [stage for stage in stages if stage.job == CROSSVAL]
    searches = [stage for stage in stages if stage.job == TUNE]
    trainings = [stage for stage in stages if stage.job not in (CROSSVAL, TUNE)]
    if folds and trainings and _shares(config, resources):
        return [(trainings, folds), (searches,)]
    return [(list(stages),)]


def _shares(config: PipelineConfig, resources: cluster.Resources) -> bool:
    half = resources.half()
    gpus = max(config.workers * config.gpus_per_worker, config.gpus_per_task)
    enough = half.cpus >= config.workers and half.gpus >= gpus
    if config.side_by_side == "on" and not enough:
        raise UserError(
            f"side_by_side: found on, expected off or auto on {resources}: half of them is not enough for "
            f"{config.workers} workers and {gpus:g} GPUs"
        )
    # Half of two processors trains half as fast, and the second job's processes need memory.
    return config.side_by_side != "off" and enough and (config.side_by_side == "on" or half.cpus >= 2)


def _run_side_by_side(sides: Sequence[list[Stage]], resources: cluster.Resources | None, note: Note) -> dict[str, str]:
    """Runs each list of stages one after the other, several lists side by side; returns why stages failed, by name."""
    if len(sides) == 1 or resources is None:
        return {stage.name: why for stage in sides[0] if (why := _run(stage, note))}
    # In this thread: two at once would find each other's modules half imported.
    for stage in (stage for side in sides for stage in side):
        importlib.import_module(f"fmnist.workflows.{stage.job}.job")
    half, one_has_ended = resources.half(), threading.Event()

    def run_side(stages: list[Stage]) -> dict[str, str]:
        failures: dict[str, str] = {}
        for stage in stages:
            share = resources if one_has_ended.is_set() else half
            with cluster.held(share), labelled(stage.name):
                why = _run(stage, partial(plain_console().print, markup=False))
            if why:
                failures[stage.name] = why
        one_has_ended.set()
        return failures

    with ThreadPoolExecutor(len(sides)) as beside:
        try:
            return {name: why for failures in beside.map(run_side, sides) for name, why in failures.items()}
        except KeyboardInterrupt:
            # The threads cannot be ended otherwise: Ray would start again for them. A local one ends with its driver,
            # and what has been reported is in the store.
            print("fmnist: interrupted", file=sys.stderr, flush=True)
            os._exit(130)


def _run(stage: Stage, note: Note) -> str | None:
    """Runs a stage; returns why it failed, or None."""
    note(f"stage {stage.name}: fmnist {stage.job}, run {stage.config.run_id}")
    try:
        JOBS[stage.job].run(_compared(stage))
    except FmnistError as error:
        failure = str(error)
    except Exception as error:
        # Of no use in one line, and no reason to lose the other stages' night.
        traceback.print_exc()
        failure = f"{type(error).__name__}: {first_line(error)}"
    else:
        return None
    note(f"stage {stage.name} failed, the others go on: {failure}")
    return failure


def _compared(stage: Stage) -> JobConfig:
    """The stage's settings, without the run to compare with if that has failed."""
    config = stage.config
    if isinstance(config, TransferConfig) and config.compare_with:
        compared = RunFolder(open_store(config.artifacts), config.compare_with)
        if compared.state() != "finished":
            return replace(config, compare_with=None)
    return config


def _folder(stage: Stage) -> RunFolder:
    assert stage.config.run_id
    return RunFolder(open_store(stage.config.artifacts), stage.config.run_id)


def _outcome(stage: Stage, failures: dict[str, str]) -> StageOutcome:
    """A stage that is left out now may have finished in an earlier start of the same pipeline."""
    folder = _folder(stage)
    if folder.state() == "finished":
        return StageOutcome(stage, "finished", metrics=folder.get_json(METRICS))
    if stage.left_out is not None:
        return StageOutcome(stage, "left out", stage.left_out)
    return StageOutcome(stage, "failed", failures[stage.name])


def _write_report(
    config: PipelineConfig,
    run: RunFolder,
    data: PreparedData,
    outcomes: Sequence[StageOutcome],
    environment: dict[str, Any],
    started: float,
    before: float,
) -> dict[str, Any]:
    """Writes metrics, figures and both reports; returns the metrics.

    Args:
        before: seconds of the stages that had finished when this start began.
    """
    from fmnist.report.data_plots import draw_data
    from fmnist.workflows.pipeline.page import STAGE_PLOTS, PipelineReport, render_pipeline, render_pipeline_markdown
    from fmnist.workflows.pipeline.plots import pipeline_plots

    finished = time.time()
    metrics = {
        "job": PIPELINE,
        "run_id": run.run_id,
        "profile": config.profile,
        "limit": limit_of(config),
        "seed": config.seed,
        "started": utc(started),
        "finished": utc(finished),
        "seconds": {"total": finished - started + before},
        "stages": [outcome.summary() for outcome in outcomes],
    }
    stages = {outcome.stage.name: outcome.metrics for outcome in outcomes if outcome.metrics}
    figures = draw_data(data) | pipeline_plots(metrics, stages)
    for name, image in figures.items():
        run.put_bytes(f"{PLOTS}/{name}.png", image)
    for outcome in outcomes:
        if outcome.metrics:
            for name in STAGE_PLOTS.get(outcome.stage.name, ()):
                figures[f"{outcome.stage.name}/{name}"] = _folder(outcome.stage).get_bytes(f"{PLOTS}/{name}.png")
    report = PipelineReport(run.run_id, metrics, stages, data.summary, asdict(config), environment, figures)
    run.put_bytes(REPORT, render_pipeline(report).encode())
    run.put_bytes(REPORT_MARKDOWN, render_pipeline_markdown(report).encode())
    run.put_json(METRICS, metrics)
    return metrics
