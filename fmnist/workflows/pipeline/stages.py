"""The stages of a pipeline: the run and settings of each. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fmnist.config import MODELS, SPACES, JobConfig
from fmnist.workflows import JOBS
from fmnist.workflows.crossval.config import CROSSVAL
from fmnist.workflows.pipeline.config import PipelineConfig
from fmnist.workflows.train.config import TRAIN
from fmnist.workflows.transfer.config import BACKBONES, TRANSFER, TransferConfig
from fmnist.workflows.tune.config import TUNE

SMOKE, FULL = "smoke", "full"

# Enough images for ten classes in three folds.
SMOKE_LIMIT = 600

# What differs from a job's own defaults, by profile.
_SMALL: dict[str, dict[str, Any]] = {
    TRAIN: {"epochs": 2},
    TUNE: {"max_epochs": 2, "factor": 2, "retrain_epochs": 2},
    CROSSVAL: {"folds": 3, "epochs": 1},
    TRANSFER: {"epochs": 2},
}
_FINE_TUNING = {"fine_tune_epochs": 4, "fine_tune_stages": 3}


@dataclass(frozen=True)
class Stage:
    """One run of a pipeline.

    Attributes:
        name: such as ``tune-extended``.
        job: that it is a run of.
        config: of that job, its run id included.
        left_out: the setting that leaves it out, or None.
    """

    name: str
    job: str
    config: JobConfig
    left_out: str | None


def plan(config: PipelineConfig, run_id: str) -> list[Stage]:
    """Returns all stages of the study in order, including those left out.

    Args:
        config: the pipeline's settings.
        run_id: the pipeline's.
    """
    stages = [
        *(_stage(config, run_id, TRAIN, model, model=model) for model in MODELS),
        *(_stage(config, run_id, TUNE, space, space=space) for space in SPACES),
        _stage(config, run_id, CROSSVAL, "lenet5", carry_weights=True),
    ]
    for backbone in BACKBONES:
        shared: dict[str, Any] = {"backbone": backbone, "compare_with": f"{run_id}-train-lenet5"}
        sound = _FINE_TUNING if config.profile == FULL else {"image_size": 32} if config.profile == SMOKE else {}
        stages.append(_stage(config, run_id, TRANSFER, f"{backbone}-notebook", recipe="notebook", **shared))
        stages.append(_stage(config, run_id, TRANSFER, f"{backbone}-sound", recipe="sound", **shared, **sound))
    return stages


def _stage(config: PipelineConfig, run_id: str, job: str, name: str, **settings: Any) -> Stage:
    settings |= {
        "data": config.data,
        "artifacts": config.artifacts,
        "run_id": f"{run_id}-{job}-{name}",
        "seed": config.seed,
        "limit": limit_of(config),
        "precision": config.precision,
        "xla": config.xla,
        "max_failures": config.max_failures,
        # A finished stage is not run again.
        "skip_finished": True,
    }
    if job == CROSSVAL:
        settings |= {"gpus_per_fold": config.gpus_per_task}
    else:
        settings |= {
            "val_fraction": config.val_fraction,
            "workers": config.workers,
            "gpus_per_worker": config.gpus_per_worker,
        }
    if job == TUNE:
        settings |= {"gpus_per_trial": config.gpus_per_task}
    if job == TRANSFER:
        settings |= {"gpus_per_shard": config.gpus_per_task, "weights": weights_of(config)}
    if config.profile == SMOKE:
        settings = _SMALL[job] | settings
    built, stage = JOBS[job].Config(**settings), f"{job}-{name}"
    return Stage(stage, job, built, _left_out(config, job, stage) or _backbone_left_out(config, built))


def limit_of(config: PipelineConfig) -> int | None:
    """Returns the stages' ``limit``."""
    return config.limit or (SMOKE_LIMIT if config.profile == SMOKE else None)


def weights_of(config: PipelineConfig) -> str:
    """Returns the transfer stages' ``weights``."""
    if config.weights != "auto":
        return config.weights
    return "none" if config.profile == SMOKE else "imagenet"


def _left_out(config: PipelineConfig, job: str, stage: str) -> str | None:
    wanted: str = config.stages
    return None if {"all", job, stage} & set(wanted.split(",")) else f"--stages {wanted}"


def _backbone_left_out(config: PipelineConfig, built: JobConfig) -> str | None:
    if not isinstance(built, TransferConfig) or config.backbone == built.backbone:
        return None
    if config.backbone != "all":
        return f"--backbone {config.backbone}"
    return f"--profile {SMOKE}" if config.profile == SMOKE and built.backbone != "vgg16" else None
