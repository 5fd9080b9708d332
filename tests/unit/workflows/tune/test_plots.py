import io
import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fmnist.report.style import VAL, to_png
from fmnist.workflows.tune.plots import (
    accuracy_limits,
    accuracy_scale,
    parallel_coordinates,
    parameter_scales,
    parameters,
    thinned,
    trial_curves,
    tune_plots,
)
from fmnist.workflows.tune.records import TrialRecord


def record(trial: int, accuracies=(), status="finished", bracket: int = 0, **parameters) -> TrialRecord:
    rows = tuple({"epoch": float(epoch), "val_accuracy": value} for epoch, value in enumerate(accuracies, 1))
    return TrialRecord(trial, bracket, parameters or {"learning_rate": 0.001}, status, rows)


def rising(epochs: int, last: float) -> list[float]:
    return [last - 0.08 * 0.5**epoch for epoch in range(1, epochs)] + [last]


def search() -> list[TrialRecord]:
    """Brackets of 4 and 2 trials: a winner, trials dropped after 2 and 4 epochs, a failed one and a hopeless one."""
    return [
        record(1, rising(2, 0.85), "stopped", 2, rate=1e-4, kernel=3),
        record(2, rising(10, 0.92), "finished", 2, rate=1e-3, kernel=5),
        record(3, rising(4, 0.88), "stopped", 2, rate=3e-3, kernel=3),
        record(4, rising(1, 0.80), "failed", 2, rate=5e-3, kernel=3),
        record(5, rising(7, 0.91), "stopped early", 0, rate=2e-3, kernel=5),
        record(6, [0.1] * 10, "finished", 0, rate=1e-2, kernel=5),
    ]


def hundred() -> list[TrialRecord]:
    """Trials of sixteen hyper-parameters, most of them conditional, some of them long of name."""
    random = np.random.default_rng(0)
    trials = []
    for trial in range(1, 101):
        values = {"kind": ["adam", "sgd", "x" * 60][trial % 3], "normalise": bool(trial % 2), "fixed": 7}
        values |= {"rate": float(10 ** random.uniform(-6, 0)), "a_long_name_" * 8: int(random.integers(0, 3))}
        for block in range(trial % 12):
            values[f"block_{block}_filters"] = int(random.integers(8, 256))
        accuracies = rising(int(random.choice([1, 3, 9])), random.choice([0.1, 0.9])) if trial % 7 else ()
        trials.append(record(trial, accuracies, "stopped" if trial % 7 else "failed", **values))
    return trials


CASES = {
    "search": (search(), 2),
    "one trial": ([record(1, [0.8])], 1),
    "a hundred": (hundred(), 2),
    "no epoch": ([record(1, (), "failed", x=1), record(2, (), "failed", x=2)], 1),
    "all equal": ([record(trial, [0.9, 0.9], flag=trial > 2) for trial in range(1, 5)], 1),
    "perfect": ([record(1, [1.0])], 1),
    "interrupted": ([record(1, [0.8], "running"), record(2, [0.7], "paused"), record(3, (), "pending")], 1),
}


def ends(axes: Axes) -> set[tuple[float, float, str]]:
    """Epoch, accuracy and marker of what stands at the curves' ends."""
    return {
        (line.get_xdata()[0], round(line.get_ydata()[0], 6), line.get_marker())
        for line in axes.lines
        if line.get_linestyle() == "None"
    }


def drawn(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB"))


@pytest.mark.parametrize("case", CASES)
def test_every_search_can_be_drawn_at_the_common_width_with_no_text_cut_off(case):
    records, winner = CASES[case]
    plots = tune_plots(records, winner)
    assert list(plots) == ["trial_curves", "parallel_coordinates", "parameters"]
    for png in plots.values():
        with Image.open(io.BytesIO(png)) as picture:
            assert (picture.format, picture.width) == ("PNG", 572)
            pixels = np.asarray(picture.convert("RGB"))
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == 255).all()


def test_curves_have_a_panel_for_each_bracket_and_end_where_the_trial_ended():
    figure = trial_curves(search(), 2)
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == [
        "Bracket 2: 4 → 2 → 1 trials, 1 failed",
        "Bracket 0: 2 trials",
    ]
    low = accuracy_limits([row["val_accuracy"] for trial in search() for row in trial.rows])[0]
    assert ends(first) == {(2, 0.85, "o"), (10, 0.92, "o"), (4, 0.88, "o"), (1, 0.8, "x")}
    assert ends(second) == {(7, 0.91, "s"), (10, round(low, 6), "v")}
    dotted = [line.get_xdata()[0] for line in first.lines if line.get_xdata()[0] == line.get_xdata()[-1]]
    assert {2, 4} <= set(dotted)


def test_axis_of_epochs_runs_forward_even_without_any():
    begin, end = trial_curves([record(1, (), "failed")], 1).axes[0].get_xlim()
    assert begin < 1 < end


