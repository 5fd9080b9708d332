"""What folds amount to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.workflows.crossval.records import FoldRecord
from fmnist.workflows.crossval.results import folds_table, held_out_share, history_table, spread


def record(fold: int, accuracy: float = 0.9, kept: int = 2, weights="fresh") -> FoldRecord:
    rows = tuple(
        {"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.8, "val_loss": 0.5, "val_accuracy": 0.85, "seconds": 3.0}
        for epoch in (1, 2, 3)
    )
    return FoldRecord(
        fold=fold, weights=weights, seed=7, rows=rows, kept_epoch=kept, parameters=84, precision="float32",
        devices=("CPU",), probabilities=np.full((20, 10), 0.1, np.float32), train_images=90, val_images=10,
        held_out_images=20, held_out_loss=0.3, held_out_accuracy=accuracy,
    )  # fmt: skip


def test_interval_is_student_t_with_the_variance_of_nadeau_and_bengio() -> None:
    values = [0.90, 0.91, 0.92, 0.93]
    found = spread(values, 1 / 3)

    assert found.mean == pytest.approx(0.915)
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    # 3.1824 is the 97.5 % quantile of Student's t with three degrees of freedom, from a printed table.
    half = 3.1824 * np.std(values, ddof=1) * np.sqrt(1 / 4 + 1 / 3)
    assert (found.low, found.high) == pytest.approx((0.915 - half, 0.915 + half), abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0.05, 1))
def test_interval_holds_the_mean_and_grows_with_the_share_held_out(values: list[float], share: float) -> None:
    narrow, wide = spread(values, share), spread(values, 2 * share)

    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


def test_share_held_out_is_of_the_images_trained_on() -> None:
    assert held_out_share([record(1), record(2)]) == pytest.approx(20 / 90)


def test_table_has_a_row_a_fold_with_its_kept_epoch() -> None:
    table = folds_table([record(1, 0.91, kept=1), record(2, 0.93)])

    assert table["fold"].tolist() == [1, 2]
    assert table["loss"].tolist() == [1, 0.5]
    assert table["held_out_accuracy"].tolist() == [0.91, 0.93]
    assert table["epochs"].tolist() == [3, 3] and table["seconds"].tolist() == [9, 9]


def test_fold_without_an_epoch_is_a_row_without_training_scores() -> None:
    table = folds_table([record(1), replace(record(2, 0.1, kept=0), rows=(), diverged="the loss is nan")])

    assert table["epochs"].tolist() == [3, 0] and table["diverged"].fillna("").tolist() == ["", "the loss is nan"]
    assert table["loss"].isna().tolist() == [False, True] and table["held_out_accuracy"].tolist() == [0.9, 0.1]


def test_history_names_fold_and_weights_of_each_epoch() -> None:
    table = history_table([record(1), record(1, weights="carried")])

    assert table[["weights", "fold", "epoch"]].values.tolist() == [
        [weights, 1, epoch] for weights in ("fresh", "carried") for epoch in (1, 2, 3)
    ]
