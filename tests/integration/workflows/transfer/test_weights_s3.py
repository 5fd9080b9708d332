"""Pretrained weights in a bucket of a real S3 server."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from fmnist import cli
from fmnist.errors import UserError
from fmnist.storage import s3
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.weights import WeightsFile, obtain_weights

CONTENT = b"any bytes" * 1000


def put(bucket: str, key: str, content: bytes = CONTENT) -> None:
    s3.client().put_object(Bucket=bucket, Key=key, Body=content)


def obtain(location: str, cache: Path, notes: list[str]) -> WeightsFile:
    weights = obtain_weights(location, "vgg16", notes.append, cache)
    assert weights is not None
    return weights


@pytest.mark.parametrize("prefix", ["some/weights/", ""])
@pytest.mark.parametrize("name", ["vgg16.weights.h5", "vgg16.h5", FACTS["vgg16"].keras_file])
def test_weights_are_found_by_prefix_and_by_address_and_kept(
    s3_bucket: str, tmp_path: Path, prefix: str, name: str
) -> None:
    put(s3_bucket, f"{prefix}{name}")
    put(s3_bucket, f"{prefix}below/vgg16.h5", b"not this one")
    for location in (f"s3://{s3_bucket}/{prefix}", f"s3://{s3_bucket}/{prefix}{name}"):
        notes: list[str] = []
        cache = tmp_path / str(len(location))
        weights = obtain(location, cache, notes)
        assert (weights.record.source, weights.path.name) == (location, name)
        assert weights.path.read_bytes() == CONTENT
        assert weights.record.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert notes == [f"downloading s3://{s3_bucket}/{prefix}{name}"]
        assert obtain(location, cache, notes) == weights
        assert len(notes) == 1, "the file is in the cache"


def test_object_that_changed_is_downloaded_again(s3_bucket: str, tmp_path: Path) -> None:
    put(s3_bucket, "vgg16.h5", b"old weights")
    old = obtain(f"s3://{s3_bucket}", tmp_path, [])
    put(s3_bucket, "vgg16.h5", b"new weights")
    new = obtain(f"s3://{s3_bucket}", tmp_path, [])
    assert (old.path.read_bytes(), new.path.read_bytes()) == (b"old weights", b"new weights")
    assert old.record.sha256 != new.record.sha256


def test_fetch_stages_into_a_bucket_what_is_then_found_there(
    s3_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tuned.weights.h5").write_bytes(CONTENT)
    where = f"s3://{s3_bucket}/models/imagenet"
    arguments = ["weights", "fetch", "--backbone", "vgg16", "--from", str(tmp_path / "tuned.weights.h5"), "--to", where]
    assert cli.main(arguments) == 0
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert capsys.readouterr().out == f"tuned.weights.h5: 9,000 bytes, sha256 {digest}, now {where}/vgg16.weights.h5\n"
    assert obtain(where, tmp_path / "cache", []).record.sha256 == digest


def test_fetch_stages_from_a_bucket_into_a_folder(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMNIST_CACHE", str(tmp_path / "cache"))
    put(s3_bucket, "models/vgg16.h5")
    arguments = ["weights", "fetch", "--backbone", "vgg16", "--from", f"s3://{s3_bucket}/models", "--to", str(tmp_path)]
    assert cli.main(arguments) == 0
    assert (tmp_path / "vgg16.h5").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("bucket", "key", "said"),
    [
        (None, "models", "no weights of vgg16, expected vgg16.weights.h5, vgg16.h5 or"),
        (None, "", "no weights of vgg16"),
        (None, "models/vgg16.h5", "no such file, expected weights of vgg16"),
        ("no-such-bucket", "models", "cannot be read at 127.0.0.1:[0-9]+: no such bucket"),
    ],
)
def test_address_without_weights_is_named(
    s3_bucket: str, tmp_path: Path, bucket: str | None, key: str, said: str
) -> None:
    put(s3_bucket, "models/resnet152v2.h5")
    url = f"s3://{bucket or s3_bucket}/{key}"
    with pytest.raises(UserError, match=f"^{url}: {said}") as raised:
        obtain(url, tmp_path, [])
    assert len(str(raised.value).splitlines()) == 1


def test_server_that_is_not_there_is_told_at_once_without_its_password(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://someone:password@127.0.0.1:9")
    s3.client.cache_clear()
    with pytest.raises(UserError, match=f"^s3://{s3_bucket}: cannot be read at 127.0.0.1:9: cannot connect$"):
        obtain(f"s3://{s3_bucket}/vgg16.h5", tmp_path, [])


def test_weights_are_used_where_no_cache_can_be_written(s3_bucket: str, tmp_path: Path) -> None:
    put(s3_bucket, "vgg16.h5")
    (tmp_path / "cache").write_text("a file in the way")
    notes: list[str] = []

    assert obtain(f"s3://{s3_bucket}", tmp_path / "cache", notes).path.read_bytes() == CONTENT
    assert re.match(r".*cache: cannot be written \(.*\): weights are not kept; FMNIST_CACHE names a folder$", notes[0])