def test_a_single_bracket_is_not_numbered():
    assert trial_curves([record(1, [0.8]), record(2, [0.7])], 1).axes[0].get_title(loc="left") == "2 trials"


@pytest.mark.parametrize("draw", [trial_curves, parallel_coordinates])
def test_winner_is_thick_and_in_a_colour_of_its_own(draw):
    thick = [line for axes in draw(search(), 2).axes for line in axes.lines if line.get_linewidth() >= 3]
    assert len(thick) == 1
    assert thick[0].get_color() == VAL
    assert [line.get_color() for axes in draw(search(), 2).axes for line in axes.lines].count(VAL) <= 2


def test_axis_of_accuracy_keeps_good_trials_apart_though_a_bad_one_learned_nothing():
    scale = accuracy_scale([record(1, [0.93]), record(2, [0.85]), record(3, [0.10]), record(4)])
    assert scale.positions[0] - scale.positions[1] > 0.8
    assert (scale.positions[2], scale.below) == (0, (False, False, True, False))
    assert math.isnan(scale.positions[3])
    assert scale.ticks[0] == (0, "lower")
    low, high = trial_curves([record(1, [0.93]), record(2, [0.85]), record(3, [0.10])], 1).axes[0].get_ylim()
    assert 0.8 < low < 0.85
    assert high < 0.95


def test_axis_is_logarithmic_where_positive_values_span_a_factor_of_thirty():
    def middle(*values: float) -> float:
        return parameter_scales([record(n, [0.9], x=value) for n, value in enumerate(values, 1)])[0].positions[1]

    assert middle(1e-4, 1e-3, 1e-2) == pytest.approx(0.5)
    assert middle(1, 15.5, 30) == pytest.approx(math.log(15.5) / math.log(30))
    assert middle(1, 15, 29) == pytest.approx(0.5)
    assert middle(0.0, 50.0, 100.0) == pytest.approx(0.5)
    assert middle(-1e-4, 0.5, 1.0) == pytest.approx(0.5, abs=1e-3)


def test_texts_and_truth_values_have_places_of_their_own():
    kind, flag = parameter_scales([record(1, kind="sgd", flag=True), record(2, kind="adam", flag=False)])
    assert kind.ticks == ((0.25, "adam"), (0.75, "sgd"))
    assert kind.positions == (0.75, 0.25)
    assert flag.ticks == ((0.25, "no"), (0.75, "yes"))


def test_trial_without_a_hyper_parameter_stands_apart_from_the_values():
    (scale, _) = parameter_scales([record(1, x=1), record(2, y=1), record(3, x=5)])
    assert scale.ticks[0] == (0, "off")
    assert scale.positions[1] == 0
    assert 0.1 < scale.positions[0] < scale.positions[2] == 1


def test_parallel_coordinates_has_an_axis_for_each_hyper_parameter_and_accuracy_last():
    axes = parallel_coordinates(search(), 2).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rate", "kernel", "val_accuracy"]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == len(search())
    winner = lines[-1]
    np.testing.assert_allclose(winner.get_xdata()[:2], [0.5, 1])


def test_points_are_larger_and_darker_the_more_epochs_a_trial_trained():
    figure = parameters(search(), 2)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["rate", "kernel"]
    points = [line for line in figure.axes[0].lines if line.get_fillstyle() != "none"]
    assert len(points) == 6
    sizes = sorted((point.get_markersize(), -sum(point.get_markerfacecolor()[:3])) for point in points)
    assert sizes == sorted(sizes, key=lambda size: size[1])
    assert sizes[0][0] < sizes[-1][0]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["1 epoch", "2 epochs", "7 epochs", "10 epochs", "trial 2, the winner"]


def test_winner_is_ringed_in_every_panel():
    for axes in parameters(search(), 2).axes:
        (ring,) = [line for line in axes.lines if line.get_fillstyle() == "none"]
        assert ring.get_color() == VAL


def test_labels_of_ticks_do_not_touch():
    ticks = [(place / 20, f"value {place}") for place in range(21)]
    kept = thinned(ticks, 44)
    assert kept[0] == ticks[0]
    assert all((right - left) * 44 >= 7 for (left, _), (right, _) in pairwise(kept))


def test_labels_of_a_hundred_trials_do_not_touch():
    figure = parameters(hundred(), 2)
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    axes = parallel_coordinates(hundred(), 2).axes[0]
    axes.figure.canvas.draw()
    names = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(names))


def test_trials_without_an_epoch_are_dashed_and_end_before_the_accuracy():
    axes = parallel_coordinates([record(1, [0.9], x=1), record(2, (), "failed", x=2)], 1).axes[0]
    (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert math.isnan(dashed.get_xdata()[-1])
    assert drawn(axes.figure).any()
