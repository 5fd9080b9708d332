"""Small run folders of every job, finished and unfinished, as their documents are; nothing in them was trained."""

from __future__ import annotations

import re
import struct
from typing import Any

import pandas as pd

from fmnist.options import settings_yaml
from fmnist.runs import RunFolder
from fmnist.runs.inputs import IDENTITY
from fmnist.storage import Store

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 3, 2) + b"..."


def epoch(number: int) -> dict[str, int | float]:
    """A row of ``history.csv``: after n epochs the validation accuracy is n/10."""
    values = {"loss": 1 / number, "accuracy": number / 20, "val_loss": 2 / number, "val_accuracy": number / 10}
    return {"epoch": number, **values, "learning_rate": 0.001, "seconds": 2.0, "images_per_second": 100.0 * number}


def begun(store: Store, run_id: str, identity: str | None = "first", **settings: Any) -> RunFolder:
    """A run that has begun."""
    run = RunFolder(store, run_id)
    run.put_bytes("config.yaml", settings_yaml({"run_id": run_id, "seed": 0, **settings}).encode())
    run.put_json("data.json", {"source": "auto", "sha256": {"train": "a1", "test": "b2"}})
    run.put_json("environment.json", {"keras": "3.15.1", **({IDENTITY: identity} if identity else {})})
    return run


def put_epochs(run: RunFolder, epochs: int, folder: str = "checkpoints") -> None:
    """The checkpoint of a training after some epochs."""
    run.put_json(f"{folder}/epoch-{epochs:04d}/history.json", [epoch(n) for n in range(1, epochs + 1)])


def put_state(run: RunFolder, folder: str, epochs: int, parameters: dict[str, Any] | None = None) -> None:
    """The state of a trial or fold after some epochs."""
    rows = [epoch(n) for n in range(1, epochs + 1)]
    run.put_json(f"{folder}/state.json", {"parameters": parameters, "rows": rows, "sha256": ""})


def finish(run: RunFolder, job: str, epochs: int = 3, **metrics: Any) -> None:
    """Writes the results of a run of ``epochs`` epochs and its manifest."""
    shared = {"job": job, "run_id": run.run_id, "started": "2026-11-23T18:40:00Z", "finished": "2026-11-23T18:45:00Z"}
    run.put_json("metrics.json", {**shared, "seconds": {"total": 300.0}, **metrics})
    if job in {"train", "tune"}:
        run.put_csv("history.csv", pd.DataFrame([epoch(n) for n in range(1, epochs + 1)]))
        run.put_bytes("plots/confusion_matrix.png", PNG)
        run.put_bytes("plots/worst_mistakes.png", PNG)
    run.finish(job, without=["checkpoints", "trials", "folds", "phases"])


def trained(store: Store, run_id: str = "train-1", epochs: int = 3, identity: str | None = "first") -> RunFolder:
    """A finished train run."""
    run = begun(store, run_id, identity, learning_rate=0.001)
    finish(run, "train", epochs, best_epoch=epochs, test={"accuracy": 0.91, "loss": 0.25})
    return run


def searched(store: Store, run_id: str = "tune-1") -> RunFolder:
    """A finished tune run of three trials, of which the second has no filters and the third failed."""
    run = begun(store, run_id)
    trials = [
        {"trial": 1, "status": "finished", "epochs": 2, "filters": 8, "activation": "relu"},
        {"trial": 2, "status": "stopped", "epochs": 1, "filters": None, "activation": "tanh"},
        {"trial": 3, "status": "failed", "epochs": 0, "filters": 4, "activation": "tanh", "error": "diverged"},
    ]
    run.put_csv("trials.csv", pd.DataFrame(trials))
    rows = [{"trial": one["trial"], **epoch(n)} for one in trials for n in range(1, int(str(one["epochs"])) + 1)]
    run.put_csv("trials_history.csv", pd.DataFrame(rows))
    finish(run, "tune", best_epoch=3, test={"accuracy": 0.9, "loss": 0.3})
    return run


def cross_validated(store: Store, run_id: str = "crossval-1") -> RunFolder:
    """A finished crossval run of two folds."""
    run = begun(store, run_id)
    folds = [{"weights": "fresh", "fold": n, "held_out_loss": 0.4, "held_out_accuracy": 0.8 + n / 100} for n in (1, 2)]
    run.put_csv("folds.csv", pd.DataFrame(folds))
    rows = [{"weights": "fresh", "fold": fold, **epoch(n)} for fold in (1, 2) for n in (1, 2)]
    run.put_csv("history.csv", pd.DataFrame(rows))
    finish(run, "crossval", held_out={"accuracy": 0.815})
    return run


def sent_epochs(store: Store, run_id: str) -> dict[str, list[int]]:
    """Returns the epochs in the event files of a run, as their names have them, by part of the run."""
    found: dict[str, list[int]] = {}
    for key in sorted(entry.key for entry in store.entries(f"tensorboard/{run_id}")):
        part = "/".join(key.split("/")[2:-1])
        first, last = map(int, re.search(r"-epochs-(\d+)-(\d+)$", key).groups()) if "-epochs-" in key else (1, 0)
        found.setdefault(part, []).extend(range(first, last + 1))
    return found
