"""What the S3 client takes from the environment and from AWS' files, without a server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError
from clock import Clock

from fmnist import waiting
from fmnist.errors import StoreError
from fmnist.storage import s3


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    s3.client.cache_clear()
    yield
    s3.client.cache_clear()


@pytest.mark.parametrize(
    ("environment", "file", "region"),
    [
        ({}, "", "us-east-1"),
        ({}, "[default]\nregion = eu-central-1\n", "eu-central-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "[default]\nregion = eu-central-1\n", "eu-west-1"),
        ({"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-1"}, "", "eu-west-2"),
        ({"AWS_PROFILE": "lab"}, "[default]\nregion = a-1\n[profile lab]\nregion = lab-1\n", "lab-1"),
    ],
)
def test_region_is_the_environments_or_that_of_aws_files(
    environment: dict[str, str], file: str, region: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert s3.client().meta.region_name == region


@pytest.mark.parametrize("wanted", ["when_required", "when_supported"])
def test_checksums_are_sent_as_the_environment_says(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", wanted)

    assert s3.client().meta.config.request_checksum_calculation == wanted  # type: ignore[attr-defined]


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8333", "http://user:marker@", "http://[::1", "ftp://user:marker@host"])
def test_endpoint_that_is_no_address_is_one_line_without_its_password(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StoreError) as caught:
        s3.client()

    assert str(caught.value) == "AWS_ENDPOINT_URL: not an address, expected http://host:port or https://host:port"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("environment", "file", "text"),
    [
        ({"AWS_PROFILE": "nobody"}, "", "settings of AWS: The config profile (nobody) could not be found"),
        ({}, "no section", "settings of AWS: Unable to parse config file"),
        ({"AWS_REGION": "not a region"}, "", "settings of AWS: "),
    ],
)
def test_wrong_settings_of_aws_are_one_line(
    environment: dict[str, str], file: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StoreError, match=text.replace("(", r"\(").replace(")", r"\)")):
        s3.client()


def test_server_that_does_not_answer_is_told_after_ten_seconds_and_then_each_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(s3, "_LONGEST_WAIT", 0.001)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with silent_server(clock) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
            s3.client(attempts=9).head_bucket(Bucket="runs")

    assert capsys.readouterr().err.splitlines() == [
        f"fmnist: still waiting after {time}: the S3 server at 127.0.0.1:{port} to answer"
        for time in ("10 s", "1 min 10 s")
    ]


@contextmanager
def silent_server(clock: Clock) -> Iterator[int]:
    """A server that hangs up after ten seconds of the clock, without an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    clock.now += 10
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
