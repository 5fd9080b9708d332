"""What a search's trials amount to."""

from __future__ import annotations

from fmnist.workflows.tune.records import Status, TrialRecord, best_trial, trials_table


def record(trial: int, accuracies: list[float], status: Status = "finished", **parameters: object) -> TrialRecord:
    rows = [
        {"epoch": float(epoch), "val_accuracy": accuracy, "val_loss": 1 - accuracy, "seconds": 2.0}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    return TrialRecord(trial, 0, dict(parameters), status, tuple(rows))


def test_best_trial_has_the_highest_accuracy_in_any_epoch():
    assert best_trial([record(1, [0.5, 0.8]), record(2, [0.9, 0.1]), record(3, [0.7])]).trial == 2


def test_first_of_equal_trials_is_the_best():
    assert best_trial([record(1, [0.5]), record(3, [0.8]), record(2, [0.8])]).trial == 2


def test_failed_trial_is_not_the_best():
    assert best_trial([record(1, [0.9], "failed"), record(2, [0.8])]).trial == 2
    assert best_trial([record(1, [0.9], "failed"), record(2, [])]) is None


def test_table_has_a_row_a_trial_with_its_best_epoch():
    table = trials_table([record(1, [0.5, 0.8, 0.7], units=3), record(2, [], "failed", units=4)])

    assert table.loc[0, ["epochs", "best_epoch", "best_val_accuracy", "seconds", "units"]].tolist() == [3, 2, 0.8, 6, 3]
    assert table.loc[1, ["status", "epochs", "seconds", "units"]].tolist() == ["failed", 0, 0, 4]
    assert table.loc[1, ["best_epoch", "best_val_accuracy"]].isna().all()


def test_hyperparameter_does_not_take_a_columns_place():
    table = trials_table([record(1, [0.5], epochs=99, status_="x")])

    assert table.loc[0, "epochs"] == 1
    assert table.loc[0, "epochs (hyper-parameter)"] == 99
