"""Two finished runs side by side: what they were told and what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fmnist.errors import IntegrityError
from fmnist.runs.folder import CONFIG, METRICS, RunFolder
from fmnist.storage.store import Store

Number = int | float

TEST_ACCURACY = "test.accuracy"
TEST_ACCURACY_INTERVAL = ("test.accuracy_low", "test.accuracy_high")


@dataclass(frozen=True)
class Pairs:
    """Values of two runs by name, in the order of the first run.

    Attributes:
        shared: what both have: the value of A and the value of B.
        only_a: what only A has.
        only_b: what only B has.
    """

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
    """What two runs share and where they differ.

    Attributes:
        a: id of the first run.
        b: id of the second.
        facts: what each of them is, by name: job, model, precision, finished; None where a run does not say.
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
        StoreError: if the store cannot be read.
    """
    runs = [RunFolder(store, run_id) for run_id in (a, b)]
    jobs = [run.manifest().job for run in runs]
    metrics = [_named(run, METRICS, run.get_json(METRICS)) for run in runs]
    in_metrics = {name: (metrics[0].get(name), metrics[1].get(name)) for name in ("model", "precision", "finished")}
    return RunComparison(
        a=a,
        b=b,
        facts={"job": (jobs[0], jobs[1]), **in_metrics},
        settings=_pair_settings(*(_settings(run) for run in runs)),
        metrics=Pairs.of(*(dict(_numbers(each)) for each in metrics)),
    )


def _settings(run: RunFolder) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(run.get_bytes(CONFIG))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{run.location}/{CONFIG}: damaged, not YAML") from error
    return {name: value for name, value in _named(run, CONFIG, settings).items() if name != "run_id"}


def _named(run: RunFolder, path: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise IntegrityError(f"{run.location}/{path}: damaged, expected names with values")
    return content


def _pair_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> Pairs:
    whole = Pairs.of(a, b)
    leaves = (leaf for name, (of_a, of_b) in whole.shared.items() for leaf in _leaves(name, of_a, of_b))
    return Pairs({name: (of_a, of_b) for name, of_a, of_b in leaves}, whole.only_a, whole.only_b)


def _leaves(name: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields the values within a setting of both runs, with dots; the setting itself if it has none within."""
    if {type(a), type(b)} in ({dict}, {dict, type(None)}):
        a, b = a or {}, b or {}
        for key in a | b:
            yield from _leaves(f"{name}.{key}", a.get(key), b.get(key))
    else:
        yield name, a, b


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Number]]:
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        # True is an int for Python, and a difference of two of them says nothing.
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
