"""Gauges of a job, which Prometheus gets where a cluster exports Ray's own metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fmnist.distributed.cluster import Resources
from fmnist.training.progress import Publish, unpublished

# Ray exports each as `ray_fmnist_NAME`.
GAUGES = {
    "epoch": "Last epoch of the training.",
    "loss": "Training loss of the last epoch, in nats.",
    "accuracy": "Training accuracy of the last epoch, 0-1.",
    "val_loss": "Validation loss of the last epoch, in nats.",
    "val_accuracy": "Validation accuracy of the last epoch, 0-1; of the best trial while a search runs.",
    "images_per_second": "Training images per second in the last epoch.",
    "progress_ratio": "Share of the epochs, trials or folds that are done, 0-1.",
    "restarts": "How often workers or folds were started again since the job began.",
}
# Not `job`, which Prometheus has for its own.
LABELS = ("run_id", "fmnist_job")


def exported_name(gauge: str) -> str:
    """Returns the name that Prometheus gets."""
    return f"ray_fmnist_{gauge}"


def publisher(run_id: str, job: str, resources: Resources) -> Publish:
    """Returns a function that sets the gauges that a mapping names; one that does nothing on a Ray of the job's own.

    Args:
        run_id, job: labels; both are plain names.
        resources: of the cluster.
    """
    # Nobody scrapes it.
    if resources.started_here:
        return unpublished
    from ray.util.metrics import Gauge

    labels = {"run_id": run_id, "fmnist_job": job}
    gauges: dict[str, Any] = {}

    def publish(values: Mapping[str, float]) -> None:
        for name in values.keys() & GAUGES.keys():
            if name not in gauges:
                gauges[name] = Gauge(f"fmnist_{name}", GAUGES[name], LABELS).set_default_tags(labels)
            if math.isfinite(values[name]):
                gauges[name].set(float(values[name]))

    return publish
