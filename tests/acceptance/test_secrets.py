"""No job and no command tells a secret, wherever one was given."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_head import running_head
from s3_server import ACCESS_KEY, SECRET_KEY, S3Server

from jobs import LEAST, REPOSITORY, command

# What is given beside the keys of the store: proxies that nobody is behind, and a server of MLflow that is away.
SECRETS = {
    "http_proxy": "http://user:marker-proxy@127.0.0.1:9",
    "https_proxy": "http://user:marker-proxy@127.0.0.1:9",
    "HF_TOKEN": "marker-hub",
    "MLFLOW_TRACKING_URI": "http://user:marker-address@127.0.0.1:9",
    "MLFLOW_TRACKING_USERNAME": "marker-user",
    "MLFLOW_TRACKING_PASSWORD": "marker-password",
    "MLFLOW_TRACKING_TOKEN": "marker-token",
}
MLFLOW = bool(importlib.util.find_spec("mlflow"))
TEXTS = [text.encode() for text in ("marker-", ACCESS_KEY, SECRET_KEY, os.environ["RAY_AUTH_TOKEN"])]
# On finished runs, each of which has the name of its job.
COMMANDS = (
    "evaluate --run train",
    f"predict --run tune {REPOSITORY / 'docs/report.png'}",
    "export --run transfer --to savedmodel --output {folder}/exported",
    "runs list",
    *(f"runs show {job}" for job in LEAST),
    *(f"runs logs {job}" for job in LEAST),
    "runs compare train tune --all",
    "runs reproduce train --data {data}",
    "runs pull pipeline --to {folder}",
    "runs verify crossval",
    "audit train",
)
# What fails, since nobody answers or by its argument.
FAILING = {
    "runs track train --to mlflow": 1 if MLFLOW else 2,
    "weights fetch --backbone vgg16 --to {folder}": 2,
    "data info --data s3://marker:marker-address@bucket/data": 2,
    "runs show absent": 2,
}


def tells(content: bytes) -> bool:
    return any(text in content for text in TEXTS)


def telling_files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and tells(path.read_bytes()):
            yield str(path.relative_to(folder))


@pytest.mark.slow
def test_no_secret_is_told_by_any_job_or_command_nor_in_the_store_nor_in_rays_files(
    s3_server: S3Server, s3_bucket: str, tiny_data: Path, tmp_path: Path
) -> None:
    credentials = tmp_path / "home/.aws/credentials"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("[default]\naws_access_key_id = marker-file\naws_secret_access_key = marker-file\n")
    secrets = {**s3_server.environment(), **SECRETS, "HOME": str(tmp_path / "home")}
    folder, store = tmp_path / "folder", ["--artifacts", f"s3://{s3_bucket}/runs"]
    tracker = "mlflow" if MLFLOW else "tensorboard"
    said: dict[str, str] = {}

    def run(line: str, code: int, *more: str, **environment: str) -> None:
        words = line.format(folder=folder, data=tiny_data).split()
        ended = command(*words, *more, environment={**secrets, **environment})
        said[line] = ended.stdout + ended.stderr
        assert ended.returncode == code and "Traceback" not in said[line], said[line]

    with running_head(secrets) as head:
        joined = {"RAY_ADDRESS": head.address}
        # An address with a password, for one of the jobs: around proxies, since NO_PROXY has no such address.
        password = {"AWS_ENDPOINT_URL": s3_server.endpoint.replace("//", "//user:marker-endpoint@"), "http_proxy": ""}
        for job, settings in LEAST.items():
            more = ("--data", str(tiny_data), *store, "--run-id", job, "--track", tracker)
            run(f"{job} {settings}", 0, *more, **joined, **(password if job == "crossval" else {}))
        for line in COMMANDS:
            run(line, 0, *store, **joined)
        for line, code in FAILING.items():
            run(line, code, *(store if line.startswith("runs") else ()))
        run("runs list --sort job", 0, *store, **password)
        # This server refuses any.
        run("runs list --sort status", 2, *store, AWS_SESSION_TOKEN="marker-session")
        rays = list(telling_files(head.folder))

    client = s3_server.client()
    keys = [found["Key"] for found in client.list_objects_v2(Bucket=s3_bucket).get("Contents", [])]
    assert any(key.endswith("pipeline/manifest.json") for key in keys)
    assert [line for line, text in said.items() if tells(text.encode())] == []
    assert [key for key in keys if tells(client.get_object(Bucket=s3_bucket, Key=key)["Body"].read())] == []
    assert rays == []
    assert list(telling_files(tmp_path)) == ["home/.aws/credentials"]
