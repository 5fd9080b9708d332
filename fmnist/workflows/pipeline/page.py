"""The page of a pipeline: the study's table row by row, as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fmnist.console import plural
from fmnist.report.page import MODEL_TITLES, Report, command_again, escaped, interval, percent, render_page, spared_page
from fmnist.study import BACKBONE_ROWS, HYPERBAND, LAST_FOLD, LENET5, ROWS, StudyRow
from fmnist.workflows.pipeline.findings import findings
from fmnist.workflows.pipeline.records import PipelineMetrics, Stages
from fmnist.workflows.pipeline.rows import STAGE_COLUMNS, STUDY_COLUMNS, Cell, stage_rows, study_rows

TITLE = "The study, row by row"

# The figures of stages that the page shows too: those of its findings, of the notebook's model and of the best search.
STAGE_PLOTS: dict[str, tuple[str, ...]] = {
    LENET5.reproduced: ("learning_curves", "confusion_matrix"),
    HYPERBAND.reproduced: ("trial_curves",),
    HYPERBAND.sound: ("trial_curves", "learning_curves", "confusion_matrix"),
    LAST_FOLD.reproduced: ("leak",),
} | {name: ("candidate_curves",) for row in BACKBONE_ROWS for name in (row.reproduced, row.sound)}
FIGURE_TITLES = {
    "confusion_matrix": "number of test images by true and predicted class",
    "leak": "the same images in the same folds, with fresh and with carried weights",
    "trial_curves": "validation accuracy of every trial by epoch",
} | dict.fromkeys(("candidate_curves", "learning_curves"), "loss and accuracy by epoch")
OTHER_SPLIT = (
    "The study used Kaggle's files, whose split is not the official one used here: validation accuracies compare only "
    "roughly."
)


@spared_page
def render_pipeline(report: Report[PipelineMetrics], stages: Stages) -> str:
    """Returns the page of a pipeline as HTML, complete in itself but for the links to its stages' pages.

    The report's plots are those of `pipeline_plots`, those of the data, and those of stages under ``<stage>/<plot>``,
    such as ``crossval-lenet5/leak``. The ones that no finding shows stand behind the findings.
    """
    values = _shared(report, stages)
    in_findings = {figure for finding in values["findings"] for figure in finding.figures}
    titles = {name: figure_title(name) for name in report.plots if "/" in name}
    return render_page(
        "pipeline/page.html",
        **report.shared_values(()),
        **values,
        study_columns=STUDY_COLUMNS,
        figure_titles=titles,
        more_figures=[name for name in titles if name not in in_findings],
        stage_columns=STAGE_COLUMNS,
        address=address,
        command_again=command_again("pipeline", report.run_id),
    )


@spared_page
def render_pipeline_markdown(report: Report[PipelineMetrics], stages: Stages) -> str:
    """Returns the same tables and findings as Markdown, for a pull request.

    It has no figures, and run ids instead of links: a relative link would lead nowhere there.
    """
    values = _shared(report, stages)
    return render_page(
        "pipeline/page.md",
        title=TITLE,
        report=report,
        **values,
        escaped=escaped,
        study_table=markdown_table(STUDY_COLUMNS, values["study_rows"]),
        tables={one.key: markdown_table(one.columns, one.rows) for one in values["findings"] if one.rows},
        stage_table=markdown_table(STAGE_COLUMNS, values["stage_rows"]),
    )


def _shared(report: Report[PipelineMetrics], stages: Stages) -> dict[str, Any]:
    states = [stage.status for stage in report.metrics.stages]
    return {
        "headline": pipeline_headline(stages),
        "best_stage": best.sound if (best := best_row(stages)) else None,
        "warnings": pipeline_warnings(report.metrics, stages),
        "states": {state: states.count(state) for state in ("finished", "left out", "failed")},
        "all_stages": len(states),
        "other_split": OTHER_SPLIT,
        "study_rows": study_rows(report.metrics, stages),
        "findings": findings(stages),
        "stage_rows": stage_rows(report.metrics),
    }


def best_row(stages: Stages) -> StudyRow | None:
    """Returns the row whose sound stage has the highest validation accuracy, of those that use the test images.

    A choice by test accuracy would flatter the chosen model.
    """
    measured = [row for row in ROWS if row.sound in stages and stages[row.sound].test_scores]
    return max(measured, key=lambda row: stages[row.sound].val_accuracy, default=None)


def pipeline_headline(stages: Stages) -> str:
    """Names the best model and its test accuracy."""
    row = best_row(stages)
    test = row and stages[row.sound].test_scores
    if not row or not test:
        return "No stage that measures a model on the test images has finished"
    best, model = stages[row.sound], row.title
    if best.last:
        model = f"{MODEL_TITLES[row.key]} ({best.last.phase})"
    elif best.search:
        model = f"The best of {plural(best.search.trials, 'trial')} of the space {best.search.space}, retrained,"
    return (
        f"{model} reaches {percent(test.accuracy)} on the {test.images:,} test images "
        f"(95\N{NO-BREAK SPACE}% interval {interval(test)})"
    )


def pipeline_warnings(metrics: PipelineMetrics, stages: Stages) -> list[str]:
    """Names what limits the figures: small subsets, failed stages, weights other than ImageNet's."""
    found = []
    if metrics.profile == "smoke" or metrics.limit is not None:
        size = "" if metrics.limit is None else f", {metrics.limit:,} images"
        found.append(f"Small subsets (profile {metrics.profile}{size}): no figure here says anything about the models.")
    if failed := [stage.name for stage in metrics.stages if stage.status == "failed"]:
        found.append(f"{plural(len(failed), 'stage')} failed: {', '.join(failed)}.")
    # Both recipes of a backbone have the same weights: one line is enough.
    sources = dict.fromkeys(
        (MODEL_TITLES[backbone], one.source)
        for run in stages.values()
        for backbone, one in run.weights.items()
        if not one.published
    )
    for title, source in sources:
        weights = "random weights" if source == "none" else f"the weights {source}"
        found.append(f"{title} started from {weights}, not from the published ImageNet weights.")
    return found


def address(run_id: str) -> str:
    """Returns where the report of another run of the same store is, from this run's."""
    return f"../{quote(run_id)}/report.html"


def figure_title(name: str) -> str:
    """Describes a stage's figure, such as ``train-lenet5: loss and accuracy by epoch``."""
    stage, _, plot = name.partition("/")
    return f"{stage}: {FIGURE_TITLES.get(plot, plot.replace('_', ' '))}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Returns rows of cells as a table in Markdown, a line a row."""
    lines = [[escaped(column) for column in columns], ["---"] * len(columns)]
    for row in rows:
        texts = [[cell.text, *cell.notes, *(cell.runs or {}).values()] for cell in row]
        lines.append(["<br>".join(escaped(text) for text in cell if text) for cell in texts])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
