"""Who reaches what: closed by default, open to those who hold the token."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from kubernetes_cluster import (
    NAMESPACE,
    STRANGER,
    Jobs,
    forwarded,
    get,
    job_status,
    kubectl,
    own_jobs,
    run_pod,
    secret,
    wait_until,
)
from manifests import Object
from ray_head import RAY

from jobs import REPOSITORY

ENTRYPOINT = "python jobs/train.py --config /etc/fmnist/train.yaml --artifacts s3://fmnist/runs --run-id by-hand"


@pytest.fixture(scope="module")
def dashboard(jobs: Jobs) -> Iterator[str]:
    """The address of the cluster for people, as a person reaches it."""
    with forwarded("service/fmnist-head-svc", 8265) as port:
        yield f"http://127.0.0.1:{port}"


def test_without_the_token_the_dashboard_answers_401(dashboard: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=20)

    assert error.value.code == 401


def submit(dashboard: str, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_ADDRESS": ""}
    return subprocess.run(
        [RAY, "job", *arguments[:1], f"--address={dashboard}", *arguments[1:]],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=240,
    )


def test_submission_with_a_wrong_token_is_refused(dashboard: str) -> None:
    refused = submit(dashboard, "0" * 64, "submit", "--", "true")

    assert refused.returncode != 0
    assert re.search("401|[Uu]nauth|token", refused.stdout + refused.stderr)


def test_submission_with_the_token_trains_and_the_dashboard_shows_it(dashboard: str) -> None:
    token = secret("fmnist")["auth_token"]

    ended = submit(dashboard, token, "submit", "--working-dir=.", "--", *ENTRYPOINT.split(), "--workers=2")

    output = ended.stdout + ended.stderr
    assert ended.returncode == 0 and "finished in" in output, output
    assert "Ray: 2 CPUs (3 nodes, joined)" in output, output
    request = urllib.request.Request(f"{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    assert b"by-hand" in urllib.request.urlopen(request, timeout=20).read()


def reached_from(pod: str, addresses: list[str]) -> list[str]:
    """Which of the addresses a pod of Ray's reaches."""
    output = kubectl("exec", pod, "--", "python", "-c", STRANGER, *addresses)
    return [line.split()[0] for line in output.splitlines() if not line.endswith("not reached")]


def test_a_pod_without_a_label_of_ours_reaches_neither_ray_nor_the_store(jobs: Jobs) -> None:
    (head,) = get("pods", "", "-l", "ray.io/node-type=head,ray.io/cluster=fmnist")
    store = f"{get('pod', 's3-0')['status']['podIP']}:8333"
    targets = [*(f"{head['status']['podIP']}:{port}" for port in (6379, 8265, 10001)), store]
    run_pod("stranger", STRANGER, *targets)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/stranger", "--timeout=90s")

    assert kubectl("logs", "stranger").splitlines() == [f"{target} not reached" for target in targets]
    # The same from a pod of the cluster: what is refused above is there, and not merely down.
    assert reached_from(head["metadata"]["name"], [store]) == [store]


def test_a_pod_of_ray_reaches_no_pod_that_no_policy_names(jobs: Jobs) -> None:
    run_pod("listener", "import http.server; http.server.HTTPServer(('', 8080), None).serve_forever()")
    kubectl("wait", "--for=condition=Ready", "pod/listener", "--timeout=90s")
    address = f"{get('pod', 'listener')['status']['podIP']}:8080"
    (head,) = get("pods", "", "-l", "ray.io/node-type=head,ray.io/cluster=fmnist")

    assert not reached_from(head["metadata"]["name"], [address])
    # Through the kubelet, which no policy concerns: it listens.
    with forwarded("pod/listener", 8080) as port:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    kubectl("delete", "pod", "listener", "--wait=false")


