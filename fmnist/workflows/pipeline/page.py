"""The page of a pipeline: the study's table row by row, as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fmnist.data import CLASS_NAMES
from fmnist.report.page import command_again, flatten, interval, percent, plural, render_page
from fmnist.study import BACKBONE_ROWS, HYPERBAND, LAST_FOLD, LENET5
from fmnist.workflows.pipeline.claims import Claim, claims
from fmnist.workflows.pipeline.markdown import escaped, table
from fmnist.workflows.pipeline.rows import (
    STAGE_COLUMNS,
    STUDY_COLUMNS,
    Cell,
    SoundResult,
    Stages,
    sound_results,
    stage_rows,
    study_rows,
)
from fmnist.workflows.transfer.page import weight_warnings
from fmnist.workflows.transfer.records import WeightsRecord

TITLE = "The study, row by row"

# The figures of stages that the page shows too: those of its claims, and of the notebook's model and the best search.
STAGE_PLOTS: dict[str, tuple[str, ...]] = {
    LENET5.reproduced: ("learning_curves", "confusion_matrix"),
    HYPERBAND.reproduced: ("trial_curves",),
    str(HYPERBAND.sound): ("trial_curves", "learning_curves", "confusion_matrix"),
    LAST_FOLD.reproduced: ("leak",),
} | {name: ("candidate_curves",) for row in BACKBONE_ROWS for name in (row.reproduced, str(row.sound))}
OTHER_SPLIT = (
    "The study's images are Kaggle's files, whose split is not the published one that was used here: validation "
    "accuracies compare only roughly."
)


@dataclass(frozen=True)
class PipelineReport:
    """What the page of a pipeline shows.

    Attributes:
        run_id: the pipeline's run id.
        metrics: the content of its ``metrics.json``.
        stages: the content of ``metrics.json`` of every finished stage, by the stage's name.
        data: the content of ``data.json``.
        config: the content of ``config.yaml``.
        environment: the content of ``environment.json``.
        plots: PNG bytes by name: :func:`fmnist.workflows.pipeline.plots.pipeline_plots`, those of the data, and those
            of stages under ``<stage>/<plot>``, such as ``crossval-lenet5/leak``. Those of stages that no claim shows
            stand behind the claims.
    """

    run_id: str
    metrics: Mapping[str, Any]
    stages: Stages
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    plots: Mapping[str, bytes]


def render_pipeline(report: PipelineReport) -> str:
    """Returns the page of a pipeline as HTML, complete in itself but for the links to its stages' pages."""
    made = claims(report.stages)
    in_claims = {figure for claim in made for figure in claim.figures}
    return render_page(
        "pipeline/page.html",
        **_shared(report, made),
        study_columns=STUDY_COLUMNS,
        study_rows=study_rows(report.metrics, report.stages),
        claims=made,
        figure_titles={name: figure_title(name) for name in report.plots if "/" in name},
        more_figures=[name for name in report.plots if "/" in name and name not in in_claims],
        stage_columns=STAGE_COLUMNS,
        stage_rows=stage_rows(report.metrics),
        address=address,
        class_counts=list(zip(CLASS_NAMES, *report.data["class_counts"].values(), strict=True)),
        command_again=command_again("pipeline", report.run_id),
        config=flatten(report.config),
        environment=flatten(report.environment),
    )


def render_pipeline_markdown(report: PipelineReport) -> str:
    """Returns the same tables and claims as Markdown, for a pull request: without figures, and with run ids for links.

    A relative link would lead nowhere there.
    """
    made = claims(report.stages)
    return render_page(
        "pipeline/page.md",
        **_shared(report, made),
        escaped=escaped,
        study_table=markdown_table(STUDY_COLUMNS, study_rows(report.metrics, report.stages)),
        claims=[(claim, markdown_table(claim.columns, claim.rows) if claim.columns else "") for claim in made],
        stage_table=markdown_table(STAGE_COLUMNS, stage_rows(report.metrics)),
    )


def _shared(report: PipelineReport, made: Sequence[Claim]) -> dict[str, Any]:
    states = [stage["status"] for stage in report.metrics["stages"]]
    return {
        "report": report,
        "title": TITLE,
        "headline": pipeline_headline(report.stages),
        "where": where(report.stages),
        "warnings": pipeline_warnings(report.metrics, report.stages),
        "states": {state: states.count(state) for state in ("finished", "left out", "failed")},
        "all_stages": len(states),
        "other_split": OTHER_SPLIT,
    }


def pipeline_headline(stages: Stages) -> str:
    """Says in one sentence which model is best and what it reaches.

    Best by validation accuracy: a model chosen by its test accuracy would be flattered by it.
    """
    best = _best(stages)
    if best is None:
        return "No stage that measures a model on the test images has finished"
    return (
        f"{best.title} reaches {percent(best.test['accuracy'])} on the {best.test['images']:,} test images "
        f"(95\N{NO-BREAK SPACE}% interval {interval(best.test)})"
    )


def where(stages: Stages) -> str:
    """Says which stage the headline is about and why; nothing without one."""
    best, models = _best(stages), len(sound_results(stages))
    if best is None:
        return ""
    return f"Stage {best.stage}" + (f", the best of {models} by validation accuracy." if models > 1 else ".")


def _best(stages: Stages) -> SoundResult | None:
    return max(sound_results(stages), key=lambda one: one.val_accuracy, default=None)


def pipeline_warnings(metrics: Mapping[str, Any], stages: Stages) -> list[str]:
    """Says what the figures cannot mean: of small subsets, of failed stages, of weights that are not ImageNet's."""
    found = []
    if metrics["profile"] == "smoke" or metrics["limit"] is not None:
        size = "" if metrics["limit"] is None else f", {metrics['limit']:,} images"
        found.append(
            f"Small subsets (profile {metrics['profile']}{size}): no figure here says anything about the models."
        )
    failed = [stage["name"] for stage in metrics["stages"] if stage["status"] == "failed"]
    if failed:
        found.append(f"{plural(len(failed), 'stage')} failed: {', '.join(failed)}.")
    # Both recipes of a backbone have the same weights, so that one sentence does for both.
    weights = (
        weight_warnings({name: WeightsRecord(**one) for name, one in run["weights"].items()})
        for run in stages.values()
        if "weights" in run
    )
    return [*found, *dict.fromkeys(sentence for sentences in weights for sentence in sentences)]


def address(run_id: str) -> str:
    """Returns where the report of another run of the same store is, from this run's."""
    return f"../{quote(run_id)}/report.html"


FIGURE_TITLES = {
    "candidate_curves": "loss and accuracy by epoch",
    "confusion_matrix": "how many test images, by true and predicted class",
    "leak": "the same images in the same folds, with fresh weights and with carried ones",
    "learning_curves": "loss and accuracy by epoch",
    "trial_curves": "validation accuracy of every trial by epoch",
}


def figure_title(name: str) -> str:
    """Says what a stage's figure shows, such as ``train-lenet5: loss and accuracy by epoch``."""
    stage, _, plot = name.partition("/")
    return f"{stage}: {FIGURE_TITLES.get(plot, plot.replace('_', ' '))}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Returns rows of cells as a table in Markdown."""
    return table([escaped(column) for column in columns], [[_markdown_cell(cell) for cell in row] for row in rows])


def _markdown_cell(cell: Cell) -> str:
    lines = [cell.text, *cell.notes, *(cell.runs or {}).values()]
    return "<br>".join(escaped(line) for line in lines if line)
