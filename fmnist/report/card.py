"""The model card of a run that leaves a model: ``README.md`` in the form that Hugging Face's hub reads."""

from __future__ import annotations

from typing import Any

from fmnist.boundary import spared
from fmnist.errors import printable
from fmnist.options import settings_yaml
from fmnist.report.page import Report, escaped, interval, model_title, render_page, test_accuracy
from fmnist.runs.files import CARD
from fmnist.runs.results import ModelMetrics

# The name of the published data set on the hub.
OFFICIAL = "zalando-datasets/fashion_mnist"
LIBRARIES = ("tensorflow", "keras", "ray")
WEAKEST = 3
# The models of ours with layers of our own.
OWN_LAYERS = ("lenet5-1998",)


def card_file(report: Report[Any]) -> dict[str, bytes]:
    """Returns the model card by its path; none after a line that says why it could not be written."""
    with spared("the model card was not written"):
        return {CARD: model_card(report).encode(errors="backslashreplace")}
    return {}


def model_card(report: Report[Any]) -> str:
    """Returns a model card in Markdown, with the hub's metadata as YAML in front.

    Args:
        report: of a job whose metrics are a `ModelMetrics`.
    """
    metrics: ModelMetrics = report.metrics
    weakest = sorted((score for score in metrics.test.per_class if score.support), key=lambda score: score.f1)[:WEAKEST]
    builder, colon, _ = metrics.model.partition(":")
    module = builder if colon else "fmnist.models" if metrics.model in OWN_LAYERS else ""
    return render_page(
        "card.md",
        metadata=settings_yaml(_metadata(report)),
        headline=f"{model_title(metrics.model)} reaches {test_accuracy(metrics.test)}.",
        interval=interval(metrics.test),
        metrics=metrics,
        versions=", ".join(str(report.environment.get(name, "unknown")) for name in LIBRARIES),
        weakest=", ".join(f"{score.name} ({score.f1:.2f})" for score in weakest),
        module=f", {module}" if module else "",
        escaped=escaped,
        code=lambda text: printable(text).replace("`", "'"),
        **{name: value for name, value in report.shared_values(metrics.test.per_class).items() if name != "title"},
    )


def _metadata(report: Report[Any]) -> dict[str, Any]:
    metrics: ModelMetrics = report.metrics
    official = bool(report.data["official"])
    own = ":" in metrics.model or "weights" in report.config
    dataset = (
        {"type": OFFICIAL, "name": "Fashion-MNIST", "split": "test"}
        if official
        else {"type": "other", "name": printable(report.data["location"]), "split": "test"}
    )
    test = metrics.test
    values = {
        "Test accuracy": test.accuracy,
        "Test accuracy, lower end of the 95 % interval": test.accuracy_low,
        "Test accuracy, upper end of the 95 % interval": test.accuracy_high,
    }
    figures = [{"type": "accuracy", "name": name, "value": value} for name, value in values.items()]
    return {
        # Others' images, code or pretrained weights have their own.
        "license": "mit" if official and not own else "unknown",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        **({"datasets": [OFFICIAL]} if official else {}),
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": report.run_id,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": dataset,
                        "metrics": figures,
                    }
                ],
            }
        ],
    }
