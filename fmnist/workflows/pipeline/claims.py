"""Where a pipeline's runs differ from the study, each claim with the experiment behind it.

A claim is made only where the stages behind it are finished, and says what their numbers show, which need not be what
was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist.report.page import interval, percent, plural, with_interval
from fmnist.report.page import model_title as title
from fmnist.study import (
    BACKBONE_ROWS,
    HYPERBAND,
    LAST_FOLD,
    LENET5,
    LENET5_1998,
    ROWS,
    STUDY_FIRST_FOLD,
    STUDY_LAST_FOLD,
    STUDY_TRANSFER_ACCURACIES,
    STUDY_TUNED_VAL_ACCURACY,
    STUDY_VAL_ACCURACY,
)
from fmnist.training.evaluation import CHANCE, overlap
from fmnist.workflows.crossval.config import CROSSVAL
from fmnist.workflows.pipeline.rows import Cell, Stages, candidate, recipe_note, weights_note
from fmnist.workflows.transfer.config import TRANSFER


@dataclass(frozen=True)
class Claim:
    """One difference from the study.

    Attributes:
        key: names it, such as ``folds``.
        title: its heading.
        sentences: what was done and what it shows.
        columns, rows: of a table; none if there is none.
        figures: names of the stages' figures that show it.
        command: what repeats an experiment that is not the pipeline's own; may be empty.
    """

    key: str
    title: str
    sentences: tuple[str, ...]
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    figures: tuple[str, ...] = ()
    command: str = ""


def claims(stages: Stages) -> list[Claim]:
    """Returns the claims that the finished stages allow.

    Args:
        stages: the content of ``metrics.json`` of every finished stage, by the stage's name.
    """
    made = (_folds(stages), _chance(stages), _search(stages), _two_models(stages), _validation(stages))
    return [claim for claim in made if claim]


def _folds(stages: Stages) -> Claim | None:
    run = stages.get(LAST_FOLD.reproduced)
    if run is None or not run.get("carried"):
        return None
    held_out, first, last = run["held_out"], run["carried"]["accuracy"][0], run["carried"]["accuracy"][-1]
    sentences = [
        "The study compiled its model anew for each fold and never reset its weights, so that from the second fold on "
        f"nearly all held-out images had been trained on before. It reports {percent(STUDY_FIRST_FOLD, 2)} for the "
        f"first fold and {percent(STUDY_LAST_FOLD, 2)} for the last.",
        f"Here {run['folds']} folds were trained in both ways. With weights carried from fold to fold the first "
        f"reaches {percent(first, 2)} and the last {percent(last, 2)}; with fresh weights in every fold the same "
        f"images give {percent(held_out['accuracy'], 2)} ± {100 * held_out['accuracy_sd']:.2f} (mean and standard "
        f"deviation; 95\N{NO-BREAK SPACE}% interval of the mean {interval(held_out)}).",
    ]
    if last > held_out["accuracy_high"]:
        sentences.append(
            f"The {100 * (last - held_out['accuracy']):.2f} points between the two are what the model remembers of "
            "images that it was trained on, and no quality that new images would meet."
        )
    else:
        sentences.append("The last fold with carried weights is not above that interval: the leak does not show here.")
    if first < STUDY_FIRST_FOLD:
        sentences.append(
            "In the first fold nothing has leaked but the choice of when to stop: that the study's already stands at "
            f"{percent(STUDY_FIRST_FOLD, 2)} suggests that its model came into it trained on the same images."
        )
    return Claim(
        "folds",
        f"Where the {percent(STUDY_LAST_FOLD, 2)} of the last fold comes from",
        tuple(sentences),
        figures=(f"{LAST_FOLD.reproduced}/leak",),
    )


# What benchmarks/chance.py found, which needs none of a pipeline's stages: docs/results.
EXPERIMENTS = {
    "efficientnetb1": (
        "EfficientNetB1 divides its input by 255 itself. Fed with 0 to 1, all images become nearly the same to it: "
        "with random filters too the study's head then ends at one tenth for every class, and with 0 to 255 the same "
        "filters let it learn. The range of its input is enough to explain "
        f"{percent(STUDY_TRANSFER_ACCURACIES['efficientnetb1'], 2)}."
    ),
    "vgg16": (
        f"The {percent(STUDY_TRANSFER_ACCURACIES['vgg16'], 2)} of VGG16 is not explained: fed in the study's way, a "
        "VGG16 with weights other than the study's learned, slowly and poorly."
    ),
}


def _chance(stages: Stages) -> Claim | None:
    both = [row for row in BACKBONE_ROWS if row.reproduced in stages and row.sound in stages]
    if not both:
        return None
    reported = ", ".join(f"{percent(row.val_accuracy or 0, 2)} for {title(row.key)}" for row in BACKBONE_ROWS)
    sentences = [
        "The study fed three backbones with the same images, framed to 32\N{MULTIPLICATION SIGN}32 and with grey "
        f"levels of 0 to 1, whatever the backbone was trained on. It reports {reported}; guessing gives "
        f"{percent(CHANCE, 0)}.",
        "Here a head was trained on each frozen backbone twice: fed in that way (recipe notebook), and in the way that "
        "its published weights expect, at the size and from the layer that the table names (recipe sound).",
    ]
    rows = []
    for row in both:
        notebook, sound = stages[row.reproduced], stages[row.sound or ""]
        theirs, ours = candidate(notebook, row.key, "frozen"), candidate(sound, row.key, "frozen")
        same = notebook["weights"][row.key]["sha256"] == sound["weights"][row.key]["sha256"]
        of_weights = weights_note(sound, row.key) or "ImageNet's weights"
        rows.append(
            (
                Cell(title(row.key), (of_weights if same else "weights differ between the two",)),
                Cell(percent(row.val_accuracy or 0, 2)),
                Cell(with_interval(theirs["test"]), (recipe_note(theirs),)),
                Cell(with_interval(ours["test"]), (recipe_note(ours),)),
            )
        )
        if STUDY_TRANSFER_ACCURACIES[row.key] < 2 * CHANCE:
            sentences.append(_beside_chance(row.key, theirs["test"]))
            sentences.append(EXPERIMENTS[row.key])
    return Claim(
        "chance",
        "Transfer learning at chance",
        tuple(sentences),
        (
            "backbone",
            "the study (validation)",
            "recipe notebook (test, 95\N{NO-BREAK SPACE}% interval)",
            "recipe sound (test, 95\N{NO-BREAK SPACE}% interval)",
        ),
        tuple(rows),
        tuple(f"{name}/candidate_curves" for row in both for name in (row.reproduced, row.sound)),
        "python benchmarks/chance.py --weights FILE.weights.h5",
    )


def _beside_chance(backbone: str, test: Mapping[str, Any]) -> str:
    reached = f"In the study's way {title(backbone)} reaches {with_interval(test)} on the test images here"
    if test["accuracy_low"] <= CHANCE:
        return f"{reached}, not to be told from chance."
    return f"{reached}, more than chance: this run does not repeat what the study saw."


def _search(stages: Stages) -> Claim | None:
    searched, start = stages.get(HYPERBAND.reproduced), stages.get(LENET5.reproduced)
    if searched is None or start is None:
        return None
    found, before = searched["test"], start["test"]
    points = 100 * (found["accuracy"] - before["accuracy"])
    sentences = [
        f"The study's search ended at {percent(STUDY_TUNED_VAL_ACCURACY, 2)}, below the "
        f"{percent(STUDY_VAL_ACCURACY, 2)} of the LeNet-5 that it started from. Its space does not hold that model: "
        "whatever is drawn from it has a third convolution.",
        f"Here the best of {plural(searched['search']['trials'], 'trial')} of the same space, retrained, reaches "
        f"{with_interval(found)} on the test images, and LeNet-5 {with_interval(before)}: the search ends "
        f"{abs(points):.2f} points {'above' if points >= 0 else 'below'} the model it started from, and the "
        f"95\N{NO-BREAK SPACE}% intervals "
        + (
            f"overlap, so that {before['images']:,} images hardly tell the two apart."
            if overlap(found, before)
            else "do not overlap."
        ),
    ]
    wider = stages.get(HYPERBAND.sound or "")
    if wider:
        better = wider["test"]["accuracy_low"] > found["accuracy_high"]
        sentences.append(
            f"The best of {plural(wider['search']['trials'], 'trial')} of the space {wider['search']['space']} reaches "
            f"{with_interval(wider['test'])}{': more than the search, the space decides.' if better else '.'}"
        )
    return Claim(
        "search",
        "A search that ends below the model it started from",
        tuple(sentences),
        figures=tuple(f"{name}/trial_curves" for name in (HYPERBAND.reproduced, HYPERBAND.sound)),
    )


def _two_models(stages: Stages) -> Claim | None:
    notebook, published = stages.get(LENET5.reproduced), stages.get(LENET5_1998.reproduced)
    if notebook is None or published is None:
        return None
    return Claim(
        "models",
        "Two models called LeNet-5",
        (
            f"The notebook's LeNet-5 has {plural(notebook['parameters'], 'parameter')}, "
            f"{notebook['parameters'] / published['parameters']:.1f} times the {published['parameters']:,} of the one "
            "that was published in 1998 and that the study describes: they are two different models.",
            f"On the same test images the notebook's reaches {with_interval(notebook['test'])} and the published one "
            f"{with_interval(published['test'])}.",
        ),
    )


def _validation(stages: Stages) -> Claim | None:
    names = dict.fromkeys(name for row in ROWS for name in (row.reproduced, row.sound) if name)
    measured = [(name, *_val_and_test(stages[name])) for name in names if name and name in stages]
    compared = [(name, val, test) for name, val, test in measured if test is not None]
    if not compared:
        return None
    points = [100 * (test["accuracy"] - val) for _, val, test in compared]
    less = sum(1 for difference in points if difference < 0)
    return Claim(
        "validation",
        "The accuracy that the epoch was chosen by",
        (
            "What the study reports is the validation accuracy of the epoch that had the highest. The images that "
            "chose it may flatter it; the test images had no part in any choice, and each run used them once, at its "
            "end.",
            f"They give less in {less} of {plural(len(compared), 'run')}, and {_mean(points)} on average.",
        ),
        ("run", "validation accuracy", "test accuracy (95\N{NO-BREAK SPACE}% interval)", "difference in points"),
        tuple(
            (Cell(name), Cell(percent(val, 2)), Cell(with_interval(test)), Cell(_signed(difference)))
            for (name, val, test), difference in zip(compared, points, strict=True)
        ),
    )


def _val_and_test(run: Mapping[str, Any]) -> tuple[float, Mapping[str, Any] | None]:
    """A cross-validation keeps away from the test images."""
    if run["job"] == CROSSVAL:
        return run["val"]["accuracy"], None
    if run["job"] == TRANSFER:
        last = candidate(run, run["candidates"][-1]["backbone"])
        return last["val_accuracy"], last["test"]
    return run["val"]["accuracy"], run["test"]


def _mean(points: Sequence[float]) -> str:
    mean = sum(points) / len(points)
    return f"{abs(mean):.2f} points {'more' if mean > 0 else 'less'}"


def _signed(points: float) -> str:
    """Writes a difference with its sign, a true minus where it is below 0."""
    return f"{points:+.2f}".replace("-", "\N{MINUS SIGN}")
