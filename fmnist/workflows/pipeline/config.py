"""The settings of the pipeline job. Importing this imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

from fmnist.config import MODELS, GpuShare, JobConfig, gpu_share, may_change, text_type
from fmnist.workflows.crossval.config import CROSSVAL
from fmnist.workflows.train.config import TRAIN
from fmnist.workflows.transfer.config import BACKBONES, RECIPES, TRANSFER
from fmnist.workflows.tune.config import TUNE

PIPELINE = "pipeline"
SEARCHED = ("notebook", "extended")
# The stages in order: a job and what it runs on. A job's name stands for all of its stages.
STAGES = (
    *(f"{TRAIN}-{model}" for model in MODELS),
    *(f"{TUNE}-{space}" for space in SEARCHED),
    f"{CROSSVAL}-lenet5",
    *(f"{TRANSFER}-{backbone}-{recipe}" for backbone in BACKBONES for recipe in RECIPES),
)
STAGE_JOBS = (TRAIN, TUNE, CROSSVAL, TRANSFER)

_STAGE = rf"({'|'.join(STAGE_JOBS + STAGES)})"
StageNames = text_type(
    "StageNames",
    rf"^(all|{_STAGE}(,{_STAGE})*)$",
    f"all, or some of {', '.join(STAGE_JOBS + STAGES)} with commas between",
)


@dataclass(frozen=True)
class PipelineConfig(JobConfig):
    """Runs the whole study, each stage as a run of its own, and writes one report.

    Attributes:
        run_id: Name of the run, made from job and time if not given; each stage's run is named after it, such as
            ID-train-lenet5. The same id again resumes: finished stages are not run again.
        val_fraction: Share of the training images set aside for validation, stratified by class; crossval has its own.
        profile: smoke trains on so few images that no figure means anything, to check that everything runs; laptop
            takes the study's settings without fine-tuning; full fine-tunes the backbones, too.
        stages: Which to run: all, or some, by their names or those of their jobs, such as train,tune-extended. The
            report covers every finished stage.
        backbone: Of the transfer stages, or all three; in the profile smoke all means vgg16.
        weights: Of the backbones, as in fmnist transfer; auto is imagenet, and none in the profile smoke.
        workers: Data-parallel processes of each training.
        gpus_per_worker: GPUs per worker, 0 to 1, or auto: 1 where there is one; a fraction shares one.
        gpus_per_task: GPUs per trial, fold and task that computes features, 0 to 1, or auto: 1 where there is one.
        max_failures: How often a killed task, a crashed trial, a crashed fold and failed workers are restarted before
            their stage fails.
    """

    removed = ("side_by_side",)

    profile: Literal["smoke", "laptop", "full"] = "laptop"
    stages: StageNames = may_change("all")  # type: ignore[valid-type]
    backbone: Literal["resnet152v2", "efficientnetb1", "vgg16", "all"] = "all"
    weights: str = "auto"
    workers: PositiveInt = may_change(1)
    gpus_per_worker: GpuShare = gpu_share()
    gpus_per_task: GpuShare = gpu_share()
    max_failures: NonNegativeInt = may_change(3)
