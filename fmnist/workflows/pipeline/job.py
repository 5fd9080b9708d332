"""The pipeline job: the whole study, each stage as a run of its own, and one report.

A pipeline adds order, resumption and the report. A stage does what `fmnist train`, `tune`, `crossval` or `transfer`
with the same settings does. A finished stage is not run again.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from fmnist import clock
from fmnist.boundary import explained
from fmnist.data.preparation import PreparedData, prepare
from fmnist.distributed import cluster
from fmnist.distributed.session import Note, Session, StartedRun, run_on_ray
from fmnist.errors import TrainingError, UserError, first_line
from fmnist.runs import PLOTS, REPORT, REPORT_MARKDOWN, RunFolder, utc
from fmnist.runs.documents import json_bytes
from fmnist.runs.lifecycle import OpenedRun, is_done, open_run
from fmnist.runs.replacement import has_checkpoint
from fmnist.runs.results import Results, read_metrics, write_results
from fmnist.storage import open_store
from fmnist.workflows import JOBS
from fmnist.workflows.crossval.config import CROSSVAL
from fmnist.workflows.pipeline.config import PIPELINE, PipelineConfig
from fmnist.workflows.pipeline.records import PipelineMetrics, StageMetrics, StageSummary
from fmnist.workflows.pipeline.stages import Stage, lacks_stages, limit_of, plan
from fmnist.workflows.transfer.config import TransferConfig

# Which runs of stages are an earlier pipeline's, for one that was started anew by --overwrite.
REPLACED_STAGES = "replaced_stages.json"


@dataclass(frozen=True)
class Work:
    """All stages of the study, the wanted ones that are not finished, and the runs that are to be replaced.

    ``replaced`` has the sha256 of the manifest of each run that had finished before the pipeline was started anew.
    """

    stages: Sequence[Stage]
    missing: Sequence[Stage]
    replaced: Mapping[str, str]

    @property
    def wanted(self) -> list[Stage]:
        return [stage for stage in self.stages if stage.left_out is None]

    def has_progress(self) -> bool:
        """Whether a stage has something to resume."""
        return any(has_checkpoint(stage.folder) or stage.has_finished(self.replaced) for stage in self.missing)


def pipeline(config: PipelineConfig, resources: cluster.Resources | None = None) -> RunFolder:
    """Runs the pipeline job.

    Args:
        config: the job's settings.
        resources: of a Ray cluster that is connected already; None connects to one.

    Returns:
        The finished run folder; those of the stages are in the same store.

    Raises:
        UserError: if data, store, run ids, weights or resources are wrong; nothing has been trained then.
        TrainingError: if a stage failed; the others have run, and the report has them.
    """
    with open_run(PIPELINE, config, lacks_stages) as opened:
        if not opened.done:
            work = _plan_work(config, opened)
            _check(config, work.missing)
            run_on_ray(opened, config, _prepare, partial(_run_stages, work), resources)
    return opened.folder


def _plan_work(config: PipelineConfig, opened: OpenedRun) -> Work:
    """Decides what becomes of each stage; a RunError if the id of one is taken by a run of other settings."""
    run, replaced = opened.folder, {}
    stages = plan(config, run.run_id)
    if opened.entry == "replaced":
        replaced = {stage.name: found for stage in stages if (found := stage.manifest_sum())}
    elif run.exists(REPLACED_STAGES):
        replaced = run.get_record(REPLACED_STAGES, dict[str, str])
    stages = [
        replace(stage, config=replace(stage.config, overwrite=True, skip_finished=False))
        if opened.entry == "replaced" or stage.is_of(replaced)
        else stage
        for stage in stages
    ]
    # It is an error if the id of a stage is taken by a run of other settings.
    missing = [stage for stage in stages if not stage.left_out and not is_done(stage.job, stage.config)]
    return Work(stages, missing, replaced)


def _check(config: PipelineConfig, stages: Sequence[Stage]) -> None:
    """Checks the files that stages need, so that one that is missing for the last stage is reported at once."""
    backbones = dict.fromkeys(stage.config.backbone for stage in stages if isinstance(stage.config, TransferConfig))
    if len(backbones) > 1 and config.weights.endswith(".h5"):
        expected = "a folder of one file each, or one --backbone"
        raise UserError(f"weights: found {config.weights} for {', '.join(backbones)}, expected {expected}")
    for stage in stages:
        JOBS[stage.job].check(stage.config)


def _prepare(config: PipelineConfig, note: Note) -> PreparedData:
    return prepare(replace(config, limit=limit_of(config)), note)


def _run_stages(work: Work, session: Session[PipelineConfig, PreparedData]) -> None:
    """Runs the missing stages one after the other, and writes the report of all."""
    config, run, resources = session.config, session.run, session.resources
    if any(stage.job != CROSSVAL for stage in work.missing):
        cluster.check_room(resources, "worker", config.workers, 1, config.gpus_per_worker)
    if work.missing:
        cluster.check_room(resources, "task", 1, 1, config.gpus_per_task)
    # Imported here: Matplotlib takes a second, and resources are checked before.
    from fmnist.report.data_plots import draw_data

    replaced = {REPLACED_STAGES: json_bytes(work.replaced)} if work.replaced else {}
    started = session.begin(draw_data, work.has_progress, replaced)
    # Waited for before a stage draws: Matplotlib is not thread-safe.
    started.data_figures.result()
    finished_before = len(work.wanted) - len(work.missing)
    session.note(f"{len(work.wanted)} stages, {finished_before} of them finished before")
    failures = {stage.name: failure for stage in work.missing if (failure := _run_stage(stage, session))}
    results = _results(work, failures, config, started)
    write_results(run, results)
    if failures:
        raise TrainingError(
            f"run {run.run_id}: {len(failures)} of {len(work.wanted)} stages failed, {', '.join(failures)}; "
            f"{run.location}/{REPORT} has the others, and the same command with this --run-id runs what is missing"
        )
    started.finish(results, [])


def _run_stage(stage: Stage, session: Session[PipelineConfig, PreparedData]) -> str | None:
    """Runs a stage on the pipeline's cluster; returns why it failed, or None."""
    # A stage has a lease of its own, and would go on.
    session.run.ensure_lease(ask=True)
    config = stage.config
    session.note(f"stage {stage.name}: fmnist {stage.job}, run {config.run_id}")
    if isinstance(config, TransferConfig) and config.compare_with:
        compared = RunFolder(open_store(config.artifacts), config.compare_with)
        # It may have failed.
        config = config if compared.state() == "finished" else replace(config, compare_with=None)
    try:
        JOBS[stage.job].run(config, session.resources)
    except Exception as error:
        # Another process that has taken over the pipeline runs its stages too.
        session.run.ensure_lease()
        known = explained(error)
        if known is None:
            # One line does not explain an unexpected error; the other stages run nevertheless.
            traceback.print_exc()
        failure = str(known or f"{type(error).__name__}: {first_line(error)}")
    else:
        return None
    session.note(f"stage {stage.name} failed, the others continue: {failure}")
    return failure


