"""Rendering k8s/ with kustomize, and what there is in an object of Kubernetes to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from jobs import REPOSITORY

K8S = REPOSITORY / "k8s"
Object = dict[str, Any]

# The settings that an overlay of a person's own gives, in the words of docs/kubernetes.md.
FOLDERS = ("base", "overlays/cpu", "overlays/gpu", "overlays/dev-storage", "jobs/cpu", "jobs/gpu", "jobs/dev-storage")
COMPONENTS = (
    "autoscaling",
    "elastic",
    "gcs-fault-tolerance",
    "gpu",
    "internet",
    "kueue",
    "monitoring",
    "spot",
    "workload-identity",
)
# Those that change jobs, not clusters.
OF_JOBS = ("elastic", "kueue")
# All that `rendered` takes.
EVERYTHING = (*FOLDERS, *(f"components/{name}" for name in COMPONENTS))
KUSTOMIZATION = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "fmnist"}


def has_kubectl() -> bool:
    return shutil.which("kubectl") is not None


@cache
def rendered(folder: str) -> tuple[Object, ...]:
    """The objects of a folder of k8s/, by its name below it; of a component, the jobs with it."""
    kind, _, name = folder.partition("/")
    if kind == "components":
        with tempfile.TemporaryDirectory() as temporary:
            return with_component(name, Path(temporary))
    return render(K8S / folder)


def with_component(name: str, folder: Path) -> tuple[Object, ...]:
    """The jobs of overlays/cpu with one component more, at the place that its own text names."""
    if name in OF_JOBS:
        return render(overlay(folder / "jobs", ["jobs/cpu"], [f"components/{name}"]))
    overlay(folder / "cluster", ["overlays/cpu"], [f"components/{name}"])
    jobs = overlay(folder / "jobs", [], ["jobs/rayjobs"])
    content = yaml.safe_load((jobs / "kustomization.yaml").read_text()) | {"resources": ["../cluster"]}
    (jobs / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return render(jobs)


def render(folder: Path) -> tuple[Object, ...]:
    ended = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return tuple(one for one in yaml.load_all(ended.stdout, yaml.CSafeLoader) if one)


def overlay(folder: Path, resources: list[str], components: list[str] = [], **more: Any) -> Path:  # noqa: B006
    """Writes a kustomization of a person's own, upon folders of k8s/ that are given by their names below it.

    Args:
        folder: is created.
        resources, components: folders of k8s/.
        more: further fields of the kustomization.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def relative(names: list[str]) -> list[str]:
        # Kustomize accepts no absolute ones. Both ends resolved: a temporary folder may lie behind a link.
        return [os.path.relpath((K8S / name).resolve(), folder.resolve()) for name in names]

    content = KUSTOMIZATION | {
        "resources": relative(resources),
        "components": relative(components),
        "generatorOptions": {"disableNameSuffixHash": True},
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def merged(name: str, literals: dict[str, str]) -> Object:
    """An entry of configMapGenerator that changes values of a ConfigMap."""
    return {"name": name, "behavior": "merge", "literals": [f"{key}={value}" for key, value in literals.items()]}


def of_kind(objects: tuple[Object, ...], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def named(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def clusters(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Every RayCluster specification, with the kind and name of whose it is."""
    for one in objects:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", spec) if one["kind"] == "RayCronJob" else spec
        if one["kind"] == "RayCluster":
            yield title(one), spec
        elif "rayClusterSpec" in spec:
            yield title(one), spec["rayClusterSpec"]


def ray_jobs(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """The specification of every RayJob, also of the one in a RayCronJob, with the kind and name of whose it is."""
    for one in objects:
        if one["kind"] == "RayJob":
            yield title(one), one["spec"]
        elif one["kind"] == "RayCronJob":
            yield title(one), one["spec"]["jobTemplate"]


def pods(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """The template of every pod, with a text that says whose it is."""
    for owner, cluster in clusters(objects):
        yield f"{owner}, head", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{owner}, {group['groupName']}", group["template"]
    for owner, job in ray_jobs(objects):
        yield f"{owner}, submitter", job["submitterPodTemplate"]
    for one in objects:
        if one["kind"] in ("StatefulSet", "Job"):
            yield title(one), one["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def title(one: Object) -> str:
    return f"{one['kind']} {one['metadata']['name']}"
