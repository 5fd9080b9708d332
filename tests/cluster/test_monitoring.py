"""Prometheus reads a training's gauges, and nobody else does. Needs the Prometheus operator in the cluster."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from kubernetes_cluster import (
    NAMESPACE,
    STRANGER,
    Jobs,
    get,
    kubectl,
    own_jobs,
    renamed,
    run_pod,
    wait_for_job,
    wait_until,
)

# The image of Prometheus, as a cluster's nodes know it, and its version.
IMAGE = os.environ.get("E2E_PROMETHEUS", "quay.io/prometheus/prometheus:v3.5.0")
TRAIN = {"limit": 4000, "epochs": 20, "batch_size": 16, "patience": 0}


@pytest.fixture
def prometheus() -> Iterator[None]:
    """A Prometheus of the operator's, in the namespace that the component `monitoring` names."""
    if "prometheuses" not in kubectl("api-resources", "--api-group=monitoring.coreos.com", "-o", "name"):
        pytest.skip("no Prometheus operator")
    account = {"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}
    rights = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "prometheus"}
    here = {"name": "prometheus", "namespace": NAMESPACE}
    spec = {
        "image": IMAGE,
        "version": IMAGE.rpartition(":")[2],
        "serviceAccountName": "prometheus",
        "podMonitorSelector": {},
        "podMonitorNamespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "resources": {"requests": {"cpu": "50m", "memory": "200Mi"}},
    }
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": here, "rules": [rights]},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": here,
            "roleRef": role,
            "subjects": [account],
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "e2e", "namespace": "monitoring"},
            "spec": spec,
        },
    ]
    applied = subprocess.run(["kubectl", "apply", "-f", "-"], input=yaml.safe_dump_all(objects), text=True, timeout=180)
    assert applied.returncode == 0
    yield
    subprocess.run(["kubectl", "delete", "namespace", "monitoring", "--wait=false"], timeout=180)


def answers(query: str) -> list[dict[str, Any]]:
    """What Prometheus answers, through the API server: labels and a value each; nothing while it starts."""
    path = f"/api/v1/namespaces/monitoring/pods/prometheus-e2e-0:9090/proxy/api/v1/query?query={quote(query)}"
    answer = kubectl("get", "--raw", path, check=False)
    return json.loads(answer)["data"]["result"] if answer.startswith('{"status":"success"') else []


@pytest.mark.timeout(900)
def test_prometheus_gets_the_gauges_of_a_training_and_a_stranger_nothing(
    jobs: Jobs, prometheus: None, tmp_path: Path
) -> None:
    kubectl("delete", "raycluster", "fmnist", "--ignore-not-found")
    patches = [renamed("train", "scraped")]
    own_jobs(tmp_path, ("monitoring",), settings={"train": TRAIN}, patches=patches).start("train")

    (gauge,) = wait_until("gauge", lambda: answers('ray_fmnist_val_accuracy{run_id="scraped"}'), timeout=600)
    pods = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in get("pods", "", "-l", "ray.io/cluster")}
    scraped = {one["metric"]["pod"] for one in answers("up == 1")}
    targets = [f"{address}:8080" for address in pods.values()]
    run_pod("metrics-reader", STRANGER, *targets)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/metrics-reader", "--timeout=120s")

    assert 0 < float(gauge["value"][1]) < 1 and gauge["metric"]["fmnist_job"] == "train", gauge
    assert gauge["metric"]["ray_io_cluster"] == get("rayjob", "scraped")["status"]["rayClusterName"]
    assert len(pods) == 3 and scraped == set(pods)
    assert kubectl("logs", "metrics-reader").splitlines() == [f"{target} not reached" for target in targets]
    wait_for_job("scraped", timeout=400)
    kubectl("delete", "rayjob/scraped", "pod/metrics-reader", "--wait=false")