@pytest.fixture(scope="module")
def held(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Object]]:
    """The pods of a RayJob whose entrypoint waits, its head first."""
    patch = [{"op": "replace", "path": "/spec/entrypoint", "value": "sleep 600"}]
    one = own_jobs(
        tmp_path_factory.mktemp("held"),
        patches=[{"target": {"kind": "RayJob", "name": "train"}, "patch": json.dumps(patch)}],
    )
    one.start("train")
    wait_until("job that waits", lambda: job_status("train")[0] == "RUNNING")
    pods = get("pods", "", "-l", "ray.io/cluster,app.kubernetes.io/instance=train")
    yield sorted(pods, key=lambda pod: pod["metadata"]["labels"]["ray.io/node-type"])
    kubectl("delete", "rayjob", "train", "--wait=false")


def test_a_pod_of_another_cluster_cannot_connect(held: list[Object]) -> None:
    (other,) = get("pods", "", "-l", "ray.io/node-type=head,ray.io/cluster=fmnist")
    head, *workers = held
    ports = (6379, 8265, 10001)
    targets = [f"{pod['status']['podIP']}:{port}" for pod in held for port in (*ports, 22345)]
    assert workers

    assert not reached_from(other["metadata"]["name"], targets)
    # From within, all of the head's ports answer; and the other way round nothing does.
    of_head = [f"{head['status']['podIP']}:{port}" for port in ports]
    assert reached_from(workers[0]["metadata"]["name"], of_head) == of_head
    assert not reached_from(workers[0]["metadata"]["name"], [f"{other['status']['podIP']}:{port}" for port in ports])


def test_a_drain_waits_for_a_job_and_not_for_the_cluster_for_people(held: list[Object]) -> None:
    def drain(selector: str, *more: str) -> str:
        options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--pod-selector={selector}", *more)
        return kubectl("drain", node, *options, check=False)

    head = held[0]
    node = head["spec"]["nodeName"]
    try:
        refused = drain("app.kubernetes.io/instance=train,ray.io/node-type=head", "--timeout=15s")
        drained = drain("app.kubernetes.io/instance=fmnist,ray.io/node-type=head", "--timeout=180s")
    finally:
        kubectl("uncordon", node)

    assert "disruption budget" in refused, refused
    assert get("pod", head["metadata"]["name"])["metadata"]["uid"] == head["metadata"]["uid"]
    assert "evicted" in drained and "disruption budget" not in drained, drained
    wait_until("cluster for people", lambda: get("raycluster", "fmnist").get("status", {}).get("state") == "ready")


def test_the_pods_account_may_do_nothing(jobs: Jobs) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:fmnist"

    allowed = kubectl("auth", "can-i", "--list", f"--as={account}")

    verbs = [line for line in allowed.splitlines()[1:] if line.strip() and not line.startswith(" ")]
    # Asking what one may do oneself is everybody's right.
    assert all("selfsubject" in line for line in verbs), allowed
    for verb, kind in (("get", "secrets"), ("create", "pods"), ("list", "pods"), ("patch", "rayclusters.ray.io")):
        assert kubectl("auth", "can-i", verb, kind, f"--as={account}", check=False).startswith("no")
    for pod in get("pods", "", "-l", "ray.io/cluster"):
        mounts = [mount["mountPath"] for each in pod["spec"]["containers"] for mount in each.get("volumeMounts", [])]
        assert not any("serviceaccount" in mount for mount in mounts)


def test_people_may_read_the_secret_of_their_cluster_and_no_other(jobs: Jobs) -> None:
    person = "--as=somebody"
    kubectl("create", "rolebinding", "somebody", "--role=fmnist-user", "--user=somebody")

    assert kubectl("auth", "can-i", "get", "secrets/fmnist", person, check=False).startswith("yes")
    assert kubectl("auth", "can-i", "get", "secrets/fmnist-s3", person, check=False).startswith("no")
    assert kubectl("auth", "can-i", "list", "secrets", person, check=False).startswith("no")


def test_no_pod_was_refused_or_runs_as_root(jobs: Jobs) -> None:
    pods = get("pods")
    events = [event for event in get("events") if "violates PodSecurity" in event.get("message", "")]

    assert pods and not events
    for pod in pods:
        if pod["status"]["phase"] == "Running" and "ray.io/cluster" in pod["metadata"]["labels"]:
            name = pod["metadata"]["name"]
            assert kubectl("exec", name, "--", "id", "-u").strip() == "1000"
            assert "Read-only" in kubectl("exec", name, "--", "touch", "/app/written", check=False)
