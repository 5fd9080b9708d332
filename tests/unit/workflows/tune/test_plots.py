import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from fmnist.report.style import VAL
from fmnist.workflows.tune.plots import accuracy_limits, front_figure, parameters, trial_curves, tune_plots
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


def end(axes: Axes) -> set[tuple[float, float, str]]:
    """Epoch, accuracy and marker of the curves' ends."""
    return {(line.get_xdata()[-1], round(line.get_ydata()[-1], 6), line.get_marker()) for line in axes.lines}


def points(axes: Axes) -> list[tuple[float, float]]:
    """Values and accuracies of a panel's trials, without the winner's ring."""
    return [tuple(point) for point in axes.collections[0].get_offsets().tolist()]


@pytest.mark.parametrize("case", CASES)
def test_every_search_can_be_drawn_at_the_common_width_with_no_text_cut_off(case):
    records, winner = CASES[case]
    plots = tune_plots(records, winner)
    assert list(plots) == ["trial_curves", "parameters"]
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
    low = first.get_ylim()[0]
    assert end(first) == {(2, 0.85, "."), (10, 0.92, "o"), (4, 0.88, "."), (1, 0.8, "x")}
    # The hopeless trial runs along the lower edge.
    assert end(second) == {(7, 0.91, "s"), (10, round(low, 6), "o")}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["trial 2, the winner", "all epochs", "dropped", "stopped early", "failed"]


def test_axis_of_epochs_runs_forward_even_without_any():
    begin, end = trial_curves([record(1, (), "failed")], 1).axes[0].get_xlim()
    assert begin < 1 < end


def test_a_single_bracket_is_not_numbered():
    assert trial_curves([record(1, [0.8]), record(2, [0.7])], 1).axes[0].get_title(loc="left") == "2 trials"


def test_winner_is_thick_and_in_a_colour_of_its_own():
    lines = [line for axes in trial_curves(search(), 2).axes for line in axes.lines]
    assert [line.get_linewidth() for line in lines if line.get_color() == VAL] == [3]
    assert all(line.get_linewidth() < 3 for line in lines if line.get_color() != VAL)


def test_axis_of_accuracy_keeps_good_trials_apart_though_a_bad_one_learned_nothing():
    low, high = accuracy_limits([0.93, 0.85, 0.10])
    assert 0.8 < low < 0.85 and 0.93 < high < 0.95
    records = [record(1, [0.93]), record(2, [0.85]), record(3, [0.10]), record(4)]
    for axes in (trial_curves(records, 1).axes[0], parameters(records, 1).axes[0]):
        assert axes.get_ylim() == (low, high)
    assert sorted(y for _, y in points(parameters(records, 1).axes[0])) == [low, 0.85, 0.93]
    assert accuracy_limits([]) == (0, 1)


def test_axis_is_logarithmic_where_positive_values_span_a_factor_of_thirty():
    def scale(*values: float) -> str:
        return parameters([record(n, [0.9], x=value) for n, value in enumerate(values, 1)], 1).axes[0].get_xscale()

    assert scale(1e-4, 1e-3, 1e-2) == scale(1, 15.5, 30) == "log"
    assert scale(1, 15, 29) == scale(0.0, 50.0, 100.0) == scale(-1e-4, 0.5, 1.0) == "linear"


def test_texts_and_truth_values_have_places_of_their_own():
    kind, flag, _ = parameters(
        [record(1, [0.9], kind="sgd", flag=True), record(2, [0.8], kind="adam", flag=False)], 1
    ).axes
    assert [label.get_text() for label in kind.get_xticklabels()] == ["adam", "sgd"]
    assert [label.get_text() for label in flag.get_xticklabels()] == ["False", "True"]
    assert sorted(points(kind)) == sorted(points(flag)) == [(0, 0.8), (1, 0.9)]


def test_trials_without_the_hyper_parameter_or_without_an_epoch_are_left_out():
    records = [record(1, [0.9], x=1), record(2, [0.8], y=1), record(3, [0.85], x=5), record(4, (), "failed", x=3)]
    first, second, _ = parameters(records, 1).axes
    assert sorted(points(first)) == [(1, 0.9), (5, 0.85)]
    assert points(second) == [(1, 0.8)]


def test_points_are_darker_the_more_epochs_a_trial_trained():
    figure = parameters(search(), 2)
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["rate", "kernel"]
    figure.canvas.draw()
    rates = figure.axes[0].collections[0]
    darkness = {
        x: -sum(colour[:3]) for (x, _), colour in zip(points(figure.axes[0]), rates.get_facecolors(), strict=True)
    }
    by_epochs = [trial.parameters["rate"] for trial in sorted(search(), key=lambda trial: trial.epochs)]
    assert sorted(darkness, key=darkness.get)[:4] == by_epochs[:4]
    assert "trial 2" in figure.axes[2].get_xlabel()


def test_winner_is_ringed_in_every_panel():
    for axes in parameters(search(), 2).axes[:2]:
        _, ring = axes.collections
        assert to_hex(ring.get_edgecolor()[0]).upper() == VAL
        assert ring.get_offsets()[0, 1] == 0.92


def test_labels_of_a_hundred_trials_do_not_touch():
    figure = parameters(hundred(), 2)
    figure.canvas.draw()
    for axes in figure.axes[:-1]:
        boxes = [
            label.get_window_extent() for label in axes.get_xticklabels() if label.get_text() and label.get_visible()
        ]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_front_rises_with_the_size_and_the_winner_is_ringed():
    sizes = {1: 20_000, 2: 500_000, 3: 60_000, 4: 10_000, 5: 80_000, 6: 30_000}
    records = [replace(one, model_parameters=sizes[one.trial]) for one in search()]

    figure = front_figure(records, 5, 12_000)

    (axes,) = figure.axes
    (front,) = axes.lines
    # Of trials 6, 1, 3, 5 and 2 by size, 6 learned nothing, and 4 failed.
    assert list(front.get_xdata()) == [20_000, 60_000, 80_000, 500_000]
    assert list(front.get_ydata()) == [0.85, 0.88, 0.91, 0.92]
    points, ring = axes.collections
    assert len(points.get_offsets()) == 5
    assert ring.get_offsets().tolist() == [[80_000, 0.91]]


def test_front_is_drawn_with_the_other_figures_if_parameters_were_counted():
    records = [replace(one, model_parameters=1000) for one in search()]

    assert set(tune_plots(records, 2, 100)) - set(tune_plots(records, 2)) == {"pareto_front"}
