"""``fmnist evaluate``: measures a run's saved model on the raw test images."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import FiniteFloat

from fmnist.commands.models import check_model, load_run_model
from fmnist.console import aside
from fmnist.options import add_run, command_parser
from fmnist.runs import CONFIG, METRICS, RunFolder
from fmnist.storage import open_store

# On one machine the same model's probabilities are equal; between machines they differ by rounding.
REPRODUCTION_TOLERANCE = 1e-6


@dataclass(frozen=True)
class _Accuracy:
    accuracy: FiniteFloat


@dataclass(frozen=True)
class _Metrics:
    test: _Accuracy


@dataclass(frozen=True)
class _Settings:
    data: str


def evaluate(location: str, run_id: str, source: str | None, as_json: bool) -> int:
    """Measures a run's saved model on the raw test images; returns 1 if the accuracy is not the recorded one.

    Args:
        location: of the artifact store.
        run_id: of a finished run.
        source: of the test images; the run's own if None, and then the accuracy has to be the recorded one.
        as_json: print the metrics as JSON.
    """
    run = RunFolder(open_store(location), run_id)
    check_model(run)
    from fmnist import data
    from fmnist.training.evaluation import evaluate as evaluate_probabilities
    from fmnist.training.inference import probabilities

    recorded = run.get_record(METRICS, _Metrics).test.accuracy
    wanted = source or run.get_yaml(CONFIG, _Settings).data
    test = data.load(wanted, cache=data.default_cache(), progress=aside.print).test
    measured = evaluate_probabilities(test.labels, probabilities(load_run_model(run), test.pixels))
    difference = measured.accuracy - recorded
    if as_json:
        print(json.dumps({**measured.as_dict(), "recorded_accuracy": recorded}))
    else:
        print(
            f"run {run_id} on {measured.images:,} test images: accuracy {measured.accuracy:.6f} (95 % interval "
            f"{measured.accuracy_low:.4f}-{measured.accuracy_high:.4f}), loss {measured.loss:.4f}; "
            f"the run recorded {recorded:.6f}, difference {difference:+.1e}"
        )
    return 0 if source or abs(difference) <= REPRODUCTION_TOLERANCE else 1


def run(arguments: list[str]) -> int:
    """Runs ``fmnist evaluate`` with the arguments behind its name; returns the exit code."""
    parser = command_parser("fmnist evaluate", "Reloads a run's model.keras and measures it on the raw test images.")
    add_run(parser)
    parser.add_argument("--data", help="test images, as for train; the run's own source if not given")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    options = parser.parse_args(arguments)

    return evaluate(options.artifacts, options.run, options.data, options.json)