def _results(
    work: Work, failures: Mapping[str, str], config: PipelineConfig, started: StartedRun[PreparedData]
) -> Results:
    """Returns metrics, figures and both reports; ``failures`` are reasons by stage."""
    from fmnist.report.page import Report
    from fmnist.workflows.pipeline.page import STAGE_PLOTS, TITLE, render_pipeline, render_pipeline_markdown
    from fmnist.workflows.pipeline.plots import pipeline_plots

    # A stage that is left out may have finished in an earlier start of the same pipeline.
    folders = {stage.name: stage.folder for stage in work.stages}
    stages = {
        stage.name: read_metrics(stage.folder, StageMetrics)
        for stage in work.stages
        if stage.has_finished(work.replaced)
    }
    before = [stage.name for stage in work.wanted if stage not in work.missing]
    finished = clock.now()
    metrics = PipelineMetrics(
        job=PIPELINE,
        run_id=started.run.run_id,
        started=utc(started.started),
        finished=utc(finished),
        seconds={"total": finished - started.started + sum(stages[name].seconds["total"] for name in before)},
        profile=config.profile,
        limit=limit_of(config),
        seed=config.seed,
        stages=tuple(_summary(stage, stages.get(stage.name), failures) for stage in work.stages),
    )
    plots = started.data_figures.result() | pipeline_plots(metrics, stages)
    stage_plots = {
        f"{name}/{plot}": folders[name].get_bytes(f"{PLOTS}/{plot}.png")
        for name in stages
        for plot in STAGE_PLOTS.get(name, ())
        # It may have been impossible to draw.
        if folders[name].exists(f"{PLOTS}/{plot}.png")
    }
    report = Report(
        title=TITLE,
        metrics=metrics,
        data=started.data.summary,
        config=asdict(config),
        environment=started.environment,
        plots=plots | stage_plots,
    )
    return Results(
        metrics=metrics,
        environment=started.environment,
        page=render_pipeline(report, stages),
        plots=plots,
        files={REPORT_MARKDOWN: render_pipeline_markdown(report, stages).encode()},
    )


def _summary(stage: Stage, metrics: StageMetrics | None, failures: Mapping[str, str]) -> StageSummary:
    assert stage.config.run_id
    identity = (stage.name, stage.job, stage.config.run_id)
    if metrics:
        return StageSummary(*identity, "finished", None, metrics.seconds["total"])
    if stage.left_out:
        return StageSummary(*identity, "left out", stage.left_out, None)
    return StageSummary(*identity, "failed", failures[stage.name], None)
