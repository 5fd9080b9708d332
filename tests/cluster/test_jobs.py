"""Every job as a RayJob on pods, its artifacts fetched and checked; schedules, autoscaling, GPUs, bad settings."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from kubernetes_cluster import (
    NAMESPACE,
    Jobs,
    artifacts,
    get,
    job_status,
    kubectl,
    own_jobs,
    pull,
    renamed,
    state,
    wait_for_job,
    wait_until,
)
from manifests import Object

from jobs import REPOSITORY, command


@pytest.fixture(scope="module", autouse=True)
def room(jobs: Jobs) -> None:
    """The cluster for people would only hold processors here."""
    kubectl("delete", "raycluster", "fmnist", "--ignore-not-found")


# What train alone leaves is seen in test_kills.py, and what crossval leaves where its cluster grows.
@pytest.mark.parametrize("job", ["tune", "transfer", "pipeline"])
def test_job_succeeds_on_two_workers_and_its_artifacts_can_be_fetched(jobs: Jobs, job: str, tmp_path: Path) -> None:
    jobs.start(job)
    wait_for_job(job)

    pull(job, tmp_path)
    log = kubectl("logs", f"job/{job}", "--tail=-1")
    assert "Ray: 2 CPUs (3 nodes, joined)" in log, log
    if job == "pipeline":
        pull("pipeline-train-lenet5", tmp_path)


def test_schedule_fires_and_each_firing_is_a_run_of_its_own(jobs: Jobs, tmp_path: Path) -> None:
    often = own_jobs(
        tmp_path,
        patches=[
            {
                "target": {"kind": "RayCronJob"},
                "patch": json.dumps([{"op": "replace", "path": "/spec/schedule", "value": "* * * * *"}]),
            }
        ],
    )
    often.start("retrain")

    def fired() -> list[str]:
        return [one["metadata"]["name"] for one in get("rayjobs") if one["metadata"]["name"].startswith("retrain-")]

    wait_until("second firing", lambda: len(fired()) >= 2, timeout=360)
    kubectl("patch", "raycronjob", "retrain", "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    names = fired()
    for name in names:
        wait_for_job(name)

    with artifacts() as environment:
        listed = command("runs", "list", "--artifacts", "s3://fmnist/runs", environment=environment).stdout
    assert len(names) == len(set(names)) >= 2
    for name in names:
        assert any(line.startswith(f"{name}\ttrain\tfinished") for line in listed.splitlines()), listed


def test_crossval_on_a_cluster_that_grows_from_nothing_and_shrinks_again(jobs: Jobs, tmp_path: Path) -> None:
    # A cluster that stays when its job has ended, to see it shrink.
    patch = [
        {"op": "replace", "path": "/spec/shutdownAfterJobFinishes", "value": False},
        {"op": "remove", "path": "/spec/ttlSecondsAfterFinished"},
        {"op": "add", "path": "/spec/rayClusterSpec/autoscalerOptions/idleTimeoutSeconds", "value": 5},
    ]
    grown = own_jobs(
        tmp_path,
        components=("autoscaling",),
        patches=renamed("crossval", "grows", *patch),
    )
    grown.start("crossval")

    seen = []

    def ended() -> bool:
        pods = [pod["metadata"]["name"] for pod in get("pods", "", "-l", "ray.io/node-type=worker")]
        workers = sum(name.startswith("grows-") for name in pods)
        if not seen or seen[-1] != workers:
            seen.append(workers)
        job, deployment = job_status("grows")
        assert deployment != "Failed", state()
        return job == "SUCCEEDED" and deployment == "Complete" and workers == 0

    wait_until("grown and shrunk cluster", ended, timeout=360)
    pull("grows", tmp_path)
    kubectl("delete", "rayjob", "grows", "--wait=false")

    assert seen[0] == 0 and max(seen) == 2 and seen[-1] == 0, seen


@pytest.fixture
def gpus() -> Iterator[None]:
    """A node that says it has two GPUs. There is no device behind them, unless the cluster has some by itself."""
    nodes = get("nodes")
    if any(int(node["status"]["capacity"].get("nvidia.com/gpu", 0)) for node in nodes):
        yield
        return
    name = nodes[0]["metadata"]["name"]
    change = ["patch", "node", name, "--subresource=status", "--type=json", "--patch"]
    path = "/status/capacity/nvidia.com~1gpu"
    kubectl(*change, json.dumps([{"op": "add", "path": path, "value": "2"}]))
    yield
    kubectl(*change, json.dumps([{"op": "remove", "path": path}]))


def test_gpu_workers_are_placed_one_a_gpu_and_ray_sees_them__without_a_device(
    jobs: Jobs, gpus: None, tmp_path: Path
) -> None:
    look = (
        "import ray; ray.init(); print('GPUs:', *sorted(int(node['Resources'].get('GPU', 0)) for node in ray.nodes()))"
    )
    entrypoint = {"op": "replace", "path": "/spec/entrypoint", "value": f'python -c "{look}"'}
    placed = own_jobs(tmp_path, components=("gpu",), patches=renamed("train", "gpus", entrypoint))
    placed.start("train")
    wait_for_job("gpus")

    log = kubectl("logs", "job/gpus", "--tail=-1")
    assert "GPUs: 0 1 1" in log.splitlines(), log


def test_bad_settings_are_told_and_end(jobs: Jobs, tmp_path: Path) -> None:
    def broken(name: str, retries: int, *operations: Object) -> None:
        limit = {"op": "replace", "path": "/spec/backoffLimit", "value": retries}
        patches = renamed("train", name, limit, *operations)
        own_jobs(tmp_path / name, patches=patches).start("train")

    cluster = "/spec/rayClusterSpec"
    container = "template/spec/containers/0"
    pod = [f"{cluster}/headGroupSpec/{container}", f"{cluster}/workerGroupSpecs/0/{container}"]
    other_secret = [{"op": "replace", "path": f"{path}/envFrom/1/secretRef/name", "value": "nowhere"} for path in pod]
    other_image = [{"op": "replace", "path": f"{path}/image", "value": "fmnist:not-built"} for path in pod]
    never_runs = {"op": "replace", "path": "/spec/preRunningDeadlineSeconds", "value": 45}
    nowhere = [{"name": "AWS_ENDPOINT_URL", "value": "http://nowhere:9"}]
    other_store = [{"op": "add", "path": f"{path}/env", "value": nowhere} for path in pod]
    broken("no-secret", 0, *other_secret, never_runs)
    broken("no-image", 1, *other_image, never_runs)
    broken("no-store", 1, *other_store)

    def seen(text: str, *of: str) -> Callable[[], bool]:
        return lambda: text in kubectl(*of, check=False)

    heads = ("describe", "pods", "-l", "ray.io/node-type=head")
    wait_until("reason: Secret", seen('secret "nowhere" not found', *heads), timeout=240)
    wait_until("reason: image", seen('pull image "fmnist:not-built"', *heads), timeout=240)
    wait_until("reason: store", seen("nowhere:9", "logs", "job/no-store"), timeout=240)
    for name, how in (("no-secret", "Failed"), ("no-image", "Failed"), ("no-store", "Complete")):
        wait_until(f"end of {name}", partial(lambda name, how: job_status(name)[1] == how, name, how), timeout=360)
    output = kubectl("logs", "job/no-store", "--tail=-1")

    assert "\nfmnist: s3://fmnist/runs" in output and "Traceback" not in output, output
    assert job_status("no-store")[0] == "STOPPED"
    for name, clusters in (("no-secret", 1), ("no-image", 2), ("no-store", 0)):
        status = get("rayjob", name)["status"]
        assert status["failed"] == clusters, status
        assert not clusters or "preRunningDeadlineSeconds" in status["message"], status
    kubectl("delete", "rayjob", "no-secret", "no-image", "no-store", "--wait=false")


@pytest.mark.parametrize(
    ("code", "status", "clusters_that_failed"), [(0, "SUCCEEDED", 0), (1, "FAILED", 2), (2, "STOPPED", 0)]
)
def test_wrong_settings_get_no_other_cluster_and_a_script_that_waits_as_documented_knows_the_end(
    jobs: Jobs, code: int, status: str, clusters_that_failed: int, tmp_path: Path
) -> None:
    name = f"code-{code}"
    command = f'sh jobs/rayjob.sh $RAY_JOB_SUBMISSION_ID python -c "raise SystemExit({code})"'
    patch = [
        {"op": "replace", "path": "/spec/entrypoint", "value": command},
        {"op": "replace", "path": "/spec/backoffLimit", "value": 1},
    ]
    own_jobs(tmp_path, patches=renamed("train", name, *patch)).start("train")

    ended = subprocess.run(["bash", "-c", documented_wait(name)], capture_output=True, text=True, timeout=300)

    assert ended.returncode == (code > 0), ended
    assert job_status(name) == (status, "Failed" if status == "FAILED" else "Complete")
    assert get("rayjob", name)["status"]["failed"] == clusters_that_failed
    kubectl("delete", "rayjob", name, "--wait=false")


def documented_wait(job: str) -> str:
    """The commands of docs/kubernetes.md by which a script waits, for a job of the tests."""
    text = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"```console\n(\$ status\(\) .*?)```", text, re.DOTALL)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    return "\n".join(lines).replace("-n fmnist", f"-n {NAMESPACE}").replace("rayjob train", f"rayjob {job}")
