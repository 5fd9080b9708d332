"""A namespace of a real Kubernetes cluster with k8s/ applied to it: what the tests of tests/cluster do with kubectl."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from manifests import OF_JOBS, Object, overlay, render

from jobs import command

NAMESPACE = "fmnist-e2e"
# The image to test, as a cluster's nodes know it; that of the manifests if not given.
IMAGE = os.environ.get("E2E_IMAGE")
# How many times as long as usual to wait, on a machine that does other work too.
PATIENCE = float(os.environ.get("E2E_PATIENCE", "1"))
EPOCH = re.compile(r"^epoch +(\d+)/\d+ .*$", re.MULTILINE)

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

# Small settings: a job takes about a minute, most of it the start of pods and the import of TensorFlow.
SMALL = {
    "train": {"limit": 2000, "epochs": 3, "batch_size": 32},
    "tune": {"limit": 500, "space": "notebook", "max_epochs": 2, "factor": 2, "retrain_epochs": 1},
    "crossval": {"limit": 600, "folds": 3, "epochs": 2},
    "transfer": {
        "limit": 300,
        "epochs": 2,
        "backbone": "vgg16",
        "weights": "none",
        "image_size": 32,
        "feature_layer": "block2_pool",
        "images_per_shard": 100,
    },
    "pipeline": {"profile": "smoke", "stages": "train"},
}


def kubectl(*arguments: str, check: bool = True, text: str | None = None, timeout: float = 180) -> str:
    """Runs kubectl in the tests' namespace and returns its output; fails with its error unless told otherwise."""
    command = ["kubectl", "--namespace", NAMESPACE, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, input=text, timeout=timeout)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0 or not check, f"{' '.join(command)}: {output}"
    return output if not check else ended.stdout


def get(kind: str, name: str = "", *options: str) -> Any:
    """The object of a name, or those of a kind, as JSON has them."""
    found = json.loads(kubectl("get", kind, *([name] if name else []), *options, "-o", "json"))
    return found if name else found["items"]


def wait_until(what: str, ready: Callable[[], Any], timeout: float = 240, pause: float = 1) -> Any:
    """Returns what ``ready`` returns as soon as it is true; fails with the state of the namespace if it never is."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not (found := ready()):
        assert time.monotonic() < deadline, f"no {what} within {timeout:g} s\n{state()}"
        time.sleep(pause)
    return found


def state() -> str:
    """What a person would look at first when something does not go on."""
    events = kubectl("get", "events", "--sort-by=.lastTimestamp", check=False).splitlines()[-25:]
    logs = kubectl("logs", "-l", "app.kubernetes.io/component=submitter", "--tail=15", check=False)
    return "\n".join([kubectl("get", "rayjobs,rayclusters,pods", check=False), *events, logs])


@dataclass(frozen=True)
class Jobs:
    """A kustomization of the tests' own, with the small settings, to apply jobs of."""

    folder: Path

    def apply(self, *arguments: str) -> None:
        """Applies the objects that a selector chooses. A warning of the API server is a failure."""
        output = subprocess.run(
            ["kubectl", "apply", "-k", str(self.folder), *arguments], capture_output=True, text=True, timeout=180
        )
        assert output.returncode == 0 and "Warning" not in output.stderr, output.stderr

    def start(self, job: str) -> None:
        """Applies the settings of the jobs, which other tests may have changed, policies of components, and a job."""
        common = [one for one in render(self.folder) if "job" not in one["metadata"].get("labels", {})]
        wanted = [one for one in common if one["kind"] == "NetworkPolicy" or one["metadata"]["name"] == "fmnist-jobs"]
        kubectl("apply", "-f", "-", text=yaml.safe_dump_all(wanted))
        self.apply("-l", f"job={job}")


