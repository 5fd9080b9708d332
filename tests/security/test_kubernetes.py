"""What the manifests declare of pods and their rights. tests/cluster shows on a real cluster that it is enforced."""

from __future__ import annotations

import re

import pytest
from manifests import (
    EVERYTHING,
    Object,
    clusters,
    containers,
    has_kubectl,
    named,
    of_kind,
    overlay,
    pods,
    render,
    rendered,
)
from network_policies import End, ends, reaches, selects

pytestmark = pytest.mark.skipif(not has_kubectl(), reason="no `kubectl`, whose kustomize renders k8s/")

# Ray's and the operator's, and one that TensorFlow's server may have chosen.
PORTS = (6379, 8080, 8265, 10001, 44217)
STRANGER = End("pod without a label of ours", {"app": "stranger"}, "fmnist")
NEIGHBOUR = End("pod of another namespace, labelled like ours", {"ray.io/cluster": "fmnist"}, "elsewhere")
OPERATOR = End("operator", {"app.kubernetes.io/name": "kuberay-operator"}, "kuberay-system")
PROMETHEUS = End("Prometheus", {"app.kubernetes.io/name": "prometheus"}, "monitoring")
DNS = End("DNS server", {"k8s-app": "kube-dns"}, "kube-system")
METADATA = End("a cloud's metadata", address="169.254.169.254")
PUBLIC = End("public machine", address="198.35.26.96")
PRIVATE = End("machine beside the cluster", address="10.1.2.3")
STORE = End("address of the store in overlays/cpu", address="192.0.2.7")


@pytest.fixture(scope="module", params=EVERYTHING)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    """All objects of a folder that can be applied, or of the jobs with a component."""
    return rendered(request.param)


def pairs(objects: tuple[Object, ...]) -> list[tuple[End, End]]:
    found = ends(objects)
    assert found
    return [(source, target) for source in found for target in found if target is not source]


def test_pods_of_a_cluster_reach_each_other_and_those_of_another_nothing(objects: tuple[Object, ...]) -> None:
    for source, target in pairs(objects):
        if "ray.io/cluster" in source.labels and "ray.io/cluster" in target.labels:
            for port in PORTS:
                together = source.cluster == target.cluster
                assert reaches(objects, source, target, port) is together, f"{source.name} to {target.name}: {port}"


def test_a_submitter_reaches_the_dashboard_of_its_cluster_alone_and_nobody_reaches_it(
    objects: tuple[Object, ...],
) -> None:
    for source, target in pairs(objects):
        for port in PORTS:
            if source.name.endswith("submitter"):
                own = target.cluster == source.cluster and target.name.endswith("head") and port == 8265
                assert reaches(objects, source, target, port) is own, f"{source.name} to {target.name}: {port}"
            assert not (target.name.endswith("submitter") and reaches(objects, source, target, port)), source.name


def test_others_reach_nothing_but_the_operator_dashboards(objects: tuple[Object, ...]) -> None:
    for pod in ends(objects):
        for port in (*PORTS, 8333):
            for other in (STRANGER, NEIGHBOUR, METADATA, PUBLIC, PRIVATE):
                assert not reaches(objects, other, pod, port), f"{other.name} to {pod.name}: {port}"
            dashboard = pod.name.endswith("head") and port == 8265
            assert reaches(objects, OPERATOR, pod, port) is dashboard, f"{pod.name}: {port}"
        assert not any(reaches(objects, pod, STRANGER, port) for port in (80, 443, *PORTS)), pod.name


@pytest.mark.parametrize("folder", EVERYTHING)
def test_prometheus_reaches_the_metrics_of_ray_pods_and_no_more_and_only_where_it_is_wanted(folder: str) -> None:
    objects = rendered(folder)
    other = End("another pod of its namespace", {"app.kubernetes.io/name": "grafana"}, PROMETHEUS.namespace)
    for pod in ends(objects):
        for port in (*PORTS, 8333):
            wanted = folder == "components/monitoring" and "ray.io/cluster" in pod.labels and port == 8080
            assert reaches(objects, PROMETHEUS, pod, port) is wanted, f"{pod.name}: {port}"
            assert not reaches(objects, other, pod, port), f"{pod.name}: {port}"


# Which machines outside, at port 443, the pods of a cluster reach.
OUTSIDE = {
    "base": {STORE.name},
    "overlays/cpu": {STORE.name},
    "jobs/cpu": {STORE.name},
    "overlays/gpu": {STORE.name, PUBLIC.name},
    "jobs/gpu": {STORE.name, PUBLIC.name},
    "overlays/dev-storage": set(),
    "jobs/dev-storage": set(),
    "components/internet": {STORE.name, PUBLIC.name},
}


