"""Transfer learning on a real Ray: features computed once, tasks that are killed, one worker and two."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kills import Killer

from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from fmnist.workflows.transfer.config import TransferConfig
from fmnist.workflows.transfer.features import read_shard, stored_shards
from fmnist.workflows.transfer.job import transfer


def settings(data: Path, artifacts: Path, **more: object) -> TransferConfig:
    """Two small stages of a VGG16 with random weights: the same code, faster."""
    defaults: dict[str, object] = {"run_id": "small", "limit": 360, "epochs": 3, "batch_size": 32}
    defaults |= {"backbone": "vgg16", "weights": "none", "image_size": 32, "feature_layer": "block2_pool"}
    defaults |= {"pooling": "avg", "head_units": [16], "dropout": 0.0, "images_per_shard": 60}
    return TransferConfig(data=str(data), artifacts=str(artifacts), **(defaults | more))  # type: ignore[arg-type]


def history(run: RunFolder, phase: str = "frozen") -> pd.DataFrame:
    """The scores of the epochs, without their times."""
    table = pd.read_csv(io.BytesIO(run.get_bytes("history.csv")))
    return table[table["phase"] == phase].drop(columns=["seconds", "images_per_second"])


def candidate(run: RunFolder, phase: str = "frozen") -> dict:
    return next(one for one in run.get_json("metrics.json")["candidates"] if one["phase"] == phase)


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: str, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one worker, with fine-tuning."""
    return transfer(settings(tiny_data, tmp_path_factory.mktemp("undisturbed"), fine_tune_epochs=2))


# tests/acceptance/test_transfer_job.py finds the features of a killed job.
@pytest.mark.slow
def test_another_head_finds_the_features_and_a_damaged_shard_is_computed_again(
    undisturbed: RunFolder, tiny_data: Path
) -> None:
    store = FolderStore(Path(undisturbed.store.location))
    (folder,) = store.folders("features")
    path = sorted(stored_shards(store, folder))[0]
    before = read_shard(store, path)
    store.put_bytes(path, b"rust")

    other = transfer(settings(tiny_data, Path(store.location), run_id="other", head_units=[32, 8]))

    assert (candidate(other)["shards_found"], candidate(other)["shards_computed"]) == (5, 1)
    np.testing.assert_allclose(read_shard(store, path), before, rtol=1e-4, atol=1e-3)
    assert store.folders("features") == [folder]
    assert not history(other).equals(history(undisturbed))


# tests/acceptance/test_transfer_job.py kills a driver, and tests/integration/distributed/test_tasks.py tasks.
@pytest.mark.slow
def test_killed_feature_tasks_cost_their_shard_and_change_nothing(
    undisturbed: RunFolder, tiny_data: Path, tmp_path: Path
) -> None:
    # An unfinished run of other settings, which is overwritten: its phases do not count.
    left = RunFolder(FolderStore(tmp_path), "small")
    left.put_bytes("config.yaml", b"epochs: 99")
    left.put_json("phases/vgg16-frozen/outcome.json", {})
    # Whenever another shard has been written.
    features = tmp_path / "features"
    with Killer("compute_shard", 2, lambda killed: len(list(features.glob("*/*.npy"))) > killed) as killer:
        run = transfer(settings(tiny_data, tmp_path, overwrite=True))

    assert killer.killed == 2
    assert candidate(run)["shards_computed"] == 6
    pd.testing.assert_frame_equal(history(run), history(undisturbed), check_exact=False, rtol=1e-4)


# tests/integration/workflows/train/test_workers.py shows it of the loop that both jobs share.
@pytest.mark.slow
def test_two_workers_train_as_one_does(undisturbed: RunFolder, tiny_data: Path) -> None:
    run = transfer(
        settings(
            tiny_data,
            Path(undisturbed.store.location),
            run_id="two",
            workers=2,
            cpus_per_worker=1,
            fine_tune_epochs=2,
        )
    )

    for phase in ("frozen", "fine-tuned"):
        pd.testing.assert_frame_equal(history(run, phase), history(undisturbed, phase), check_exact=False, rtol=2e-3)
