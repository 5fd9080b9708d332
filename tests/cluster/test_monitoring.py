"""Prometheus reads a training's gauges through the component `monitoring`, and nobody else does.

E2E_PROMETHEUS names Prometheus' image, as the cluster's nodes know it. It is told the pods that the PodMonitor chooses,
as the Prometheus operator would do. The PodMonitor is compared with its definition where the cluster has one.
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
    STRANGER,
    Jobs,
    get,
    job_status,
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
    own.start("train")
    wait_until("training", lambda: job_status("scraped")[0] == "RUNNING")
    kubectl("--namespace", THERE, "apply", "-f", "-", text=yaml.safe_dump_all(prometheus(monitor)))
    yield "scraped"
    kubectl("delete", "rayjob/scraped", "pod/metrics-reader", "--ignore-not-found", "--wait=false")
    kubectl("delete", "namespace", THERE, "--wait=false")


def prometheus(monitor: Object) -> list[Object]:
    """A Prometheus that asks the pods of a PodMonitor, those that there are now."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (rule,) = monitor["spec"]["selector"]["matchExpressions"]
    assert rule["operator"] == "Exists"
    targets = [
        {"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": {"pod": pod["metadata"]["name"]}}
        for pod in get("pods", "", "-l", rule["key"])
        for port in pod["spec"]["containers"][0]["ports"]
        if port.get("name") == endpoint["port"]
    ]
    scrape = {"job_name": "fmnist", "scrape_interval": endpoint["interval"], "static_configs": targets}
    config = {"prometheus.yml": yaml.safe_dump({"scrape_configs": [scrape]})}
    container = {
        "name": "prometheus",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config.file=/etc/own/prometheus.yml", "--storage.tsdb.path=/prometheus"],
        "volumeMounts": [{"name": "own", "mountPath": "/etc/own"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "own", "configMap": {"name": "prometheus"}}]}
    labelled = {"name": "prometheus", "labels": {"app.kubernetes.io/name": "prometheus"}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": THERE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"}, "data": config},
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
    assert len(pods) == 3 and found == set(pods)
    assert kubectl("logs", "metrics-reader").splitlines() == [f"{target} not reached" for target in targets]
    wait_for_job(scraped, timeout=400)