@pytest.mark.parametrize("folder", EVERYTHING)
def test_pods_reach_names_and_the_store_and_no_more(folder: str) -> None:
    objects = rendered(folder)
    for pod in ends(objects):
        for protocol in ("UDP", "TCP"):
            assert reaches(objects, pod, DNS, 53, protocol), pod.name
        assert not reaches(objects, pod, DNS, 443), pod.name
        ray = "ray.io/cluster" in pod.labels
        expected = OUTSIDE.get(folder, {STORE.name}) if ray else set()
        if pod.name == "Job storage-setup" or (folder == "components/autoscaling" and pod.name.endswith("head")):
            # The API server's address is not known.
            expected = {STORE.name, PUBLIC.name, PRIVATE.name}
        outside = (STORE, PUBLIC, PRIVATE, METADATA)
        assert {end.name for end in outside if reaches(objects, pod, end, 443)} == expected, pod.name
        for end in outside:
            assert not any(reaches(objects, pod, end, port) for port in (22, 80, 8333)), f"{pod.name} to {end.name}"


def test_the_server_of_dev_storage_serves_ray_pods_and_its_setup_only() -> None:
    objects = rendered("jobs/dev-storage")
    (server,) = [pod for pod in ends(objects) if pod.name == "StatefulSet s3"]
    for pod in ends(objects):
        if pod is not server:
            wanted = "ray.io/cluster" in pod.labels or pod.name == "Job storage-setup"
            assert reaches(objects, pod, server, 8333) is wanted, pod.name
            assert not any(reaches(objects, pod, server, port) for port in (8888, 9333)), pod.name


@pytest.mark.parametrize("suffix", ["-seed1", "-again"])
def test_a_job_of_another_name_has_a_fence_of_its_own(suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    renamed = render(overlay(tmp_path_factory.mktemp("renamed"), ["jobs/cpu"], nameSuffix=suffix))

    for pod in ends(renamed):
        assert pod.cluster.endswith(suffix)
        assert pod.labels["app.kubernetes.io/instance"] == pod.cluster, pod.name
    both = (*rendered("jobs/cpu"), *renamed)
    for source, target in pairs(both):
        if "ray.io/cluster" in target.labels:
            expected = source.cluster == target.cluster and "ray.io/cluster" in source.labels
            assert reaches(both, source, target, 6379) is expected, f"{source.name} to {target.name}"


def test_a_drain_waits_for_the_heads_of_jobs_only(objects: tuple[Object, ...]) -> None:
    budgets = of_kind(objects, "PodDisruptionBudget")
    assert budgets and all(budget["spec"]["minAvailable"] >= 1000 for budget in budgets)
    for pod in ends(objects):
        kept = any(selects(budget["spec"]["selector"], pod.labels) for budget in budgets)
        assert kept is (pod.name.endswith("head") and pod.cluster != "fmnist"), pod.name


def test_pods_obey_the_restricted_standard_and_more(objects: tuple[Object, ...]) -> None:
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for whose, pod in pods(objects):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0, whose
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, whose
        if "fsGroup" in spec["securityContext"]:
            assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch", whose
        assert spec["enableServiceLinks"] is False, whose
        assert not any(spec.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")), whose
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True, whose
            assert context["capabilities"] == {"drop": ["ALL"]}, whose
            assert container["imagePullPolicy"] == "IfNotPresent", whose


def test_pods_have_limits_of_memory_and_disk(objects: tuple[Object, ...]) -> None:
    resources = [(whose, each["resources"]) for whose, pod in pods(objects) for each in containers(pod)]
    resources += [(w, c["autoscalerOptions"]["resources"]) for w, c in clusters(objects) if "autoscalerOptions" in c]
    for whose, each in resources:
        assert each["requests"]["memory"] == each["limits"]["memory"], whose
        assert each["requests"]["ephemeral-storage"] and each["limits"]["ephemeral-storage"], whose


def test_rays_ports_want_a_token_and_nothing_is_reported(objects: tuple[Object, ...]) -> None:
    for whose, cluster in clusters(objects):
        assert cluster["authOptions"] == {"mode": "token"}, whose
        (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in head["env"], whose


@pytest.mark.parametrize("folder", EVERYTHING)
def test_pods_have_no_rights_in_kubernetes(folder: str) -> None:
    for whose, pod in pods(rendered(folder)):
        needs_token = whose == "Job storage-setup" or (folder == "components/autoscaling" and whose.endswith(", head"))
        assert pod["spec"].get("automountServiceAccountToken", needs_token) is needs_token, whose
    for binding in of_kind(rendered(folder), "RoleBinding"):
        assert [subject["name"] for subject in binding["subjects"]] == ["storage-setup"]
        role = named(rendered(folder), "Role", binding["roleRef"]["name"])
        assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]


def test_people_may_read_one_named_secret(objects: tuple[Object, ...]) -> None:
    for rule in named(objects, "Role", "fmnist-user")["rules"]:
        assert "*" not in rule["resources"] + rule["verbs"]
        if "secrets" in rule["resources"]:
            assert (rule["resources"], rule["verbs"]) == (["secrets"], ["get"])
            assert rule["resourceNames"] == ["fmnist"]


def test_manifests_contain_no_secret(objects: tuple[Object, ...]) -> None:
    assert not of_kind(objects, "Secret")
    for whose, pod in pods(objects):
        for container in containers(pod):
            for variable in container.get("env", []):
                assert "value" not in variable or not re.search("KEY|TOKEN|SECRET|PASSWORD", variable["name"]), whose
