"""The cluster that KUBECONFIG names, with an empty namespace that k8s/overlays/dev-storage was applied to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes_cluster import NAMESPACE, Jobs, get, kubectl, own_jobs, wait_until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kubernetes)
            if not os.environ.get("KUBECONFIG"):
                item.add_marker(pytest.mark.skip(reason="no KUBECONFIG: it names a cluster with the KubeRay operator"))


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """The jobs with small settings, in a namespace whose S3 server is ready. E2E_KEEP=1 leaves the namespace there."""
    jobs = own_jobs(tmp_path_factory.mktemp("jobs"))
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=300)
    jobs.apply("-l", "!job")
    kubectl("rollout", "status", "statefulset/s3", "--timeout=180s", timeout=200)
    kubectl("wait", "--for=condition=Complete", "job/storage-setup", "--timeout=180s", timeout=200)
    wait_until("cluster for people", lambda: get("raycluster", "fmnist").get("status", {}).get("state") == "ready")
    yield jobs
    if not os.environ.get("E2E_KEEP"):
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
