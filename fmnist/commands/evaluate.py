"""``fmnist evaluate``: measures a run's saved model on the raw test images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import FiniteFloat

from fmnist.commands.models import load_run_model
from fmnist.console import aside
from fmnist.options import CommandParser
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


def run(arguments: list[str]) -> int:
    """Runs ``fmnist evaluate``; returns 1 if the accuracy on the run's own test images is not the recorded one."""
    parser = CommandParser(
        prog="fmnist evaluate",
        description="Reloads a run's model.keras and measures it on the raw test images.",
        allow_abbrev=False,
    )
    parser.add_run()
    parser.add_argument("--data", help="test images, as for train; the run's own source if not given")
    mirrored_help = "measure the mean of each image's and its mirror image's probabilities too, beside the plain ones"
    parser.add_argument("--mirrored", action="store_true", help=mirrored_help)
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    options = parser.parse_args(arguments)

    run = RunFolder(open_store(options.artifacts), options.run)
    model = load_run_model(run)
    from fmnist import data
    from fmnist.training.evaluation import evaluate
    from fmnist.training.inference import averaged_with_mirror, probabilities

    recorded = run.get_record(METRICS, _Metrics).test.accuracy
    source = options.data or run.get_yaml(CONFIG, _Settings).data
    test = data.load(source, progress=aside.print).test
    predicted = probabilities(model, test.pixels)
    measured, mirrored = evaluate(test.labels, predicted, test.class_names), None
    if options.mirrored:
        mirrored = evaluate(test.labels, averaged_with_mirror(model, test.pixels, predicted))
    difference = measured.accuracy - recorded
    if options.json:
        also = {"mirrored_accuracy": mirrored.accuracy} if mirrored else {}
        print(json.dumps({**asdict(measured), "recorded_accuracy": recorded, **also}))
    else:
        print(
            f"run {run.run_id} on {measured.images:,} test images: accuracy {measured.accuracy:.6f} (95 % interval "
            f"{measured.accuracy_low:.4f}-{measured.accuracy_high:.4f}), loss {measured.loss:.4f}; "
            f"the run recorded {recorded:.6f}, difference {difference:+.1e}"
        )
        if mirrored:
            print(
                f"with mirrored averaging: accuracy {mirrored.accuracy:.6f} (95 % interval {mirrored.accuracy_low:.4f}-"
                f"{mirrored.accuracy_high:.4f}), loss {mirrored.loss:.4f}"
            )
    return 0 if options.data or abs(difference) <= REPRODUCTION_TOLERANCE else 1
