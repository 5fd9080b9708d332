"""What can be known of k8s/ without a cluster: each object is valid, and what a schema cannot see fits together."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import string
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from manifests import (
    COMPONENTS,
    EVERYTHING,
    FOLDERS,
    K8S,
    Object,
    clusters,
    containers,
    has_kubectl,
    merged,
    named,
    of_kind,
    overlay,
    pods,
    ray_jobs,
    render,
    rendered,
    title,
)

import fmnist
from fmnist.distributed.gauges import GAUGES, exported_name
from fmnist.options import parse_config
from fmnist.workflows import JOBS
from jobs import REPOSITORY

KUBERNETES = "1.33"
RAY_KINDS = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayCronJob": "raycronjobs"}
# Secrets that a person makes, by the commands of docs/kubernetes.md.
SECRETS = {"fmnist-s3", "fmnist-redis"}

pytestmark = pytest.mark.skipif(not has_kubectl(), reason="no `kubectl`, whose kustomize renders k8s/")


def crds() -> Path:
    """The folder of KubeRay's CustomResourceDefinitions."""
    folder = os.environ.get("KUBERAY_CRDS")
    if not folder:
        pytest.skip("KUBERAY_CRDS is not set, expected a copy of ray-operator/config/crd/bases of ray-project/kuberay")
    return Path(folder)


def strict(schema: Any) -> Any:
    """The schema with fields that it does not know made errors, in the dialect of JSON Schema."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: strict(value) for name, value in schema.items()}
    if result.get("x-kubernetes-int-or-string") is True:
        result = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    free = "additionalProperties" in result or result.get("x-kubernetes-preserve-unknown-fields") is True
    if isinstance(result.get("properties"), dict) and not free:
        result["additionalProperties"] = False
    return result


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """Of a kind of KubeRay's, as version v1 of its definition has it."""
    definition = yaml.load((crds() / f"ray.io_{RAY_KINDS[kind]}.yaml").read_text(), yaml.CSafeLoader)
    (version,) = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    # The API server's, not the resource's own.
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def check(one: Object) -> None:
    """Raises an error of the validator if an object is not valid."""
    if one["kind"] in RAY_KINDS:
        validator(one["kind"]).validate(one)
    elif not one["apiVersion"].startswith(("kueue.", "monitoring.coreos.")):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.fixture(scope="module", params=EVERYTHING)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    """All objects of a folder that can be applied, or of the jobs with a component."""
    return rendered(request.param)


def test_every_object_is_valid(objects: tuple[Object, ...]) -> None:
    for one in objects:
        try:
            check(one)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            raise AssertionError(f"{title(one)}: {error}") from error


def test_a_field_that_kuberay_does_not_know_is_an_error() -> None:
    cluster = copy.deepcopy(named(rendered("base"), "RayCluster", "fmnist"))
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["enableServiceLink"] = False

    with pytest.raises(jsonschema.ValidationError, match="enableServiceLink"):
        check(cluster)


def test_every_folder_of_k8s_is_looked_at() -> None:
    found = {str(path.parent.relative_to(K8S)) for path in K8S.rglob("kustomization.yaml")}

    used = {"components/s3-secret", "components/settings", "jobs/rayjobs"}
    assert found == {*FOLDERS, *(f"components/{name}" for name in COMPONENTS), *used}


def test_names_that_are_referred_to_exist(objects: tuple[Object, ...]) -> None:
    known = {kind: {one["metadata"]["name"] for one in of_kind(objects, kind)} for kind in {o["kind"] for o in objects}}
    assert "Secret" not in known
    for whose, pod in pods(objects):
        assert (
            pod["spec"]["serviceAccountName"] in known["ServiceAccount"]
            if "serviceAccountName" in pod["spec"]
            else True
        )
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        if whose == "StatefulSet s3":
            volumes |= {"data": {}}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in known["ConfigMap"], whose
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes), whose
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    assert source["configMapRef"]["name"] in known["ConfigMap"], whose
                else:
                    assert source["secretRef"]["name"] in SECRETS, whose
    for binding in of_kind(objects, "RoleBinding"):
        assert binding["roleRef"]["name"] in known["Role"]
        assert {subject["name"] for subject in binding["subjects"]} <= known["ServiceAccount"]
    assert {one["metadata"].get("namespace", "fmnist") for one in objects} == {"fmnist"}


