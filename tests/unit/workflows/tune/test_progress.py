import io
import re
import threading

import pytest
from clock import Clock
from rich.console import Console

from fmnist.workflows.tune import progress as search_progress
from fmnist.workflows.tune.progress import SearchProgress
from fmnist.workflows.tune.records import TrialRecord

NOTEBOOK = {
    "CONV_1_FILTER": 48, "KERNEL_1_FILTER": 3, "CONV_2_FILTER": 126, "KERNEL_2_FILTER": 5, "DROPOUT_1": 0.15,
    "learning_rate": 0.00073512,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(search_progress.time, "monotonic", clock)
    return clock


def record(trial: int, accuracies=(), status="running", seconds=20.0, **more) -> TrialRecord:
    rows = tuple(
        {"epoch": float(epoch), "val_accuracy": accuracy, "val_loss": 1 - accuracy, "seconds": seconds}
        for epoch, accuracy in enumerate(accuracies, 1)
    )
    return TrialRecord(trial, more.pop("bracket", 2), more.pop("parameters", NOTEBOOK), status, rows, **more)


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def lines_of(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


def picture(records, width: int, trials: int = 17, epochs: int = 92) -> list[str]:
    """What stands in a terminal of that width when a search ends."""
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=60, color_system=None, soft_wrap=True
    )
    with SearchProgress(console) as progress:
        progress.begin(trials, epochs, {})
        progress.update(records)
    last = console.file.getvalue().split("\x1b[2K")[-1]
    return [line.rstrip() for line in re.sub(r"\x1b\[\?25[lh]", "", last).splitlines()]


def test_log_has_a_line_for_each_trial_that_ended_with_best_and_time_left(clock):
    console = plain()
    with SearchProgress(console) as progress:
        progress.begin(3, 12, {})
        progress.update([record(1, [0.7]), record(2)])
        clock.now += 60
        progress.update([record(1, [0.7, 0.8], "stopped"), record(2, [0.9, 0.85])])
        progress.update([record(1, [0.7, 0.8], "stopped"), record(2, [0.9, 0.85], "finished")])
    assert lines_of(console) == [
        "trial 1 stopped after 2 epochs, val_accuracy 0.8000; best so far trial 2 0.9000; "
        "epochs 4/12, about 2 min left",
        "trial 2 finished after 2 epochs, val_accuracy 0.9000; best so far; epochs 4/12, about 2 min left",
    ]


def test_log_says_why_a_trial_failed_in_one_line():
    console = plain()
    with SearchProgress(console) as progress:
        progress.begin(1, 2, {})
        progress.update([record(1, (), "failed", error="out of memory\nTraceback [bold]")])
    assert lines_of(console) == ["trial 1 failed after 0 epochs: out of memory; epochs 0/2"]


def test_log_tells_a_new_best_once_and_only_when_its_trial_rests():
    console = plain()
    with SearchProgress(console) as progress:
        progress.begin(2, 8, {})
        for epoch in range(1, 5):
            progress.update([record(1, [0.5 + 0.1 * e for e in range(epoch)]), record(2, [0.01])])
        assert lines_of(console) == []
        for _ in range(3):
            progress.update([record(1, [0.5, 0.6, 0.7, 0.8], "paused"), record(2, [0.01])])
    (line,) = lines_of(console)
    assert line.startswith("new best: trial 1, val_accuracy 0.8000 after 4 epochs; epochs 5/8")


def test_notes_are_shown_as_they_are_however_long():
    console = plain()
    text = "17 trials [of] the space " + "x" * 100
    with SearchProgress(console) as progress:
        progress.note(text)
    assert lines_of(console) == [text]


@pytest.mark.parametrize("width", [80, 120])
def test_table_of_the_notebook_space_fits_the_terminal(width):
    shown = picture([record(trial, [0.9 - trial / 1000], "stopped early") for trial in range(1, 10)], width)
    assert all(len(line) <= width for line in shown)
    assert f"hyper-parameters: {', '.join(NOTEBOOK)}" in " ".join(shown)
    (row,) = [line for line in shown if line.split()[:1] == ["7"]]
    assert row.split() == ["7", "2", "stopped", "early", "1", "0.8930", "48", "3", "126", "5", "0.15", "0.00074"]


def test_headline_counts_trials_and_fits_the_terminal(clock):
    records = [
        record(1, [0.9], "finished"), record(2, [0.8], "stopped"), record(3, [0.8], "stopped early"),
        record(4, (), "failed"), record(5, [0.8], "paused"), record(6, [0.8]), record(7, [0.8]),
        record(8, (), "pending"),
    ]  # fmt: skip
    wide = "trials 3/17 finished · 2 running · 1 paused · 1 failed · epochs 6/92 · elapsed 0 s · about 1 s left"
    assert picture(records, 120)[0] == wide
    assert " ".join(picture(records, 80)[:2]) == wide


def test_table_shows_the_best_eight_and_every_trial_that_runs_best_first():
    done = [record(trial, [0.8 + trial / 1000], "stopped") for trial in range(1, 21)]
    running = [record(30, [0.1]), record(31), record(32, [0.999])]
    trials = [line.split()[0] for line in picture([*done, *running], 100) if line.strip()[:1].isdigit()]
    assert trials == ["32", "20", "19", "18", "17", "16", "15", "14", "30", "31"]


def test_long_names_and_many_parameters_do_not_wrap():
    many = {"kind": "y" * 100} | {f"block_{n}_number_of_filters": 2.0**-n for n in range(16)} | {"x" * 100: "z"}
    shown = picture([record(1, [0.9], parameters=many), record(2, [0.8], parameters={})], 80)
    assert all(len(line) <= 80 for line in shown)
    first = next(place for place, line in enumerate(shown) if line.startswith("trial ")) + 1
    assert [line.split()[0] for line in shown[first : first + 3]] == ["1", "2", "hyper-parameters:"]
    assert shown[first].split()[5:8] == ["y" * 9 + "…", "1", "0.5"]


def test_values_move_together_before_the_last_is_cut():
    wider = {**NOTEBOOK, "CONV_1_FILTER": 128, "DROPOUT_1": 0.05}
    assert any(line.endswith(" 0.00074") for line in picture([record(1, [0.9], "stopped early", parameters=wider)], 80))


def test_markup_in_values_is_shown_as_it_is():
    assert "[bold]" in "\n".join(picture([record(1, [0.9], parameters={"kind": "[bold]"})], 80))


def test_updates_do_not_redraw(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    records = [record(trial, [0.9] * 10) for trial in range(100)]
    drawing = []
    draw = SearchProgress._render
    monkeypatch.setattr(SearchProgress, "_render", lambda self: drawing.append(threading.get_ident()) or draw(self))
    with SearchProgress(console) as progress:
        progress.begin(100, 1000, {})
        drawn = drawing.count(threading.get_ident())
        for _ in range(200):
            progress.update(records)
        # The thread that redraws some times a second may have done so; the one that updates has not.
        assert drawing.count(threading.get_ident()) == drawn


def test_epochs_read_back_after_a_resumption_do_not_count_as_trained(clock):
    console = plain()
    with SearchProgress(console) as progress:
        progress.begin(3, 100, {1: 60, 2: 3})
        clock.now += 0.1
        progress.update([record(1, [0.8] * 60, "stopped"), record(2)])
        clock.now += 19.9
        progress.update([record(1, [0.8] * 60, "stopped"), record(2, [0.7] * 4, "stopped")])
    first, second = lines_of(console)
    assert first.endswith("epochs 60/100")
    assert second.endswith("epochs 64/100, about 12 min left")


def test_nothing_is_left_once_every_trial_has_ended():
    console = plain()
    with SearchProgress(console) as progress:
        progress.begin(1, 10, {})
        progress.update([record(1, [0.8], "stopped early", seconds=0.0)])
    assert lines_of(console)[-1].endswith("epochs 1/10")


def test_leaving_without_a_beginning_shows_nothing():
    console = plain()
    with SearchProgress(console):
        pass
    assert lines_of(console) == []
