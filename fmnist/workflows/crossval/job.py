"""The crossval job: one model, trained and measured once a fold, as Ray tasks.

Top to bottom it is the method: `crossval` deals the images to folds, `_run_folds` lets `train_folds` run on as many
processes as there is room for, and what they leave in the run folder becomes artifacts.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import ray

from fmnist.data import Fold
from fmnist.distributed import cluster
from fmnist.distributed.events import heard, open_events
from fmnist.distributed.session import Figures, Session, run_on_ray
from fmnist.distributed.spaces import check_model
from fmnist.errors import FmnistError, TrainingError, first_line
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import is_done, open_run
from fmnist.workflows.crossval.config import CROSSVAL, CrossvalConfig
from fmnist.workflows.crossval.fold import FoldNews, FoldOutcome, FoldTask, read_fold, train_folds
from fmnist.workflows.crossval.preparation import PreparedFolds, prepare_folds
from fmnist.workflows.crossval.progress import FoldProgress
from fmnist.workflows.crossval.records import Weights

# What one Ray task trains: a fold, or with carried weights all of them.
Piece = tuple[Weights, tuple[Fold, ...]]


def crossval(config: CrossvalConfig, resources: cluster.Resources | None = None) -> RunFolder:
    """Runs the crossval job.

    Args:
        config: the job's settings.
        resources: of a Ray cluster that is connected already; None connects to one.

    Returns:
        The finished run folder.

    Raises:
        UserError: if data, store, run id, model or resources are not as they must be; nothing has been trained then.
        TrainingError: if a fold cannot be trained; the run folder keeps those that were.
    """
    run = open_run(CROSSVAL, config)
    if not is_done(run, config):
        run_on_ray(run, config, prepare_folds, _crossval, resources)
    return run


def _crossval(session: Session[CrossvalConfig, PreparedFolds]) -> None:
    """Trains and measures all folds, and writes the results."""
    config, resources = session.config, session.resources
    cluster.check_room(resources, "fold", 1, config.cpus_per_fold, config.gpus_per_fold)
    at_once = f", {config.concurrency} at once at most" if config.concurrency != "auto" else ""
    session.note(f"Ray: {resources}; a fold: {config.cpus_per_fold:g} CPUs, {config.gpus_per_fold:g} GPUs{at_once}")
    check_model(config.model, config.hyperparameters)
    started_run = session.begin(_draw_data)
    with FoldProgress(config.folds, config.epochs, carried=config.carry_weights) as progress:
        outcomes = _run_folds(config, session.run, session.data, progress)

    from fmnist.workflows.crossval.results import write_crossval_results

    write_crossval_results(started_run, config, outcomes, progress.restarts)


def _draw_data(data: PreparedFolds) -> Figures:
    """Draws the data's figures, and imports what results are written with, while the folds are trained."""
    import fmnist.workflows.crossval.results  # noqa: F401
    from fmnist.report.data_plots import data_plots

    return data_plots({"train": data.images})


def _run_folds(
    config: CrossvalConfig, run: RunFolder, data: PreparedFolds, progress: FoldProgress
) -> list[FoldOutcome]:
    """Trains on the cluster what the run folder has not; returns all folds, those with carried weights last."""
    kinds: tuple[Weights, ...] = ("fresh", "carried") if config.carry_weights else ("fresh",)
    wanted = [(weights, fold) for weights in kinds for fold in data.folds]
    known = {(outcome.weights, outcome.fold): outcome for outcome in _outcomes(run, wanted)}
    missing = [(weights, fold) for weights, fold in wanted if (weights, fold.number) not in known]
    # Carried weights go through all folds in one task, which takes longest and so begins first.
    pieces: list[Piece] = []
    if any(weights == "carried" for weights, _ in missing):
        pieces.append(("carried", tuple(data.folds)))
    pieces += [(weights, (fold,)) for weights, fold in missing if weights == "fresh"]

    progress.begin({key: outcome.accuracy(data.images, data.folds[key[1] - 1]) for key, outcome in known.items()})
    events = open_events()
    # All at once where nothing is said, so that a cluster that can grow sees what there is to do.
    limit = len(pieces) if config.concurrency == "auto" else config.concurrency
    with heard(events, partial(_show, progress)):
        lost = _run_pieces(FoldTask(config, run, events), ray.put(data.images), pieces, progress, limit)
    if lost:
        raise TrainingError(
            f"run {run.run_id}: {'; '.join(lost)}; the folds that have ended are kept, and the same command with this "
            "--run-id trains the others"
        )
    ended = {(outcome.weights, outcome.fold): outcome for outcome in _outcomes(run, missing)} | known
    return [ended[weights, fold.number] for weights, fold in wanted]


def _run_pieces(
    task: FoldTask, images: ray.ObjectRef, pieces: list[Piece], progress: FoldProgress, limit: int
) -> list[str]:
    """Runs the tasks, ``limit`` at once at most and as there is room for; returns what was lost, and how.

    Raises:
        TrainingError: at once, if a fold ends with an error that it would end with again.
    """
    config = task.config
    train = ray.remote(
        num_cpus=config.cpus_per_fold,
        num_gpus=config.gpus_per_fold,
        # Of processes that were killed. Each goes on from what is in the run folder.
        max_retries=config.max_failures,
    )(train_folds)
    waiting = list(reversed(pieces))
    running: dict[ray.ObjectRef, Piece] = {}
    lost: list[str] = []
    patience: float | None = cluster.WAIT_SECONDS
    while waiting or running:
        while waiting and len(running) < limit:
            weights, folds = piece = waiting.pop()
            running[train.remote(task, images, folds, weights)] = piece
        ended, _ = ray.wait(list(running), num_returns=1, timeout=patience)
        if not ended and not progress.begun:
            progress.note(
                f"still waiting: no room yet for a fold of {config.cpus_per_fold:g} CPUs and {config.gpus_per_fold:g} "
                "GPUs on this cluster"
            )
        patience = None
        for reference in ended:
            piece = running.pop(reference)
            try:
                # They may be heard here before the listener hears them.
                for news in ray.get(reference):
                    _show(progress, news)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, FmnistError):
                    raise TrainingError(f"run {task.run.run_id}: {_name(piece)}: {error.cause}") from error
                raise
            except ray.exceptions.RayError as error:
                lost.append(f"{_name(piece)}: {first_line(error)}")
                progress.note(f"{lost[-1]}; the other folds go on")
    return lost


def _outcomes(run: RunFolder, wanted: list[tuple[Weights, Fold]]) -> list[FoldOutcome]:
    """Returns the outcomes that the run folder has, in the order of ``wanted``."""
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda one: read_fold(run, one[0], one[1].number), wanted)
        return [outcome for outcome in found if outcome is not None]


def _show(progress: FoldProgress, news: FoldNews) -> None:
    if news.row is not None:
        progress.epoch(news.weights, news.fold, news.row)
    elif news.accuracy is not None:
        progress.fold_ends(news.weights, news.fold, news.known, news.accuracy)
    else:
        progress.fold_begins(news.weights, news.fold, news.known)


def _name(piece: Piece) -> str:
    weights, folds = piece
    return f"fold {folds[0].number}" if weights == "fresh" else "the folds with carried weights"
