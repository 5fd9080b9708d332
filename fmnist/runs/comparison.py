"""A comparison of two finished runs: settings and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmnist.runs.documents import Names
from fmnist.runs.files import CONFIG, METRICS
from fmnist.runs.folder import RunFolder
from fmnist.storage.store import Store

Number = int | float

TEST_ACCURACY = "test.accuracy"
TEST_ACCURACY_INTERVAL = ("test.accuracy_low", "test.accuracy_high")


@dataclass(frozen=True)
class Pairs:
    """Values of runs A and B by name, in the order of A: pairs of what both have, and what only one has."""

    shared: Mapping[str, tuple[Any, Any]]
    only_a: Mapping[str, Any]
    only_b: Mapping[str, Any]

    @classmethod
    def of(cls, a: Mapping[str, Any], b: Mapping[str, Any]) -> Pairs:
        """Pairs the values of ``a`` and ``b`` by name."""
        return cls(
            shared={name: (value, b[name]) for name, value in a.items() if name in b},
            only_a={name: value for name, value in a.items() if name not in b},
            only_b={name: value for name, value in b.items() if name not in a},
        )


@dataclass(frozen=True)
class RunComparison:
    """The values of two runs, by name.

    Attributes:
        a, b: ids of the runs.
        facts: job, model, precision and finishing time by name; None where a run has none.
        settings: of ``config.yaml``, those within others with dots, such as ``hyperparameters.units``; the run's id is
            left out. Within a setting that both runs have, what one lacks is None.
        metrics: the numbers of ``metrics.json``, with dots, such as ``test.accuracy``. Lists are left out.
    """

    a: str
    b: str
    facts: Mapping[str, tuple[str | None, str | None]]
    settings: Pairs
    metrics: Pairs

    @property
    def test_accuracy_intervals_overlap(self) -> bool | None:
        """Whether the 95 % intervals of the test accuracies have a value in common; None if a run has none."""
        low, high = (self.metrics.shared.get(name) for name in TEST_ACCURACY_INTERVAL)
        return low[0] <= high[1] and low[1] <= high[0] if low and high else None


def compare_runs(store: Store, a: str, b: str) -> RunComparison:
    """Compares two finished runs of a store, of the same job or not.

    Raises:
        RunError: if one of them does not exist, or is unfinished.
        IntegrityError: if a file of one is damaged.
    """
    runs = [RunFolder(store, run_id) for run_id in (a, b)]
    jobs = [run.manifest().job for run in runs]
    metrics = [run.get_record(METRICS, Names) for run in runs]
    facts: dict[str, Any] = {"job": tuple(jobs)}
    for name in ("model", "precision", "finished"):
        values = [each.get(name) for each in metrics]
        facts[name] = tuple(value if isinstance(value, str) else None for value in values)
    configs = [run.get_yaml(CONFIG, Names) for run in runs]
    whole = Pairs.of(*({name: value for name, value in config.items() if name != "run_id"} for config in configs))
    shared = (inner for name, pair in whole.shared.items() for inner in _setting_pairs(name, *pair))
    numbers = ({name: value for name, value in leaves(each) if _is_number(value)} for each in metrics)
    settings = Pairs({name: (of_a, of_b) for name, of_a, of_b in shared}, whole.only_a, whole.only_b)
    return RunComparison(a, b, facts, settings, Pairs.of(*numbers))


def _setting_pairs(name: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields the values within a setting of both runs, with dots; the setting itself if it has none within."""
    if {type(a), type(b)} in ({dict}, {dict, type(None)}):
        a, b = a or {}, b or {}
        for key in a | b:
            yield from _setting_pairs(f"{name}.{key}", a.get(key), b.get(key))
    else:
        yield name, a, b


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values that have no names within, such as numbers and lists; the names of inner ones with dots."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_number(value: Any) -> bool:
    # True is an int for Python, and a difference of two of them says nothing.
    return isinstance(value, (int, float)) and not isinstance(value, bool)