def own_jobs(
    folder: Path,
    components: tuple[str, ...] = (),
    settings: dict[str, dict[str, Any]] | None = None,
    patches: list[Object] | None = None,
) -> Jobs:
    """Writes an overlay as docs/kubernetes.md describes one: upon dev-storage, with settings of its own.

    Args:
        folder: is created.
        components: of k8s/.
        settings: by job, instead of the small ones.
        patches: of the jobs, as kustomize has them.
    """
    files = {**SMALL, **(settings or {})}
    literals = [f"{job}.yaml={yaml.safe_dump(each, default_flow_style=True)}" for job, each in files.items()]
    overlay(
        folder / "cluster",
        ["overlays/dev-storage"],
        [f"components/{name}" for name in components if name not in OF_JOBS],
        namespace=NAMESPACE,
        configMapGenerator=[{"name": "fmnist-jobs", "behavior": "merge", "literals": literals}],
        **(
            {"images": [dict(zip(("name", "newName", "newTag"), ("fmnist", *IMAGE.rsplit(":", 1)), strict=True))]}
            if IMAGE
            else {}
        ),
    )
    of_jobs = [f"components/{name}" for name in components if name in OF_JOBS]
    jobs = overlay(folder / "jobs", [], ["jobs/rayjobs", *of_jobs], namespace=NAMESPACE, patches=patches or [])
    content = yaml.safe_load((jobs / "kustomization.yaml").read_text()) | {"resources": ["../cluster"]}
    (jobs / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return Jobs(jobs)


def renamed(job: str, name: str, *operations: Object) -> list[Object]:
    """Patches of ``own_jobs`` that give a RayJob and its fence another name, and change more of the RayJob.

    Args:
        operations: as JSON patches have them.
    """
    rename = {"op": "replace", "path": "/metadata/name", "value": name}
    changes = {"RayJob": [rename, *operations], "NetworkPolicy": [rename]}
    return [{"target": {"kind": kind, "name": job}, "patch": json.dumps(each)} for kind, each in changes.items()]


def job_status(name: str) -> tuple[str, str]:
    """What the RayJob says of the job and of its deployment; empty texts in the beginning."""
    status = get("rayjob", name).get("status", {})
    return status.get("jobStatus", ""), status.get("jobDeploymentStatus", "")


def wait_for_job(name: str, timeout: float = 300) -> None:
    """Returns when the RayJob has succeeded; fails as soon as it has not."""

    def ended() -> bool:
        job, deployment = job_status(name)
        assert deployment != "Failed" and job != "STOPPED", f"{name} failed\n{state()}"
        return job == "SUCCEEDED" and deployment == "Complete"

    wait_until(f"end of {name}", ended, timeout)


def run_pod(name: str, program: str, *arguments: str) -> None:
    """Starts a pod without a label of ours that runs a Python program of our image."""
    head, *_ = get("pods", "", "-l", "ray.io/node-type=head")
    image = head["spec"]["containers"][0]["image"]
    overrides = {
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", program, *arguments],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        }
    }
    kubectl("run", name, "--restart=Never", f"--image={image}", f"--overrides={json.dumps(overrides)}")


@contextmanager
def forwarded(target: str, port: int) -> Iterator[int]:
    """Forwards a port of a pod or service to this machine for the block, and yields the port here."""
    forward = subprocess.Popen(
        ["kubectl", "--namespace", NAMESPACE, "port-forward", target, f":{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert forward.stdout
        line = forward.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line
        # Read on: a pipe that is full would stop it.
        threading.Thread(target=forward.stdout.read, daemon=True).start()
        yield int(found[1])
    finally:
        forward.kill()
        forward.wait(10)


def secret(name: str) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in get("secret", name)["data"].items()}


@contextmanager
def artifacts() -> Iterator[dict[str, str]]:
    """Reaches the S3 server from here, as a person does who fetches artifacts; yields the environment for it."""
    with forwarded("service/s3", 8333) as port:
        yield {**secret("fmnist-s3"), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}


def pull(run: str, folder: Path) -> None:
    """Fetches a run's folder into another, and sees whether every file and the recorded accuracy have arrived."""
    with artifacts() as environment:
        store = ("--artifacts", "s3://fmnist/runs")
        pulled = command("runs", "pull", run, *store, "--to", str(folder), environment=environment)
    assert pulled.returncode == 0, pulled.stderr
    verified = command("runs", "verify", run, "--artifacts", str(folder))
    assert verified.returncode == 0 and "files intact" in verified.stdout, verified.stdout
    if recorded := json.loads((folder / run / "metrics.json").read_text()).get("test"):
        evaluated = command("evaluate", "--run", run, "--artifacts", str(folder), "--json")
        assert evaluated.returncode == 0, evaluated.stderr
        assert abs(json.loads(evaluated.stdout)["accuracy"] - recorded["accuracy"]) < 1e-6, evaluated.stdout


@dataclass
class EpochWatch:
    """Reads a job's output from its submitters while the block runs, also from those that are lost later.

    Attributes:
        lines: the lines of each epoch. A submitter that begins to read again repeats them word for word; an epoch that
            was computed again took another time.
    """

    job: str
    lines: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def __enter__(self) -> EpochWatch:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self.look()

    def look(self) -> None:
        output = kubectl("logs", "-l", f"job-name={self.job}", "--tail=-1", check=False)
        for match in EPOCH.finditer(output):
            self.lines[int(match[1])].add(match[0])

    @property
    def last(self) -> int:
        return max(self.lines, default=0)

    @property
    def computed_again(self) -> int:
        """How many epochs were computed more often than once, each as often as that."""
        return sum(len(lines) - 1 for lines in self.lines.values())
