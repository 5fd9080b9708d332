"""The stages of a pipeline: the run and settings of each. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmnist.config import MODELS, JobConfig
from fmnist.runs import MANIFEST, RunFolder
from fmnist.runs.results import read_metrics
from fmnist.storage import open_store
from fmnist.workflows import JOBS
from fmnist.workflows.crossval.config import CROSSVAL
from fmnist.workflows.pipeline.config import SEARCHED, PipelineConfig
from fmnist.workflows.pipeline.records import PipelineMetrics
from fmnist.workflows.train.config import TRAIN
from fmnist.workflows.transfer.config import BACKBONES, RECIPES, TRANSFER, TransferConfig
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
    """One run of a pipeline, such as ``tune-extended``: the job's settings have its run id.

    ``left_out`` is the pipeline's setting that leaves it out, or None.
    """

    name: str
    job: str
    config: JobConfig
    left_out: str | None

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        assert self.config.run_id
        return RunFolder(open_store(self.config.artifacts), self.config.run_id)

    def manifest_sum(self) -> str | None:
        """Returns the sha256 of the manifest of the stage's run; None if it has not finished."""
        run = self.folder
        return hashlib.sha256(run.get_bytes(MANIFEST)).hexdigest() if run.state() == "finished" else None

    def is_of(self, runs: Mapping[str, str]) -> bool:
        """Whether the stage's run is one of these finished ones, which are sums of manifests by stage."""
        return self.name in runs and self.manifest_sum() == runs[self.name]

    def has_finished(self, before: Mapping[str, str]) -> bool:
        """Whether the stage's run has finished and is none of those before."""
        found = self.manifest_sum()
        return found is not None and found != before.get(self.name)


def lacks_stages(run: RunFolder, config: PipelineConfig) -> bool:
    """Whether the report of a finished pipeline lacks stages that are wanted now."""
    reported = {one.name for one in read_metrics(run, PipelineMetrics).stages if one.status == "finished"}
    wanted = [stage for stage in plan(config, run.run_id) if stage.left_out is None]
    return any(stage.name not in reported or stage.folder.state() != "finished" for stage in wanted)


def plan(config: PipelineConfig, run_id: str) -> list[Stage]:
    """Returns all stages of the study in order, including those left out; ``run_id`` is the pipeline's."""
    stages = [
        *(_stage(config, run_id, TRAIN, model, model=model) for model in MODELS),
        *(_stage(config, run_id, TUNE, space, space=space) for space in SEARCHED),
        _stage(config, run_id, CROSSVAL, "lenet5", carry_weights=True),
    ]
    sound = {FULL: _FINE_TUNING, SMOKE: {"image_size": 32}}.get(config.profile, {})
    for backbone in BACKBONES:
        for recipe in RECIPES:
            more = {"backbone": backbone, "recipe": recipe, "compare_with": f"{run_id}-train-lenet5"}
            name = f"{backbone}-{recipe}"
            stages.append(_stage(config, run_id, TRANSFER, name, **more, **(sound if recipe == "sound" else {})))
    return stages


def _stage(config: PipelineConfig, run_id: str, job: str, name: str, **settings: Any) -> Stage:
    shared = (
        *("data", "artifacts", "wait", "track", "allow_overlap", "seed"),
        *("precision", "xla", "deterministic", "max_failures"),
    )
    settings |= {name: getattr(config, name) for name in shared}
    # A finished stage is not run again.
    settings |= {"run_id": f"{run_id}-{job}-{name}", "limit": limit_of(config), "skip_finished": True}
    if job == CROSSVAL:
        settings |= {"gpus_per_fold": config.gpus_per_task}
    else:
        settings |= {name: getattr(config, name) for name in ("val_fraction", "workers", "gpus_per_worker")}
    if job == TUNE:
        settings |= {"gpus_per_trial": config.gpus_per_task}
    if job == TRANSFER:
        automatic = "none" if config.profile == SMOKE else "imagenet"
        weights = automatic if config.weights == "auto" else config.weights
        settings |= {"gpus_per_shard": config.gpus_per_task, "weights": weights}
    if config.profile == SMOKE:
        settings = _SMALL[job] | settings
    built, stage = JOBS[job].Config(**settings), f"{job}-{name}"
    return Stage(stage, job, built, _left_out(config, job, stage, built))


def limit_of(config: PipelineConfig) -> int | None:
    """Returns the stages' ``limit``."""
    return config.limit or (SMOKE_LIMIT if config.profile == SMOKE else None)


def _left_out(config: PipelineConfig, job: str, stage: str, built: JobConfig) -> str | None:
    """Names the setting that leaves a stage out; None if it is wanted."""
    wanted: str = config.stages
    if not {"all", job, stage} & set(wanted.split(",")):
        return f"--stages {wanted}"
    if isinstance(built, TransferConfig) and config.backbone != built.backbone:
        if config.backbone != "all":
            return f"--backbone {config.backbone}"
        if config.profile == SMOKE and built.backbone != "vgg16":
            return f"--profile {SMOKE}"
    return None