def test_objects_fit_into_the_shared_memory_and_that_into_the_memory(objects: tuple[Object, ...]) -> None:
    found = list(clusters(objects))
    assert found
    for whose, cluster in found:
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", whose
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            objects_bytes = int(group["rayStartParams"]["object-store-memory"])
            memory = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}["shared-memory"]
            assert objects_bytes <= _bytes(memory["emptyDir"]["sizeLimit"]), whose
            limit = group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
            assert _bytes(memory["emptyDir"]["sizeLimit"]) < _bytes(limit), whose


def _bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


@pytest.mark.parametrize("folder", ["jobs/cpu", "jobs/gpu", "jobs/dev-storage"])
def test_entrypoints_and_settings_are_those_of_the_jobs(folder: str, tmp_path: Path) -> None:
    objects = rendered(folder)
    settings = named(objects, "ConfigMap", "fmnist-settings")["data"]
    files = named(objects, "ConfigMap", "fmnist-jobs")["data"]
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    found = {}
    for whose, job in ray_jobs(objects):
        (container,) = job["submitterPodTemplate"]["spec"]["containers"]
        assert {source["configMapRef"]["name"] for source in container["envFrom"]} == {"fmnist-settings"}
        assert {variable["name"] for variable in container["env"]} == {"RUN_ID"}
        # As the submitter's shell does; a name that is not there is an error.
        entrypoint = string.Template(job["entrypoint"]).substitute(
            settings, RUN_ID="stable", RAY_JOB_SUBMISSION_ID="submitted"
        )
        shell, wrapper, submission, python, script, *arguments = shlex.split(entrypoint)
        name = Path(script).stem
        assert (shell, submission, python) == ("sh", "submitted", "python"), whose
        assert (REPOSITORY / wrapper).exists() and (REPOSITORY / script).exists(), whose
        arguments = [argument.replace("/etc/fmnist/", f"{tmp_path}/") for argument in arguments]
        config = parse_config(JOBS[name].Config, f"fmnist {name}", arguments)
        assert config is not None
        assert (config.run_id, config.artifacts, config.skip_finished) == ("stable", settings["ARTIFACTS"], True)
        found[whose] = config
        cluster = job["rayClusterSpec"]
        (group,) = cluster["workerGroupSpecs"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus = int(limits.get("nvidia.com/gpu", 0))
        assert group["replicas"] == group["maxReplicas"] == int(settings["WORKERS"])
        if hasattr(config, "workers"):
            assert config.workers == group["replicas"], whose
        for unit in ("worker", "trial", "fold", "shard"):
            asked = getattr(config, f"gpus_per_{unit}", 0)
            assert asked <= gpus and (asked > 0) == (gpus > 0 and hasattr(config, f"gpus_per_{unit}")), whose
        assert job["shutdownAfterJobFinishes"] is True and job["backoffLimit"] > 0
    assert set(found) == {*(f"RayJob {name}" for name in JOBS), "RayCronJob retrain"}
    assert set(files) == {f"{name}.yaml" for name in JOBS}


@pytest.mark.parametrize(("code", "stopped"), [(0, False), (1, False), (2, True), (137, False)])
def test_exit_code_2_stops_the_ray_job_and_others_are_passed_on__with_another_ray_command(
    code: int, stopped: bool, tmp_path: Path
) -> None:
    ray, asked = tmp_path / "ray", tmp_path / "asked"
    # As if the dashboard did not answer: the job must end by itself.
    ray.write_text(f'#!/bin/sh\necho "$@" > {asked}\nexit 1\n')
    ray.chmod(0o755)
    wrapper = REPOSITORY / "jobs" / "rayjob.sh"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    ended = subprocess.run(["sh", wrapper, "train-x7", "sh", "-c", f"exit {code}"], env=environment, timeout=30)

    assert ended.returncode == code
    assert asked.exists() == stopped
    assert not stopped or asked.read_text() == "job stop --no-wait --address http://127.0.0.1:8265 train-x7\n"


def test_ray_is_the_one_that_is_installed_and_in_the_images_name() -> None:
    pinned = re.search(r'"ray\[[^\]]*\]==([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert pinned
    for folder in FOLDERS:
        for whose, cluster in clusters(rendered(folder)):
            assert cluster["rayVersion"] == pinned[1], whose
        for whose, pod in pods(rendered(folder)):
            for container in containers(pod):
                name, _, tag = container["image"].partition(":")
                if name == "fmnist" and folder != "base":
                    variant = "-gpu" if folder.endswith("/gpu") else ""
                    assert tag == f"{fmnist.__version__}-ray{pinned[1]}{variant}", whose


def test_one_value_changes_image_bucket_and_workers_everywhere(tmp_path: Path) -> None:
    mine = overlay(
        tmp_path / "mine",
        ["jobs/cpu"],
        ["components/settings"],
        images=[{"name": "fmnist", "newName": "somewhere/fmnist", "newTag": "mine"}],
        configMapGenerator=[merged("fmnist-settings", {"WORKERS": "7", "ARTIFACTS": "s3://other/place"})],
    )

    objects = render(mine)

    assert {container["image"] for _, pod in pods(objects) for container in containers(pod)} == {
        "somewhere/fmnist:mine"
    }
    for whose, cluster in clusters(objects):
        (group,) = cluster["workerGroupSpecs"]
        assert (group["replicas"], group["maxReplicas"]) == (7, 7), whose
    assert named(objects, "ConfigMap", "fmnist-settings")["data"]["ARTIFACTS"] == "s3://other/place"
    assert not re.search(r"s3://my-bucket", yaml.safe_dump_all(objects))


def without_fence(one: Object) -> Object:
    """A copy of a cluster or job without the label of its own, which tells its pods from those of others."""
    one = copy.deepcopy(one)
    cluster = one.get("rayClusterSpec", one)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for template in [group["template"] for group in groups] + [one[k] for k in ("submitterPodTemplate",) if k in one]:
        del template["metadata"]["labels"]["app.kubernetes.io/instance"]
    return one


def test_every_job_has_the_cluster_of_the_people(objects: tuple[Object, ...]) -> None:
    first, *others = [without_fence(cluster) for _, cluster in clusters(objects)]

    assert all(other == first for other in others)


def test_retraining_is_the_train_job(objects: tuple[Object, ...]) -> None:
    jobs = {whose: without_fence(job) for whose, job in ray_jobs(objects)}
    if jobs:
        assert jobs["RayCronJob retrain"] == {k: v for k, v in jobs["RayJob train"].items() if k != "suspend"}


def test_dashboard_shows_every_gauge_of_ours_and_gauges_that_ray_exports() -> None:
    config = named(rendered("components/monitoring"), "ConfigMap", "fmnist-dashboard")
    dashboard = json.loads(config["data"]["fmnist.json"])
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"]]
    shown = set(re.findall(r"\bray_\w+", " ".join(queries)))

    ours = {exported_name(gauge) for gauge in GAUGES}
    assert {name for name in shown if "fmnist" in name} == ours
    reporter = Path(ray.__file__).parent / "dashboard/modules/reporter/reporter_agent.py"
    assert shown - ours <= {f"ray_{name}" for name in re.findall(r'Gauge\(\s*"(\w+)"', reporter.read_text())}
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_all_pods_of_ray_are_scraped_where_ray_exports_metrics() -> None:
    objects = rendered("components/monitoring")
    monitor = named(objects, "PodMonitor", "fmnist")["spec"]
    policy = named(objects, "NetworkPolicy", "metrics")["spec"]

    assert monitor["selector"] == policy["podSelector"]
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == ["metrics"]
    for _, cluster in clusters(objects):
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            # Then it is 8080, and KubeRay gives the port its name.
            assert "metrics-export-port" not in group["rayStartParams"]
