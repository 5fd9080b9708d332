"""Workers that come and go: on a Ray of several raylets, of which one is added and killed while a job trains."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pandas as pd
import pytest
from ray.cluster_utils import Cluster

from fmnist.runs import HISTORY, RunFolder
from fmnist.runs.reproduction import compare_epochs
from fmnist.storage import FolderStore
from jobs import Job, fmnist

# Ray Train needs half a minute to see that a node has come.
EPOCHS = 40
# `fmnist`, which usually waits a minute after each change of the number of workers.
QUICK_TO_RESIZE = """
from fmnist.distributed import workers
workers.RESIZE_SECONDS = 1.0
from fmnist.cli import main
raise SystemExit(main())
"""

# The workers start four times.
pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    """A head with one processor. A node that is killed is lost within seconds."""
    lost = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": lost})
    yield cluster
    cluster.shutdown()


def history(run: RunFolder) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(run.get_bytes(HISTORY)))


def test_a_worker_more_and_a_worker_less_change_no_digit(nodes: Cluster, small_data: Path, tmp_path: Path) -> None:
    settings = [f"--data={small_data}", f"--artifacts={tmp_path}", "--lanes=3", "--cpus-per-worker=1", "--patience=0"]
    settings += ["--model=extended", f"--epochs={EPOCHS}"]
    joined = {"RAY_ADDRESS": nodes.address}

    elastic = ["train", *settings, "--run-id=elastic", "--workers=1:2"]
    with Job(sys.executable, "-c", QUICK_TO_RESIZE, *elastic, environment=joined) as job:
        job.wait_for(r"^epoch +2/")
        second = nodes.add_node(num_cpus=1)
        job.wait_for(r"^2 workers from epoch \d+ on$")
        (grown,) = re.findall(r"^2 workers from epoch (\d+) on$", job.output, re.MULTILINE)
        # The worker before them may have got as far as that epoch, and been ended in it.
        job.wait_for(rf"^epoch +{int(grown) + 2}/")
        nodes.remove_node(second, allow_graceful=False)
        job.wait_for(r"^1 worker from epoch \d+ on$")
        assert job.wait() == 0, job.output
    with fmnist("train", *settings, "--run-id=one", environment=joined) as job:
        assert job.wait() == 0, job.output

    run, undisturbed = (RunFolder(FolderStore(tmp_path), name) for name in ("elastic", "one"))
    assert run.verify() == []
    assert [workers for workers, _ in groupby(history(run)["workers"])] == [1, 2, 1]
    found = compare_epochs(undisturbed, run)
    assert (found.epochs, found.first) == (EPOCHS, None)
