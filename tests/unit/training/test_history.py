"""Which epoch is best, and when to stop."""

from hypothesis import given
from hypothesis import strategies as st

from fmnist.training.history import History


def history(val_losses: list[float], val_accuracies: list[float] | None = None) -> History:
    accuracies = val_accuracies or [0.5] * len(val_losses)
    rows = zip(val_losses, accuracies, strict=True)
    return History(
        tuple({"epoch": i, "val_loss": loss, "val_accuracy": acc} for i, (loss, acc) in enumerate(rows, start=1))
    )


def test_best_epoch_has_the_highest_validation_accuracy() -> None:
    assert history([1.0, 0.5, 0.7], [0.3, 0.4, 0.6]).best["epoch"] == 3


def test_of_equally_accurate_epochs_the_later_is_best() -> None:
    assert history([1.0, 1.0, 1.0], [0.6, 0.6, 0.5]).best["epoch"] == 2


def test_training_stops_after_patience_epochs_without_a_lower_validation_loss() -> None:
    assert not history([1.0, 0.9, 0.95]).should_stop(2)
    assert history([1.0, 0.9, 0.95, 0.9]).should_stop(2)


def test_before_the_first_epoch_nothing_stops() -> None:
    assert History().epochs == 0
    assert not History().should_stop(1)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_patience_of_zero_never_stops(val_losses: list[float]) -> None:
    assert not history(val_losses).should_stop(0)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(1, 5))
def test_an_epoch_with_a_new_lowest_loss_never_stops(val_losses: list[float], patience: int) -> None:
    assert not history([*val_losses, min(val_losses) - 1]).should_stop(patience)
