"""Joining a Ray cluster: a wrong address or token is one line at once, and a local Ray leaves no token."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from ports import free_ports
from ray_head import Head

from fmnist.distributed.access import check_address, own_token
from fmnist.errors import UserError
from jobs import REPOSITORY, command

TOKEN = os.environ["RAY_AUTH_TOKEN"]
CHECK = "import os; from fmnist.distributed.access import check_address; check_address(os.environ['RAY_ADDRESS'])"
LOCAL_CLUSTER = """
import os
from pathlib import Path
import ray
from fmnist.distributed.cluster import connected

def files_with(text):
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    return [str(file) for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]

with connected():
    token = ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN"]).remote())
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert not files_with(token), files_with(token)
assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
"""


def python(program: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own, for which nothing is said about Ray but by the variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=240,
        env={**environment, "HOME": str(home), **variables},
    )


def test_every_local_ray_has_a_token_of_its_own() -> None:
    tokens = {TOKEN}
    for _ in range(2):
        with own_token():
            tokens.add(os.environ["RAY_AUTH_TOKEN"])

    assert len(tokens) == 3
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("token", TOKEN)


def test_local_ray_leaves_no_token(tmp_path: Path) -> None:
    ended = python(LOCAL_CLUSTER, tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / ".ray").exists()


def test_token_of_the_cluster_lets_a_job_in(ray_cluster: str) -> None:
    check_address(ray_cluster)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "the cluster wants a token, expected RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": TOKEN}, "the cluster wants a token, expected RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token"}, "no token found, expected RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}, "the cluster wants another token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"}, "file cannot be opened or is empty: /nowhere"),
    ],
    ids=["nothing", "no mode", "no token", "another token", "no file"],
)
def test_missing_or_wrong_token_is_said(
    ray_head: Head, tmp_path: Path, variables: dict[str, str], expected: str
) -> None:
    ended = python(CHECK, tmp_path, RAY_ADDRESS=ray_head.address, **variables)

    *_, last = ended.stderr.splitlines()
    assert last.startswith(f"fmnist.errors.UserError: RAY_ADDRESS={ray_head.address}: ") and expected in last, (
        ended.stderr
    )


def test_job_that_may_not_join_ends_with_a_line_and_leaves_nothing(
    ray_head: Head, small_data: Path, tmp_path: Path
) -> None:
    settings = ["--data", str(small_data), "--artifacts", str(tmp_path), "--run-id", "outside"]

    ended = command("train", *settings, environment={"RAY_ADDRESS": ray_head.address, "RAY_AUTH_MODE": "disabled"})

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"fmnist: RAY_ADDRESS={ray_head.address}: the cluster wants a token"), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["http://host:8265", "ray://host:10001", "host", "host:80", "host:port"])
def test_address_that_is_not_a_heads_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"RAY_ADDRESS: found '.*', expected the head's HOST:PORT"):
        check_address(address)


def test_cluster_that_is_gone_is_said() -> None:
    with pytest.raises(UserError, match=r"no Ray cluster answers there \(Connection refused"):
        check_address(f"127.0.0.1:{free_ports(1)[0]}")


def test_server_that_is_not_ray_is_said() -> None:
    with http.server.HTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match=r"no Ray cluster answers there \(.*HTTP"):
            check_address(f"127.0.0.1:{server.server_port}")
        server.shutdown()
