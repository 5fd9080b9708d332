"""Metrics of a pipeline's stages, near to real ones, and the content of a ``data.json``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fmnist.workflows.pipeline.records import (
    Accuracy,
    Candidate,
    CarriedScores,
    HeldOutScores,
    Scores,
    Search,
    StageMetrics,
    Weights,
)

TIMES: dict[str, Any] = {"started": "2026-11-25T02:00:00Z", "finished": "2026-11-25T03:00:00Z"}


def scores(accuracy: float) -> Scores:
    return Scores(accuracy, accuracy - 0.005, accuracy + 0.005, images=10_000)


def train(name: str, val: float, test: float, parameters: int) -> StageMetrics:
    return StageMetrics(
        **TIMES, job="train", run_id=f"night-{name}", parameters=parameters, epochs=16, best_epoch=10,
        val=Accuracy(val), test=scores(test), seconds={"total": 141.0},
    )  # fmt: skip


def tune(space: str, val: float, test: float) -> StageMetrics:
    return replace(train(f"tune-{space}", val, test, 132_662), job="tune", search=Search(space, trials=17, epochs=92))


def crossval(carried: tuple[float, ...] | None) -> StageMetrics:
    return StageMetrics(
        **TIMES, job="crossval", run_id="night-crossval-lenet5", parameters=504_342, folds=10, epochs=153,
        val=Accuracy(0.92), held_out=HeldOutScores(0.9191, 0.9161, 0.9221, 60_000, accuracy_sd=0.0028),
        carried=CarriedScores(carried, epochs=141) if carried else None, seconds={"total": 2948.0},
    )  # fmt: skip


PUBLISHED = Weights("imagenet", "6d6b", published=True)


def transfer(
    backbone: str, recipe: str, *phases: tuple[str, float, float], weights: Weights = PUBLISHED
) -> StageMetrics:
    candidates = tuple(
        Candidate(
            phase, recipe, image_size=48, feature_layer="block4_pool", parameters=15_000_000,
            epochs=30 if phase == "frozen" else 4, val_accuracy=val, test=scores(test),
        )
        for phase, val, test in phases
    )  # fmt: skip
    return StageMetrics(
        **TIMES, job="transfer", run_id=f"night-transfer-{backbone}-{recipe}", parameters=15_000_000, epochs=30,
        best_epoch=10, val=Accuracy(phases[0][1]), test=scores(phases[0][2]), candidates=candidates,
        weights={backbone: weights}, seconds={"total": 700.0},
    )  # fmt: skip


STAGES: dict[str, StageMetrics] = {
    "train-lenet5": train("train-lenet5", 0.9205, 0.9175, 504_342),
    "train-lenet5-1998": train("train-lenet5-1998", 0.8928, 0.8826, 60_000),
    "tune-notebook": tune("notebook", 0.9197, 0.9136),
    "tune-extended": tune("extended", 0.9445, 0.9373),
    "crossval-lenet5": crossval((0.9182, 0.96, 0.9943)),
    "transfer-resnet152v2-notebook": transfer("resnet152v2", "notebook", ("frozen", 0.7011, 0.7012)),
    "transfer-resnet152v2-sound": transfer("resnet152v2", "sound", ("frozen", 0.8911, 0.8901)),
    "transfer-efficientnetb1-notebook": transfer("efficientnetb1", "notebook", ("frozen", 0.1013, 0.1002)),
    "transfer-efficientnetb1-sound": transfer("efficientnetb1", "sound", ("frozen", 0.8811, 0.8801)),
    "transfer-vgg16-notebook": transfer("vgg16", "notebook", ("frozen", 0.5897, 0.5891)),
    "transfer-vgg16-sound": transfer("vgg16", "sound", ("frozen", 0.9178, 0.9147), ("fine-tuned", 0.9347, 0.9334)),
}

DATA: dict[str, Any] = {
    "location": "/data/fashion", "format": "idx", "official": True, "sha256": {"train-images": "c59f468a"},
    "train": {"rows": 600, "nulls": 0, "duplicates": 0, "kept": 600},
    "test": {"rows": 1000, "nulls": 0, "duplicates": 0, "kept": 1000},
    "limit": None, "split": {"train": 480, "val": 120, "seed": 3, "val_fraction": 0.2},
    "class_counts": {"train": [48] * 10, "val": [12] * 10, "test": [100] * 10},
}  # fmt: skip
