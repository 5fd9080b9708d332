"""The page, the Markdown and the figures of a pipeline."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from stage_metrics import DATA, STAGES, crossval, train, transfer, tune

from fmnist.study import BACKBONE_ROWS, ROWS
from fmnist.workflows.pipeline.claims import claims
from fmnist.workflows.pipeline.markdown import escaped, table
from fmnist.workflows.pipeline.page import (
    STAGE_PLOTS,
    PipelineReport,
    pipeline_headline,
    pipeline_warnings,
    render_pipeline,
    render_pipeline_markdown,
    where,
)
from fmnist.workflows.pipeline.plots import cost, pipeline_plots, results
from fmnist.workflows.pipeline.rows import STUDY_COLUMNS, study_rows

NAMES = tuple(dict.fromkeys(name for row in ROWS for name in (row.reproduced, row.sound) if name))

PLOTS = ("results", "cost", "class_balance", "crossval-lenet5/leak", "train-lenet5/confusion_matrix")


def pipeline(finished: dict[str, Any], **others: tuple[str, str | None]) -> dict[str, Any]:
    """The metrics of a pipeline; ``others`` are state and reason by stage, ``-`` written as ``_``."""
    states = {name.replace("_", "-"): state for name, state in others.items()}
    return {
        "job": "pipeline", "run_id": "night", "profile": "laptop", "seed": 0, "limit": None,
        "started": "2026-11-25T02:00:00Z", "finished": "2026-11-25T03:00:00Z", "seconds": {"total": 3600.0},
        "stages": [
            {
                "stage": name.split("-")[0], "name": name, "job": name.split("-")[0], "run_id": f"night-{name}",
                "status": "finished" if name in finished else states.get(name, ("left out",))[0],
                "reason": None if name in finished else states.get(name, ("", "--stages train"))[1],
                "seconds": 141.0 if name in finished else None,
            }
            for name in NAMES
        ],
    }  # fmt: skip


def report_of(names: tuple[str, ...] = NAMES, **others: tuple[str, str | None]) -> PipelineReport:
    stages = {name: STAGES[name] for name in names}
    return PipelineReport(
        "night", pipeline(stages, **others), stages, DATA, {"profile": "laptop"}, {"python": "3.12"},
        dict.fromkeys(PLOTS, b"PNG"),
    )  # fmt: skip


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ").replace("&#39;", "'").split())


def cells_of(html: str, title: str) -> list[str]:
    row = next(row for row in re.findall(r"<tr>.*?</tr>", html, re.S) if title in text_of(row))
    return [text_of(cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.S)]


def without(name: str) -> tuple[str, ...]:
    return tuple(other for other in NAMES if other != name)


def test_every_row_of_the_study_stands_with_its_figure_and_ours() -> None:
    html = render_pipeline(report_of()).replace("\N{EN DASH}", "-")

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
    html = render_pipeline(report_of())

    assert "2 min 21 s, 504,342 parameters, 16 epochs" in cells_of(html, "LeNet-5 as the notebook")[4]
    assert cells_of(html, "Hyperband")[4] == (
        "the study's way: 2 min 21 s, 132,662 parameters, 92 + 16 epochs "
        "sound: 2 min 21 s, 132,662 parameters, 92 + 16 epochs"
    )
    assert "153 + 141 epochs (fresh + carried)" in cells_of(html, "Ten folds, the last")[4]
    assert "sound: 11 min 40 s, 15,000,000 parameters, 30 + 4 epochs" in cells_of(html, "VGG16, frozen")[4]


@pytest.mark.parametrize("names", [(), ("train-lenet5",), without("train-lenet5"), without("crossval-lenet5"), NAMES])
def test_no_cell_of_any_row_is_empty(names: tuple[str, ...]) -> None:
    report = report_of(names)
    rows = study_rows(report.metrics, report.stages)

    assert [cells[0].text for cells in rows] == [row.title for row in ROWS]
    for cells in rows:
        assert len(cells) == len(STUDY_COLUMNS)
        assert all(cell.text or cell.notes or cell.runs for cell in cells), cells


def test_a_stage_without_results_says_why_in_place_of_a_number() -> None:
    names = tuple(name for name in NAMES if "resnet" not in name and "1998" not in name)
    report = report_of(
        names,
        transfer_resnet152v2_notebook=("left out", "--backbone vgg16"),
        transfer_resnet152v2_sound=("failed", "TrainingError: loss is not finite"),
        train_lenet5_1998=("failed", None),
    )
    html = render_pipeline(report)

    assert cells_of(html, "ResNet152V2, frozen")[2:] == [
        "left out: --backbone vgg16",
        "failed: TrainingError: loss is not finite",
        "none: no run finished",
        "no report",
    ]
    assert cells_of(html, "LeNet-5 as published")[2] == "failed, no reason given"
    assert "2 stages failed: train-lenet5-1998, transfer-resnet152v2-sound." in text_of(html)
    assert "2 stages failed" in render_pipeline_markdown(report)
    assert "stages finished 8 of 11 left out 1 failed 2" in text_of(html)


def test_a_stage_that_the_pipeline_does_not_know_is_no_error() -> None:
    report = report_of(())
    html = render_pipeline(replace(report, metrics=dict(report.metrics) | {"stages": []}))

    assert cells_of(html, "VGG16, frozen")[2] == "transfer-vgg16-notebook is no stage of this pipeline"


def test_folds_without_carried_weights_say_so() -> None:
    report = report_of()
    stages = dict(report.stages) | {"crossval-lenet5": crossval(None)}
    html = render_pipeline(replace(report, stages=stages))

    assert cells_of(html, "Ten folds, the first")[2] == "not measured folds with carried weights were not run"
    assert "91.91 %" in cells_of(html, "Ten folds, the last")[3]
    assert "folds" not in [claim.key for claim in claims(stages)]


def test_finished_stages_and_only_these_are_linked() -> None:
    html = render_pipeline(report_of(without("tune-extended")))
    links = re.findall(r'<a href="([^"]*)">', html)

    for name in without("tune-extended"):
        assert f"../{STAGES[name]['run_id']}/report.html" in links, name
    assert not [link for link in links if "extended" in link]
    assert not re.search(r'src="(?!data:)', html)


def test_markdown_names_runs_and_links_nowhere() -> None:
    text = render_pipeline_markdown(report_of())

    assert "](" not in text and "report.html)" not in text and "<img" not in text
    assert all(escaped(run["run_id"]) in text for run in STAGES.values())


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
def test_claims_are_made_with_all_of_their_stages_and_not_with_less(key: str, needed: tuple[str, ...]) -> None:
    assert key in [claim.key for claim in claims({name: STAGES[name] for name in needed})]
    for missing in needed:
        left = {name: STAGES[name] for name in needed if name != missing}
        assert key not in [claim.key for claim in claims(left)]
    html = render_pipeline(report_of(needed))
    assert f'<h3 id="{key}">' in html


def test_without_stages_no_claim_is_made() -> None:
    assert claims({}) == []
    for text in (render_pipeline(report_of(())), render_pipeline_markdown(report_of(()))):
        assert "The stages that would show it have not finished." in text


def sentences(key: str, **changed: dict[str, Any]) -> str:
    stages = STAGES | {name.replace("_", "-"): run for name, run in changed.items()}
    found = next(claim for claim in claims(stages) if claim.key == key)
    return text_of(" ".join(found.sentences))


def test_the_leak_is_claimed_only_where_carried_weights_end_above_fresh_ones() -> None:
    assert "the first reaches 91.82 % and the last 99.43 %" in sentences("folds")
    assert "The 7.52 points between the two are what the model remembers" in sentences("folds")
    none = sentences("folds", crossval_lenet5=crossval([0.9182, 0.92]))
    assert "the leak does not show here" in none and "remembers" not in none


def test_chance_is_judged_by_the_interval_of_this_run() -> None:
    text = sentences("chance")

    assert "EfficientNetB1 reaches 10.02 %" in text and "not to be told from chance." in text
    assert "VGG16 reaches 58.91 %" in text and "more than chance: this run does not repeat" in text
    assert "The 10.00 % of VGG16 is not explained" in text
    stood = sentences(
        "chance", transfer_vgg16_notebook=transfer("vgg16", "notebook", ("frozen", 0.1, 0.1)),
        transfer_efficientnetb1_notebook=transfer("efficientnetb1", "notebook", ("frozen", 0.3, 0.3)),
    )  # fmt: skip
    assert "VGG16 reaches 10.00 % (9.5\N{EN DASH}10.5 %) on the test images here, not to be told from chance" in stood
    assert "EfficientNetB1 reaches 30.00 % (29.5\N{EN DASH}30.5 %) on the test images here, more than chance" in stood


def test_chance_compares_frozen_backbones_and_names_their_weights() -> None:
    random = {"source": "none", "sha256": None, "published": False}
    stages = STAGES | {
        "transfer-vgg16-sound": transfer(
            "vgg16", "sound", ("frozen", 0.9178, 0.9147), ("fine-tuned", 0.9347, 0.9334), sha256="other"
        ),
        "transfer-resnet152v2-notebook": transfer("resnet152v2", "notebook", ("frozen", 0.7, 0.7), **random),
        "transfer-resnet152v2-sound": transfer("resnet152v2", "sound", ("frozen", 0.8, 0.8), **random),
    }
    rows = {row[0].text: row for row in next(claim for claim in claims(stages) if claim.key == "chance").rows}

    assert rows["VGG16"][3].text.startswith("91.47")
    assert rows["VGG16"][0].notes == ("weights differ between the two",)
    assert rows["EfficientNetB1"][0].notes == ("ImageNet's weights",)
    assert rows["ResNet152V2"][0].notes == ("random weights",)
    assert "ResNet152V2 started from random weights" in " ".join(pipeline_warnings(pipeline(stages), stages))


def test_the_search_is_compared_by_test_accuracy_and_intervals() -> None:
    assert "the search ends 0.39 points below" in sentences("search")
    assert "95 % intervals overlap" in sentences("search")
    assert "the space decides" in sentences("search")
    above = sentences("search", tune_notebook=tune("notebook", 0.95, 0.95))
    assert "3.25 points above" in above and "intervals do not overlap." in above and "decides" not in above


def test_two_models_are_told_apart_by_their_parameters() -> None:
    assert "504,342 parameters, 8.4 times the 60,000" in sentences("models")


def test_validation_is_set_beside_test_for_every_run_that_has_both() -> None:
    stages = {name: STAGES[name] for name in ("train-lenet5", "tune-extended", "crossval-lenet5")}
    found = next(claim for claim in claims(stages) if claim.key == "validation")

    assert [[cell.text for cell in (row[0], row[3])] for row in found.rows] == [
        ["train-lenet5", "\N{MINUS SIGN}0.30"],
        ["tune-extended", "\N{MINUS SIGN}0.72"],
    ]
    assert "They give less in 2 of 2 runs, and 0.51 points less on average." in found.sentences[1]


def test_headline_is_the_best_by_validation_not_by_test() -> None:
    assert text_of(pipeline_headline(STAGES)) == (
        "The best of 17 trials of the space extended, retrained, reaches 93.7 % on the 10,000 test images "
        "(95 % interval 93.2\N{EN DASH}94.2 %)"
    )
    lucky = STAGES | {"train-lenet5": train("train-lenet5", 0.92, 0.99, 504_342)}
    assert where(lucky) == "Stage tune-extended, the best of 6 by validation accuracy."
    fine_tuned = pipeline_headline({name: STAGES[name] for name in ("train-lenet5", "transfer-vgg16-sound")})
    assert fine_tuned.startswith("VGG16 (fine-tuned) reaches 93.3")
    assert where({"train-lenet5": STAGES["train-lenet5"]}) == "Stage train-lenet5."
    held_out_only = {"crossval-lenet5": STAGES["crossval-lenet5"]}
    assert "No stage" in pipeline_headline(held_out_only) and where(held_out_only) == ""


@pytest.mark.parametrize(("profile", "limit"), [("smoke", None), ("smoke", 2000), ("full", 5000)])
def test_small_subsets_are_warned_of_before_any_figure(profile: str, limit: int | None) -> None:
    report = report_of()
    small = replace(report, metrics=dict(report.metrics) | {"profile": profile, "limit": limit})

    for text in (text_of(render_pipeline(small)), render_pipeline_markdown(small)):
        assert text.index("no figure here says anything about the models") < text.index("LeNet-5 as published")
        assert (f"{limit:,} images" in text) if limit else ("None" not in text)
    assert "says anything" not in render_pipeline(report)


def test_reasons_are_text_and_never_markup() -> None:
    evil = "<script>alert('x')</script> | *now*\n| `b` | [c](d) &"
    report = report_of(without("tune-extended"), tune_extended=("failed", evil))
    html, text = render_pipeline(report), render_pipeline_markdown(report)

    assert "<script" not in html and "&lt;script&gt;" in html
    assert "<script" not in text and "[c](d)" not in text and "&lt;script&gt;" in text
    assert "\\| \\*now\\* \\| \\`b\\` \\| \\[c\\](d) &amp;" in text


def test_every_line_of_a_markdown_table_has_as_many_cells() -> None:
    text = render_pipeline_markdown(report_of(without("tune-extended"), tune_extended=("failed", "a | b\nc\r\nd")))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]

    assert len(blocks) == 4
    for lines in blocks:
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {lines[0].count("|")}
        assert re.fullmatch(r"\|( --- \|)+", lines[1])
    assert len(blocks[0]) == len(ROWS) + 2
    with pytest.raises(ValueError, match="row of 1 cells, expected 2"):
        table(["a", "b"], [["c"]])


def test_figures_stand_once_each_and_those_of_stages_in_their_claims() -> None:
    report = report_of()
    html = render_pipeline(replace(report, plots=dict(report.plots) | {"unheard_of": b"PNG"}))

    for name in [*report.plots, "unheard_of"]:
        assert html.count(f'<figure id="{name}">') == 1, name
    assert html.index('<h3 id="folds">') < html.index('id="crossval-lenet5/leak"') < html.index('<h3 id="chance">')
    assert "crossval-lenet5: the same images in the same folds" in html
    assert html.index("Figures of the stages") < html.index('id="train-lenet5/confusion_matrix"')


def test_figures_of_claims_are_among_those_that_the_pipeline_brings() -> None:
    brought = {f"{stage}/{plot}" for stage, plots in STAGE_PLOTS.items() for plot in plots}
    shown = {figure for claim in claims(STAGES) for figure in claim.figures}

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
