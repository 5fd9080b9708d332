"""The page, the Markdown and the figures of a pipeline."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from PIL import Image
from stage_metrics import DATA, STAGES, TIMES, crossval, train, transfer

from fmnist.report.page import Report
from fmnist.study import BACKBONE_ROWS, ROWS
from fmnist.workflows.pipeline.findings import findings
from fmnist.workflows.pipeline.page import (
    STAGE_PLOTS,
    TITLE,
    best_row,
    escaped,
    pipeline_headline,
    pipeline_warnings,
    render_pipeline,
    render_pipeline_markdown,
)
from fmnist.workflows.pipeline.plots import cost, pipeline_plots, results
from fmnist.workflows.pipeline.records import PipelineMetrics, StageMetrics, Stages, StageSummary, Weights
from fmnist.workflows.pipeline.rows import STUDY_COLUMNS, study_rows

NAMES = tuple(dict.fromkeys(name for row in ROWS for name in (row.reproduced, row.sound)))

PLOTS = ("results", "cost", "class_balance", "crossval-lenet5/leak", "train-lenet5/confusion_matrix")


def pipeline(finished: Stages, **others: StageSummary) -> PipelineMetrics:
    """The metrics of a pipeline; ``others`` are stages that are not finished, by name."""
    return PipelineMetrics(
        **TIMES, job="pipeline", run_id="night", profile="laptop", seed=0, limit=None, seconds={"total": 3600.0},
        stages=tuple(
            StageSummary(name, finished[name].job, f"night-{name}", "finished", None, 141.0)
            if name in finished
            else others.get(name, left_out(name, "--stages train"))
            for name in NAMES
        ),
    )  # fmt: skip


def left_out(name: str, reason: str) -> StageSummary:
    return StageSummary(name, name.split("-")[0], f"night-{name}", "left out", reason, None)


def failed(name: str, reason: str | None) -> StageSummary:
    return StageSummary(name, name.split("-")[0], f"night-{name}", "failed", reason, None)


Page = tuple[Report[PipelineMetrics], dict[str, StageMetrics]]


def page_of(names: tuple[str, ...] = NAMES, *others: StageSummary) -> Page:
    """What a page shows of a pipeline: its report and its finished stages."""
    stages = {name: STAGES[name] for name in names}
    metrics = pipeline(stages, **{one.name: one for one in others})
    report = Report(
        title=TITLE, metrics=metrics, data=DATA, config={"profile": "laptop"}, environment={"python": "3.12"},
        plots={name: b"PNG" for name in PLOTS if name.split("/")[0] in stages or "/" not in name},
    )  # fmt: skip
    return report, stages


def changed(page: Page, **metrics: object) -> Page:
    return replace(page[0], metrics=replace(page[0].metrics, **metrics)), page[1]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ").replace("&#39;", "'").split())


def cells_of(html: str, title: str) -> list[str]:
    row = next(row for row in re.findall(r"<tr>.*?</tr>", html, re.S) if title in text_of(row))
    return [text_of(cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.S)]


def without(name: str) -> tuple[str, ...]:
    return tuple(other for other in NAMES if other != name)


def test_every_row_of_the_study_stands_with_its_figure_and_ours() -> None:
    html = render_pipeline(*page_of()).replace("\N{EN DASH}", "-")

    assert cells_of(html, "LeNet-5 as published")[1:4] == [
        "described, not trained",
        "89.28 % epoch 10 of 16",
        "88.26 % (87.8-88.8 %) the same model, on the test images",
    ]
    assert cells_of(html, "LeNet-5 as the notebook")[1:4] == [
        "89.82 %",
        "92.05 % epoch 10 of 16",
        "91.75 % (91.2-92.2 %) the same model, on the test images",
    ]
    assert cells_of(html, "Hyperband")[1:4] == [
        "89.40 %",
        "91.97 % best of 17 trials of the space notebook retrained, epoch 10 of 16",
        "93.73 % (93.2-94.2 %) best of 17 trials of the space extended retrained, epoch 10 of 16",
    ]
    assert cells_of(html, "Ten folds, the first")[1:4] == [
        "98.38 %",
        "91.82 % weights carried from fold to fold",
        "one figure for all folds: see the next row",
    ]
    assert cells_of(html, "Ten folds, the last")[1:4] == [
        "99.25 %",
        "99.43 % weights carried from fold to fold",
        "91.91 % ± 0.28 (91.6-92.2 %) mean ± standard deviation of 10 folds, fresh weights in each "
        "on the held-out images",
    ]
    assert [cell.partition(" recipe")[0] for cell in cells_of(html, "VGG16, frozen")[1:4]] == [
        "10.00 %",
        "58.97 %",
        "93.34 % (92.8-93.8 %)",
    ]
    assert [cells_of(html, row.title)[1] for row in BACKBONE_ROWS] == ["72.31 %", "10.01 %", "10.00 %"]


def test_costs_are_time_parameters_and_epochs_of_each_way() -> None:
    html = render_pipeline(*page_of())

    assert "2 min 21 s, 504,342 parameters, 16 epochs" in cells_of(html, "LeNet-5 as the notebook")[4]
    assert cells_of(html, "Hyperband")[4] == (
        "the study's protocol: 2 min 21 s, 132,662 parameters, 92 + 16 epochs "
        "sound: 2 min 21 s, 132,662 parameters, 92 + 16 epochs"
    )
    assert "153 + 141 epochs (fresh + carried)" in cells_of(html, "Ten folds, the last")[4]
    assert "sound: 11 min 40 s, 15,000,000 parameters, 30 + 4 epochs" in cells_of(html, "VGG16, frozen")[4]


@pytest.mark.parametrize("names", [(), ("train-lenet5",), without("train-lenet5"), without("crossval-lenet5"), NAMES])
def test_no_cell_of_any_row_is_empty(names: tuple[str, ...]) -> None:
    report, stages = page_of(names)
    rows = study_rows(report.metrics, stages)

    assert [cells[0].text for cells in rows] == [row.title for row in ROWS]
    for cells in rows:
        assert len(cells) == len(STUDY_COLUMNS)
        assert all(cell.text or cell.notes or cell.runs for cell in cells), cells


def test_a_stage_without_results_says_why_in_place_of_a_number() -> None:
    names = tuple(name for name in NAMES if "resnet" not in name and "1998" not in name)
    page = page_of(
        names,
        left_out("transfer-resnet152v2-notebook", "--backbone vgg16"),
        failed("transfer-resnet152v2-sound", "TrainingError: loss is not finite"),
        failed("train-lenet5-1998", None),
    )
    html = render_pipeline(*page)

    assert cells_of(html, "ResNet152V2, frozen")[2:] == [
        "left out: --backbone vgg16",
        "failed: TrainingError: loss is not finite",
        "none: no run finished",
        "no report",
    ]
    assert cells_of(html, "LeNet-5 as published")[2] == "failed: no reason given"
    assert "2 stages failed: train-lenet5-1998, transfer-resnet152v2-sound." in text_of(html)
    assert "2 stages failed" in render_pipeline_markdown(*page)
    assert "stages finished 8 of 11 left out 1 failed 2" in text_of(html)


def test_a_stage_that_the_pipeline_does_not_know_is_no_error() -> None:
    html = render_pipeline(*changed(page_of(()), stages=()))

    assert cells_of(html, "VGG16, frozen")[2] == "no stage of this pipeline"


def test_folds_without_carried_weights_say_so() -> None:
    report, stages = page_of()
    stages |= {"crossval-lenet5": crossval(None)}
    html = render_pipeline(report, stages)

    assert cells_of(html, "Ten folds, the first")[2] == "not measured folds with carried weights were not run"
    assert "91.91 %" in cells_of(html, "Ten folds, the last")[3]
    assert "folds" not in [finding.key for finding in findings(stages)]


def test_finished_stages_and_only_these_are_linked() -> None:
    html = render_pipeline(*page_of(without("tune-extended")))
    links = re.findall(r'<a href="([^"]*)">', html)

    for name in without("tune-extended"):
        assert f"../{STAGES[name].run_id}/report.html" in links, name
    assert not [link for link in links if "extended" in link]
    assert not re.search(r'src="(?!data:)', html)


def test_markdown_names_runs_and_links_nowhere() -> None:
    text = render_pipeline_markdown(*page_of())

    assert "](" not in text and "report.html)" not in text and "<img" not in text
    assert all(escaped(run.run_id) in text for run in STAGES.values())


@pytest.mark.parametrize(
    ("key", "needed"),
    [
        ("folds", ("crossval-lenet5",)),
        ("chance", ("transfer-vgg16-notebook", "transfer-vgg16-sound")),
        ("search", ("tune-notebook", "train-lenet5")),
        ("models", ("train-lenet5", "train-lenet5-1998")),
        ("validation", ("train-lenet5-1998",)),
    ],
)
def test_findings_are_shown_with_all_of_their_stages_and_not_with_less(key: str, needed: tuple[str, ...]) -> None:
    assert key in [finding.key for finding in findings({name: STAGES[name] for name in needed})]
    for missing in needed:
        left = {name: STAGES[name] for name in needed if name != missing}
        assert key not in [finding.key for finding in findings(left)]
    assert f'<h3 id="{key}">' in render_pipeline(*page_of(needed))


def test_without_stages_there_is_no_finding() -> None:
    assert findings({}) == []
    for text in (render_pipeline(*page_of(())), render_pipeline_markdown(*page_of(()))):
        assert "The stages that show it are not finished." in text


def test_findings_compare_frozen_backbones_and_name_their_weights() -> None:
    random = Weights("none", None, published=False)
    stages = STAGES | {
        "transfer-vgg16-sound": transfer(
            "vgg16", "sound", ("frozen", 0.9178, 0.9147), ("fine-tuned", 0.9347, 0.9334),
            weights=Weights("imagenet", "other", published=True),
        ),
        "transfer-resnet152v2-notebook": transfer("resnet152v2", "notebook", ("frozen", 0.7, 0.7), weights=random),
        "transfer-resnet152v2-sound": transfer("resnet152v2", "sound", ("frozen", 0.8, 0.8), weights=random),
    }  # fmt: skip
    rows = {row[0].text: row for row in next(one for one in findings(stages) if one.key == "chance").rows}

    assert [cell.text[:5] for cell in rows["VGG16"][1:]] == ["10.00", "58.91", "91.47"]
    assert rows["VGG16"][0].notes == ("weights differ between the two",)
    assert rows["EfficientNetB1"][0].notes == ("ImageNet's weights",)
    assert rows["ResNet152V2"][0].notes == ("random weights",)
    warnings = pipeline_warnings(pipeline(stages), stages)
    assert warnings == ["ResNet152V2 started from random weights, not from the published ImageNet weights."]


def test_validation_is_compared_with_test_for_every_run_that_has_both() -> None:
    stages = {name: STAGES[name] for name in ("train-lenet5", "tune-extended", "crossval-lenet5")}
    found = next(one for one in findings(stages) if one.key == "validation")

    assert [[cell.text for cell in (row[0], row[3])] for row in found.rows] == [
        ["train-lenet5", "\N{MINUS SIGN}0.30"],
        ["tune-extended", "\N{MINUS SIGN}0.72"],
    ]


def test_headline_is_the_best_by_validation_not_by_test() -> None:
    assert text_of(pipeline_headline(STAGES)) == (
        "The best of 17 trials of the space extended, retrained, reaches 93.7 % on the 10,000 test images "
        "(95 % interval 93.2\N{EN DASH}94.2 %)"
    )
    lucky = STAGES | {"train-lenet5": train("train-lenet5", 0.92, 0.99, 504_342)}
    assert best_row(lucky).sound == "tune-extended"  # type: ignore[union-attr]
    report, _ = page_of()
    for text in (render_pipeline(report, lucky), render_pipeline_markdown(report, lucky)):
        assert "Stage tune-extended, the best by validation accuracy." in text
    fine_tuned = pipeline_headline({name: STAGES[name] for name in ("train-lenet5", "transfer-vgg16-sound")})
    assert fine_tuned.startswith("VGG16 (fine-tuned) reaches 93.3")
    held_out_only = {"crossval-lenet5": STAGES["crossval-lenet5"]}
    assert "No stage" in pipeline_headline(held_out_only) and best_row(held_out_only) is None


@pytest.mark.parametrize(("profile", "limit"), [("smoke", None), ("smoke", 2000), ("full", 5000)])
def test_small_subsets_are_warned_of_before_any_figure(profile: str, limit: int | None) -> None:
    small = changed(page_of(), profile=profile, limit=limit)

    for text in (text_of(render_pipeline(*small)), render_pipeline_markdown(*small)):
        assert text.index("no figure here says anything about the models") < text.index("LeNet-5 as published")
        assert (f"{limit:,} images" in text) if limit else ("None" not in text)
    assert "says anything" not in render_pipeline(*page_of())


def test_reasons_are_text_and_never_markup() -> None:
    evil = "<script>alert('x')</script> | *now*\n| `b` | [c](d) &"
    page = page_of(without("tune-extended"), failed("tune-extended", evil))
    html, text = render_pipeline(*page), render_pipeline_markdown(*page)

    assert "<script" not in html and "&lt;script&gt;" in html
    assert "<script" not in text and "[c](d)" not in text and "&lt;script&gt;" in text
    assert "\\| \\*now\\* \\| \\`b\\` \\| \\[c\\](d) &amp;" in text


def test_every_line_of_a_markdown_table_has_as_many_cells() -> None:
    text = render_pipeline_markdown(*page_of(without("tune-extended"), failed("tune-extended", "a | b\nc\r\nd")))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]

    assert len(blocks) == 4
    for lines in blocks:
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {lines[0].count("|")}
        assert re.fullmatch(r"\|( --- \|)+", lines[1])
    assert len(blocks[0]) == len(ROWS) + 2


def test_figures_stand_once_each_and_those_of_stages_in_their_findings() -> None:
    report, stages = page_of()
    html = render_pipeline(replace(report, plots=dict(report.plots) | {"unheard_of": b"PNG"}), stages)

    for name in [*report.plots, "unheard_of"]:
        assert html.count(f'<figure id="{name}">') == 1, name
    assert html.index('<h3 id="folds">') < html.index('id="crossval-lenet5/leak"') < html.index('<h3 id="chance">')
    assert "crossval-lenet5: the same images in the same folds" in html
    assert html.index("Figures of the stages") < html.index('id="train-lenet5/confusion_matrix"')


def test_figures_of_findings_are_among_those_that_the_pipeline_brings() -> None:
    brought = {f"{stage}/{plot}" for stage, plots in STAGE_PLOTS.items() for plot in plots}
    shown = {figure for finding in findings(STAGES) for figure in finding.figures}

    assert shown < brought
    assert set(STAGE_PLOTS) < set(NAMES)


@pytest.mark.parametrize("names", [NAMES, ("train-lenet5",), ()], ids=["all", "one", "none"])
def test_figures_are_small_png_of_the_common_width(names: tuple[str, ...]) -> None:
    stages = {name: STAGES[name] for name in names}
    plots = pipeline_plots(pipeline(stages), stages)

    assert list(plots) == (["results", "cost"] if names else ["results"])
    for name, png in plots.items():
        image = Image.open(io.BytesIO(png))
        assert (image.format, image.width) == ("PNG", 572), name
        assert len(png) < 100_000, name


def test_results_draw_each_accuracy_once_on_its_rows_line() -> None:
    figure = results(STAGES)
    drawn: dict[str, list[tuple[float, int]]] = {"D": [], "s": [], "o": []}
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_marker() in drawn:
                points = zip(line.get_xdata(), line.get_ydata(), strict=True)
                drawn[line.get_marker()] += [(accuracy, round(place)) for accuracy, place in points]

    assert sorted(drawn["D"]) == sorted(
        (row.val_accuracy, place) for place, row in enumerate(ROWS) if row.val_accuracy is not None
    )
    ours = [0.8928, 0.9205, 0.9197, 0.9182, 0.9943, 0.7011, 0.1013, 0.5897]
    assert sorted(drawn["s"]) == sorted(zip(ours, range(8), strict=True))
    sound = [(0.8826, 0), (0.9175, 1), (0.9373, 2), (0.9191, 4), (0.8901, 5), (0.8801, 6), (0.9334, 7)]
    assert sorted(drawn["o"]) == sorted(sound)


def test_cost_has_a_bar_a_finished_stage_in_the_pipelines_order() -> None:
    stages = {name: STAGES[name] for name in ("crossval-lenet5", "train-lenet5")}
    (axes,) = cost(pipeline(stages), stages).axes

    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["train-lenet5", "crossval-lenet5"]
    assert [bar.get_width() for bar in axes.containers[0]] == [141.0, 2948.0]
    assert [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in axes.texts] == [
        "2 min 21 s  91.8 %",
        "49 min 08 s  91.9 %",
    ]
