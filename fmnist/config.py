"""The typed configuration of each job: the only place where a default lives.

The command line, the YAML form, ``--print-config`` and the text of ``--help`` all come from these classes. Importing
this module imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
    restricted_string_type,
)

TRAIN, TUNE, CROSSVAL, TRANSFER, PIPELINE = "train", "tune", "crossval", "transfer", "pipeline"

SPACES = ("notebook", "extended")
MODELS = ("lenet5", "lenet5-1998")
BACKBONES = ("resnet152v2", "efficientnetb1", "vgg16")
RECIPES = ("notebook", "sound")
# What a pipeline runs, in order: a job and what it is run on. A job's name stands for all of its stages.
STAGES = (
    *(f"{TRAIN}-{model}" for model in MODELS),
    *(f"{TUNE}-{space}" for space in SPACES),
    f"{CROSSVAL}-lenet5",
    *(f"{TRANSFER}-{backbone}-{recipe}" for backbone in BACKBONES for recipe in RECIPES),
)
STAGE_JOBS = (TRAIN, TUNE, CROSSVAL, TRANSFER)

_BUILDER = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
ModelName = restricted_string_type("ModelName", rf"^({'|'.join(MODELS + SPACES)}|{_BUILDER})$")
SpaceName = restricted_string_type("SpaceName", rf"^({'|'.join(SPACES)}|{_BUILDER})$")
_STAGE = rf"({'|'.join(STAGE_JOBS + STAGES)})"
StageNames = restricted_string_type("StageNames", rf"^(all|{_STAGE}(,{_STAGE})*)$")
TwoOrMore = restricted_number_type("TwoOrMore", int, (">=", 2))
DropoutRate = restricted_number_type("DropoutRate", float, [(">=", 0), ("<", 1)])
# Below 32 pixels a backbone's last stage would see nothing.
ImageSize = restricted_number_type("ImageSize", int, (">=", 32))


@dataclass(frozen=True)
class JobConfig:
    """What every job has.

    Attributes:
        data: Where the images are: auto (cache, Debian's package, download), a folder of IDX or CSV files, the train
            CSV of a pair, or an s3:// address of either.
        artifacts: The artifact store that the run folder goes to, a folder or s3://bucket/prefix.
        run_id: Name of the run, made from job and time if not given. The same id again resumes an unfinished run.
        overwrite: Replace a finished run of the same id instead of refusing.
        skip_finished: End with success, and do nothing, where a finished run has the same id and settings, instead of
            refusing: whoever starts a job again after a failure need not know how far it came.
        val_fraction: Share of the training images set aside for validation, stratified by class.
        seed: Of the split, the initial weights and the order of the images.
        limit: Use the first so many training images, after shuffling by the seed; all if not given.
        precision: Of the products; weights stay float32. auto takes bfloat16 where the processor has instructions for
            it.
        xla: Compile the training step with XLA; auto does so on GPUs only, for on a CPU it is slower.
    """

    data: str = "auto"
    artifacts: str = "artifacts"
    run_id: str | None = None
    overwrite: bool = False
    skip_finished: bool = False
    val_fraction: OpenUnitInterval = 0.2
    seed: NonNegativeInt = 0
    limit: PositiveInt | None = None
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    xla: Literal["auto", "on", "off"] = "auto"


@dataclass(frozen=True)
class TrainConfig(JobConfig):
    """Trains one model, data-parallel, and leaves a finished run folder.

    Attributes:
        model: lenet5 as the study's notebook builds it, lenet5-1998 exactly as published; or a point in a search space,
            notebook, extended or module:function.
        hyperparameters: The point in the search space, as a search writes it into best.yaml; the space's defaults if
            not given. A learning_rate and a batch_size among them win over those below.
        epochs: Passes over the training images at most.
        batch_size: Images a step, over all workers together.
        learning_rate: Step size of the Adam optimizer.
        patience: Stop after this many epochs without a lower validation loss; 0 never stops early.
        workers: Data-parallel processes.
        cpus_per_worker: Processors of a worker, and so TensorFlow's threads; auto shares out what the cluster has.
        gpus_per_worker: GPUs of a worker, 0 to 1; a fraction shares one.
        max_failures: How often failed workers are started again from the last epoch before the run fails.
    """

    model: ModelName = "lenet5"  # type: ignore[valid-type]
    hyperparameters: dict[str, str | int | float | bool] | None = None
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat | Literal["auto"] = "auto"
    gpus_per_worker: NonNegativeFloat = 0
    max_failures: NonNegativeInt = 3


@dataclass(frozen=True)
class TuneConfig(JobConfig):
    """Searches hyper-parameters, then trains the best, and leaves a finished run folder.

    Attributes:
        space: The study's search space, the extended one, or module:function, a keras-tuner builder of your own.
        scheduler: Hyperband, which compares trials when a whole bracket has come as far, or ASHA, which does not wait.
        max_epochs: Epochs of a trial at most.
        factor: One of so many trials goes on when a bracket is cut.
        iterations: How often to go through all brackets of Hyperband; with ASHA as many trials as that has.
        patience: A trial ends after this many epochs without a lower validation loss; 0 never ends one early.
        batch_size: Images a step, unless the space has a hyper-parameter batch_size.
        cpus_per_trial: Processors of a trial; as many trials run at once as the cluster has room for.
        gpus_per_trial: GPUs of a trial, 0 to 1; a fraction shares one.
        retrain_epochs: Epochs that the best trial's hyper-parameters are trained for, from new weights.
        retrain_patience: Ends that training early, as in fmnist train; 0 never does.
        workers: Data-parallel processes of that training.
        cpus_per_worker: Processors of such a worker; auto shares out what the cluster has.
        gpus_per_worker: GPUs of such a worker, 0 to 1; a fraction shares one.
        max_failures: How often a crashed trial is started again from its last epoch before it counts as failed, and
            how often the workers of the training are.
    """

    space: SpaceName = "notebook"  # type: ignore[valid-type]
    scheduler: Literal["hyperband", "asha"] = "hyperband"
    max_epochs: PositiveInt = 10
    factor: TwoOrMore = 3  # type: ignore[valid-type]
    iterations: PositiveInt = 1
    patience: NonNegativeInt = 5
    batch_size: PositiveInt = 64
    cpus_per_trial: PositiveFloat = 1
    gpus_per_trial: NonNegativeFloat = 0
    retrain_epochs: PositiveInt = 30
    retrain_patience: NonNegativeInt = 0
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat | Literal["auto"] = "auto"
    gpus_per_worker: NonNegativeFloat = 0
    max_failures: NonNegativeInt = 1


@dataclass(frozen=True)
class CrossvalConfig(JobConfig):
    """Cross-validates one model: trains it once a fold, from fresh weights, and measures it on the held-out images.

    Attributes:
        folds: Into how many parts the training images are dealt; each part is held out once.
        val_fraction: Share of the images outside the held-out part that decide when to stop, stratified by class.
        seed: Of the folds and, together with a fold's number, of its initial weights and the order of its images.
        carry_weights: Also repeat the study's protocol, one model through all folds that is never reset and stops by
            the held-out images, to show what that leaks. Its folds follow each other beside the others.
        model: lenet5 as the study's notebook builds it, lenet5-1998 exactly as published; or a point in a search space,
            notebook, extended or module:function.
        hyperparameters: The point in the search space, as a search writes it into best.yaml; the space's defaults if
            not given. A learning_rate and a batch_size among them win over those below.
        epochs: Passes over a fold's training images at most.
        batch_size: Images a step.
        learning_rate: Step size of the Adam optimizer.
        patience: Stop a fold after this many epochs without a lower validation loss; 0 never stops early.
        cpus_per_fold: Processors of a fold, and so TensorFlow's threads.
        gpus_per_fold: GPUs of a fold, 0 to 1; a fraction shares one.
        concurrency: Folds at once at most; auto is as many as the cluster has room for.
        max_failures: How often a crashed fold is started again from its last epoch before the run fails.
    """

    folds: TwoOrMore = 10  # type: ignore[valid-type]
    val_fraction: OpenUnitInterval = 0.1
    carry_weights: bool = False
    model: ModelName = "lenet5"  # type: ignore[valid-type]
    hyperparameters: dict[str, str | int | float | bool] | None = None
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    cpus_per_fold: PositiveFloat = 1
    gpus_per_fold: NonNegativeFloat = 0
    concurrency: PositiveInt | Literal["auto"] = "auto"
    max_failures: NonNegativeInt = 3


@dataclass(frozen=True)
class TransferConfig(JobConfig):
    """Trains a new head on a network that was trained on ImageNet, then its last stages if wanted.

    Attributes:
        backbone: The pretrained network, or all three one after the other.
        recipe: sound feeds the network what it was trained on, at a size that it can use; notebook repeats the study's
            model to the letter.
        weights: imagenet for those that Keras publishes; a file (.h5 or .weights.h5) or its s3:// address; a folder or
            s3:// prefix of files named after the backbones, as `fmnist weights fetch` stages them; or none.
        image_size: Pixels along each side that images are resized to; auto is the recipe's.
        feature_layer: Layer of the backbone whose output is the features; auto is the recipe's.
        pooling: How a map of features becomes a vector; auto is the recipe's.
        head_units: Sizes of the head's hidden layers; auto is the recipe's.
        dropout: Share of the features and of each hidden layer that is dropped in training; auto is the recipe's.
        epochs: Passes over the training images' features at most.
        batch_size: Images a step, over all workers together.
        learning_rate: Step size of the Adam optimizer while the backbone is frozen; in the sound recipe the highest one
            of a cosine with a warm-up.
        patience: Stop after this many epochs without a lower validation loss; 0 never stops early.
        fine_tune_epochs: Passes over the training images that also train the backbone's last stages; 0 for none.
        fine_tune_stages: How many of the stages before the features are trained then.
        fine_tune_learning_rate: Highest step size then, of a cosine with a warm-up.
        compare_with: A finished train run of the same store that the report shows beside the backbones; the newest one
            of lenet5 if not given.
        images_per_shard: Images whose features one task computes, and that a killed task costs.
        cpus_per_shard: Processors of such a task; as many run at once as the cluster has room for.
        gpus_per_shard: GPUs of such a task, 0 to 1; a fraction shares one.
        workers: Data-parallel processes of the training.
        cpus_per_worker: Processors of such a worker; auto shares out what the cluster has.
        gpus_per_worker: GPUs of such a worker, 0 to 1; a fraction shares one.
        max_failures: How often a killed task is run again, and failed workers are started again, before the run fails.
    """

    backbone: Literal["resnet152v2", "efficientnetb1", "vgg16", "all"] = "all"
    recipe: Literal["sound", "notebook"] = "sound"
    weights: str = "imagenet"
    image_size: ImageSize | Literal["auto"] = "auto"  # type: ignore[valid-type]
    feature_layer: str = "auto"
    pooling: Literal["auto", "avg", "max", "flatten"] = "auto"
    head_units: list[PositiveInt] | Literal["auto"] = "auto"
    dropout: DropoutRate | Literal["auto"] = "auto"  # type: ignore[valid-type]
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    patience: NonNegativeInt = 10
    fine_tune_epochs: NonNegativeInt = 0
    fine_tune_stages: PositiveInt = 1
    fine_tune_learning_rate: PositiveFloat = 1e-4
    compare_with: str | None = None
    images_per_shard: PositiveInt = 2000
    cpus_per_shard: PositiveFloat = 1
    gpus_per_shard: NonNegativeFloat = 0
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat | Literal["auto"] = "auto"
    gpus_per_worker: NonNegativeFloat = 0
    max_failures: NonNegativeInt = 3


@dataclass(frozen=True)
class PipelineConfig(JobConfig):
    """Runs the whole study, each stage a run of its own, and leaves one report of all of them.

    Attributes:
        run_id: Name of the run, made from job and time if not given; each stage's run is named after it, such as
            ID-train-lenet5. The same id again goes on: what has finished is not run again.
        val_fraction: Share of the training images set aside for validation, stratified by class; crossval has its own.
        profile: smoke trains on so few images that no figure means anything, to see that everything runs; laptop takes
            the study's settings, but fine-tunes no backbone; full does that too.
        stages: Which to run: all, or some, by their names or those of their jobs, such as train,tune-extended. The
            report has what there is.
        backbone: Of the transfer stages, or all three; in the profile smoke all means vgg16.
        weights: Of the backbones, as in fmnist transfer; auto is imagenet, and none in the profile smoke.
        workers: Data-parallel processes of each training.
        gpus_per_worker: GPUs of such a worker, 0 to 1; a fraction shares one.
        gpus_per_task: GPUs of a trial, of a fold and of a task that computes features, 0 to 1.
        max_failures: How often a killed task, a crashed trial, a crashed fold and failed workers are started again
            before their stage fails.
        side_by_side: Whether crossval shares the cluster with train and transfer, each with half of it; auto does so
            where half is enough and has two processors or more. A search always has all of it.
    """

    profile: Literal["smoke", "laptop", "full"] = "laptop"
    stages: StageNames = "all"  # type: ignore[valid-type]
    backbone: Literal["resnet152v2", "efficientnetb1", "vgg16", "all"] = "all"
    weights: str = "auto"
    workers: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat = 0
    gpus_per_task: NonNegativeFloat = 0
    max_failures: NonNegativeInt = 3
    side_by_side: Literal["auto", "on", "off"] = "auto"


JOBS: dict[str, type[JobConfig]] = {
    TRAIN: TrainConfig,
    TUNE: TuneConfig,
    CROSSVAL: CrossvalConfig,
    TRANSFER: TransferConfig,
    PIPELINE: PipelineConfig,
}
