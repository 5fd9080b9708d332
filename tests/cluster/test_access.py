"""Who reaches what: closed by default, open to those who hold the token."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from kubernetes_cluster import IMAGE, NAMESPACE, Jobs, forwarded, get, kubectl, secret
from ray_head import RAY

from jobs import REPOSITORY

# Says of each address among its arguments whether something answers there.
STRANGER = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=4)
        print(address, "reached")
    except OSError:
        print(address, "not reached")
"""
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


def test_a_pod_without_a_label_of_ours_reaches_neither_ray_nor_the_store(jobs: Jobs) -> None:
    (head,) = get("pods", "", "-l", "ray.io/node-type=head,ray.io/cluster=fmnist")
    targets = [(head["status"]["podIP"], port) for port in (6379, 8265, 10001)]
    targets.append((get("pod", "s3-0")["status"]["podIP"], 8333))
    image = IMAGE or head["spec"]["containers"][0]["image"]
    overrides = {
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "stranger",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", STRANGER, *(f"{host}:{port}" for host, port in targets)],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        }
    }
    kubectl("run", "stranger", "--restart=Never", f"--image={image}", f"--overrides={json.dumps(overrides)}")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/stranger", "--timeout=90s")
    output = kubectl("logs", "stranger")
    # The same from a pod of the cluster: what is refused above is there, and not merely down.
    inside = kubectl("exec", head["metadata"]["name"], "--", "python", "-c", STRANGER, f"{targets[-1][0]}:8333")

    assert output.splitlines() == [f"{host}:{port} not reached" for host, port in targets]
    assert "8333 reached" in inside


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


def test_no_pod_was_refused_or_runs_as_root(jobs: Jobs) -> None:
    pods = get("pods")
    events = [event for event in get("events") if "violates PodSecurity" in event.get("message", "")]

    assert pods and not events
    for pod in pods:
        if pod["status"]["phase"] == "Running" and "ray.io/cluster" in pod["metadata"]["labels"]:
            name = pod["metadata"]["name"]
            assert kubectl("exec", name, "--", "id", "-u").strip() == "1000"
            assert "Read-only" in kubectl("exec", name, "--", "touch", "/app/written", check=False)
