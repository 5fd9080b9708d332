"""The crossval job: trains and measures one model per fold, in Ray tasks.

From top to bottom: `prepare_folds` splits the images into folds, `_run_folds` runs `train_folds` in as many processes
as there is room for, and the results are written from the outcomes that these leave in the run folder.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray

from fmnist import data
from fmnist.data import Fold, Images
from fmnist.data.preparation import load_cleaned
from fmnist.distributed import cluster
from fmnist.distributed.events import listen, open_events
from fmnist.distributed.session import Figures, Session, run_on_ray
from fmnist.distributed.spaces import check_model
from fmnist.distributed.tasks import MOST_SUBMITTED, TaskPool
from fmnist.errors import TrainingError
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import open_run
from fmnist.workflows.crossval.config import CROSSVAL, CrossvalConfig
from fmnist.workflows.crossval.fold import FoldTask, read_fold, train_folds
from fmnist.workflows.crossval.progress import FoldProgress, Key
from fmnist.workflows.crossval.records import FoldOutcome, Weights

# The folds of one Ray task: one with fresh weights, or all with carried weights.
Piece = tuple[Weights, tuple[Fold, ...]]


@dataclass(frozen=True)
class PreparedFolds:
    """Cleaned images, the positions of each fold's images, and the content of ``data.json``."""

    images: Images
    folds: list[Fold]
    summary: dict[str, Any]


def prepare_folds(config: CrossvalConfig, note: Callable[[str], None]) -> PreparedFolds:
    """Loads and cleans the images, and splits those for training into folds; a DataError if they are too few."""
    loaded = load_cleaned(config, note)
    folds = data.folds(loaded.train, config.folds, val_fraction=config.val_fraction, seed=config.seed)
    summary = loaded.summary(config, {"train": loaded.train, "test": loaded.test}, folds=len(folds))
    one = folds[0]
    note(
        f"data {config.data}: {len(loaded.train):,} images in {len(folds)} folds; in fold 1 {len(one.train):,} to "
        f"train on, {len(one.val):,} to stop by, {len(one.held_out):,} held out; {loaded.dropped}"
    )
    return PreparedFolds(loaded.train, folds, summary)


def crossval(config: CrossvalConfig, resources: cluster.Resources | None = None) -> RunFolder:
    """Runs the crossval job and returns the finished run folder; arguments as in `fmnist.config.Job`.

    Raises:
        UserError: if data, store, run id, model or resources are wrong; then nothing has been trained.
        TrainingError: if a fold fails or is lost; the run folder keeps the folds that have ended.
    """
    with open_run(CROSSVAL, config) as opened:
        if not opened.done:
            run_on_ray(opened, config, prepare_folds, _crossval, resources)
    return opened.folder


def _crossval(session: Session[CrossvalConfig, PreparedFolds]) -> None:
    config, resources = session.config, session.resources
    cluster.check_room(resources, "fold", 1, config.cpus_per_fold, config.gpus_per_fold)
    at_once = f", {config.concurrency} at once at most" if config.concurrency != "auto" else ""
    session.note(f"Ray: {resources}; a fold: {config.cpus_per_fold:g} CPUs, {config.gpus_per_fold:g} GPUs{at_once}")
    check_model(config.model, config.hyperparameters)
    started_run = session.begin(_draw_data)
    with FoldProgress(config.folds, config.epochs, carried=config.carry_weights, publish=session.publish) as progress:
        outcomes = _run_folds(config, session.run, session.data, progress)

    from fmnist.workflows.crossval.results import write_crossval_results

    write_crossval_results(started_run, config, outcomes, progress.restarts)


def _draw_data(prepared: PreparedFolds) -> Figures:
    """Draws the data's figures, and imports the modules that write the results, while the folds are trained."""
    import fmnist.workflows.crossval.results  # noqa: F401
    from fmnist.report.data_plots import data_plots

    return data_plots({"train": prepared.images})


def _run_folds(
    config: CrossvalConfig, run: RunFolder, prepared: PreparedFolds, progress: FoldProgress
) -> list[FoldOutcome]:
    """Trains the folds that the run folder does not have; returns all folds, those with carried weights last.

    Raises:
        TrainingError: when all have ended, if some were lost or all with fresh weights diverged in their first epoch.
    """
    kinds: tuple[Weights, ...] = ("fresh", "carried") if config.carry_weights else ("fresh",)
    wanted = [(weights, fold) for weights in kinds for fold in prepared.folds]
    known = _outcomes(run, wanted, progress.note)
    missing = [(weights, fold) for weights, fold in wanted if (weights, fold.number) not in known]
    # The folds with carried weights are one task, which takes longest and so begins first.
    pieces: list[Piece] = []
    if any(weights == "carried" for weights, _ in missing):
        pieces.append(("carried", tuple(prepared.folds)))
    pieces += [(weights, (fold,)) for weights, fold in missing if weights == "fresh"]

    progress.begin({key: one.accuracy(prepared.images, prepared.folds[key[1] - 1]) for key, one in known.items()})
    task, images = FoldTask(config, run, open_events()), ray.put(prepared.images)
    limit = MOST_SUBMITTED if config.concurrency == "auto" else config.concurrency
    pool = TaskPool(
        "fold",
        config.cpus_per_fold,
        config.gpus_per_fold,
        # A task that is retried resumes from the run folder.
        retries=config.max_failures,
        note=progress.note,
        limit=limit,
        has_begun=lambda: progress.has_begun,
    )
    lost: list[str] = []

    def on_lost(piece: Piece, reason: str) -> None:
        lost.append(f"{_name(piece)}: {reason}")
        progress.note(f"{lost[-1]}; the other folds continue")

    calls = (((weights, folds), (task, images, folds, weights)) for weights, folds in pieces)
    with listen(task.events, progress.show):
        for _, ends in pool.run(train_folds, calls, lambda piece: f"run {run.run_id}: {_name(piece)}", on_lost):
            # A task may return its last events before the listener gets them.
            for event in ends:
                progress.show(event)
    if lost:
        raise TrainingError(
            f"run {run.run_id}: {'; '.join(lost)}; the folds that have ended are kept, and the same command with this "
            "--run-id trains the others"
        )
    ended = known | _outcomes(run, missing, progress.note)
    if not any(one.rows for one in ended.values() if one.weights == "fresh"):
        raise TrainingError(f"run {run.run_id}: no fold has trained an epoch: {ended['fresh', 1].diverged}")
    return [ended[weights, fold.number] for weights, fold in wanted]


def _outcomes(
    run: RunFolder, wanted: list[tuple[Weights, Fold]], note: Callable[[str], None]
) -> dict[Key, FoldOutcome]:
    """Returns the outcomes that the run folder has and that are not damaged."""
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda one: read_fold(run, one[0], one[1].number, note), wanted)
        return {(outcome.weights, outcome.fold): outcome for outcome in found if outcome is not None}


def _name(piece: Piece) -> str:
    weights, folds = piece
    return f"fold {folds[0].number}" if weights == "fresh" else "the folds with carried weights"
