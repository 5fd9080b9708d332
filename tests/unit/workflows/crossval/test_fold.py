"""A fold's own seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fmnist.workflows.crossval.fold import fold_seed


@given(st.integers(0, 2**40))
def test_folds_of_a_run_have_different_seeds_that_numpy_takes(seed: int) -> None:
    seeds = [fold_seed(seed, fold) for fold in range(1, 31)]

    assert len(set(seeds)) == 30
    assert all(0 <= one < 2**32 for one in seeds)


def test_seeds_follow_from_the_runs_and_do_not_change_between_versions() -> None:
    assert [fold_seed(0, fold) for fold in (1, 2, 3)] == [3964924996, 3141116543, 2613022947]
    assert fold_seed(1, 1) != fold_seed(0, 1)
