"""Prometheus reads a training's gauges through the component `monitoring`, and nobody else does.

E2E_PROMETHEUS names Prometheus' image, as the cluster's nodes know it. It finds the pods as the Prometheus operator
would tell it by the PodMonitor, which is only compared with its definition where the cluster has one.
"""

from __future__ import annotations

import json
import os
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
from manifests import Object, named, render

IMAGE = os.environ.get("E2E_PROMETHEUS", "quay.io/prometheus/prometheus:v3.5.0")
# The namespace that the component names.
THERE = "monitoring"
TRAIN = {"limit": 4000, "epochs": 20, "batch_size": 16, "patience": 0}


@pytest.fixture
def scraped(jobs: Jobs, tmp_path: Path) -> Iterator[str]:
    """A RayJob that trains on a cluster with the component, and a Prometheus."""
    kubectl("delete", "raycluster", "fmnist", "--ignore-not-found")
    own = own_jobs(tmp_path, ("monitoring",), settings={"train": TRAIN}, patches=renamed("train", "scraped"))
    monitor = named(render(own.folder), "PodMonitor", "fmnist")
    if "podmonitors" in kubectl("api-resources", "--api-group=monitoring.coreos.com", "-o", "name"):
        kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", text=yaml.safe_dump(monitor))
    for where in (THERE, NAMESPACE):
        objects = [one for one in prometheus(monitor) if one["metadata"].get("namespace", where) == where]
        kubectl("--namespace", where, "apply", "-f", "-", text=yaml.safe_dump_all(objects))
    own.start("train")
    yield "scraped"
    kubectl("delete", "rayjob/scraped", "pod/metrics-reader", "--ignore-not-found", "--wait=false")
    kubectl("delete", "namespace", THERE, "--wait=false")


def prometheus(monitor: Object) -> list[Object]:
    """A Prometheus that looks for pods as a PodMonitor says, and its right to look."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (rule,) = monitor["spec"]["selector"]["matchExpressions"]
    assert rule["operator"] == "Exists"

    def source(name: str) -> str:
        return f"__meta_kubernetes_pod_{name}"

    def label(name: str) -> str:
        return name.translate(str.maketrans("./-", "___"))

    scrape = {
        "job_name": "fmnist",
        "scrape_interval": endpoint["interval"],
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [NAMESPACE]}}],
        "relabel_configs": [
            {
                "source_labels": [source(f"labelpresent_{label(rule['key'])}"), source("container_port_name")],
                "regex": f"true;{endpoint['port']}",
                "action": "keep",
            },
            {"source_labels": [source("name")], "target_label": "pod"},
            *(
                {"source_labels": [source(f"label_{label(name)}")], "target_label": label(name)}
                for name in monitor["spec"]["podTargetLabels"]
            ),
        ],
    }
    account = {"kind": "ServiceAccount", "name": "prometheus", "namespace": THERE}
    here = {"name": "prometheus", "namespace": NAMESPACE}
    there = {"name": "prometheus", "namespace": THERE}
    rbac = "rbac.authorization.k8s.io"
    pod = {
        "serviceAccountName": "prometheus",
        "containers": [
            {
                "name": "prometheus",
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "args": ["--config.file=/etc/own/prometheus.yml", "--storage.tsdb.path=/prometheus"],
                "volumeMounts": [{"name": "own", "mountPath": "/etc/own"}],
            }
        ],
        "volumes": [{"name": "own", "configMap": {"name": "prometheus"}}],
    }
    rights = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    role = {"apiGroup": rbac, "kind": "Role", "name": "prometheus"}
    config = {"prometheus.yml": yaml.safe_dump({"scrape_configs": [scrape]})}
    labelled = there | {"labels": {"app.kubernetes.io/name": "prometheus"}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": THERE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": there},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": there, "data": config},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": here, "rules": [rights]},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": here, "roleRef": role, "subjects": [account]},
        {"apiVersion": "v1", "kind": "Pod", "metadata": labelled, "spec": pod},
    ]


def answers(query: str) -> list[dict[str, Any]]:
    """What Prometheus answers, through the API server: labels and a value each; nothing while it starts."""
    path = f"/api/v1/namespaces/{THERE}/pods/prometheus:9090/proxy/api/v1/query?query={quote(query)}"
    answer = kubectl("get", "--raw", path, check=False)
    return json.loads(answer)["data"]["result"] if answer.startswith('{"status":"success"') else []


@pytest.mark.timeout(900)
def test_prometheus_gets_the_gauges_of_a_training_and_a_stranger_nothing(scraped: str) -> None:
    (gauge,) = wait_until("gauge", lambda: answers(f'ray_fmnist_val_accuracy{{run_id="{scraped}"}}'), timeout=600)
    pods = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in get("pods", "", "-l", "ray.io/cluster")}
    found = {one["metric"]["pod"] for one in answers("up == 1")}
    targets = [f"{address}:8080" for address in pods.values()]
    run_pod("metrics-reader", STRANGER, *targets)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/metrics-reader", "--timeout=120s")

    assert 0 < float(gauge["value"][1]) < 1 and gauge["metric"]["fmnist_job"] == "train", gauge
    assert gauge["metric"]["ray_io_cluster"] == get("rayjob", scraped)["status"]["rayClusterName"]
    assert len(pods) == 3 and found == set(pods)
    assert kubectl("logs", "metrics-reader").splitlines() == [f"{target} not reached" for target in targets]
    wait_for_job(scraped, timeout=400)
