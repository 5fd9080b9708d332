"""Addresses of stores, run ids and manifests, without a store."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import EndpointConnectionError
from hypothesis import assume, given
from hypothesis import strategies as st

import fmnist.storage.s3
from fmnist.errors import IntegrityError, RunError, StoreError
from fmnist.runs import Manifest, ManifestFile, check_run_id, new_run_id
from fmnist.runs.run_id import FEATURES, RESERVED
from fmnist.storage import FolderStore, S3Store, open_store
from fmnist.storage.store import PART_SUFFIX

LETTERS_AND_DIGITS = string.ascii_letters + string.digits


def test_address_tells_the_kind_of_store(tmp_path: Path) -> None:
    assert open_store("s3://bucket/some/prefix/") == S3Store("bucket", "some/prefix")
    assert open_store("s3://bucket").location == "s3://bucket"
    assert isinstance(open_store(tmp_path), FolderStore)
    assert open_store("artifacts").location == str(Path.cwd() / "artifacts")


@pytest.mark.parametrize(
    "address",
    ["", "https://host/bucket", "gs://bucket", "s3://", "s3:/bucket/runs", "s3:bucket", "s3://bucket/../other"],
)
def test_address_of_no_store_is_refused(address: str) -> None:
    with pytest.raises(StoreError):
        open_store(address)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    for address in ("s3://key:pa55word@bucket/prefix", "https://key:pa55word@host/bucket"):
        with pytest.raises(StoreError) as caught:
            open_store(address)
        assert "pa55word" not in str(caught.value)


@given(first=st.sampled_from(LETTERS_AND_DIGITS), rest=st.text(alphabet=LETTERS_AND_DIGITS + "._-", max_size=99))
def test_run_id_of_allowed_characters_is_accepted(first: str, rest: str) -> None:
    # Hypothesis takes texts from the code that it tests, and so finds the names that a store needs for itself.
    assume(first + rest not in RESERVED and not rest.endswith(PART_SUFFIX))
    assert check_run_id(first + rest) == first + rest


def test_run_id_that_a_store_needs_for_itself_is_refused_with_the_reason() -> None:
    for run_id, reason in ((FEATURES, "all runs of a store share"), (f"a{PART_SUFFIX}", "that are being written")):
        with pytest.raises(RunError, match=reason):
            check_run_id(run_id)


@given(st.text(max_size=120))
def test_run_id_is_accepted_only_if_it_is_one_safe_name(text: str) -> None:
    try:
        check_run_id(text)
    except RunError as error:
        assert "\n" not in str(error)
    else:
        assert len(text) <= 100
        assert set(text) <= set(LETTERS_AND_DIGITS + "._-")
        assert text[0] in LETTERS_AND_DIGITS


@pytest.mark.parametrize("run_id", ["", "a" * 101, "a/b", "..", ".hidden", "-x", "a b", "a\n", "ä"])
def test_run_id_that_is_no_safe_name_is_refused(run_id: str) -> None:
    with pytest.raises(RunError, match="expected 1 to 100 letters"):
        check_run_id(run_id)


def test_new_run_ids_name_the_job_and_the_time_and_differ() -> None:
    ids = {new_run_id("train") for _ in range(20)}
    assert all(re.fullmatch(r"train-\d{8}-\d{6}-[0-9a-f]{4}", run_id) for run_id in ids)
    assert len(ids) > 15


def test_manifest_survives_json() -> None:
    manifest = Manifest.of("run", "train", [ManifestFile("plots/b.png", 2, "b" * 64), ManifestFile("a", 1, "a" * 64)])
    assert [file.path for file in manifest.files] == ["a", "plots/b.png"]
    assert Manifest.parse(manifest.to_json(), "here") == manifest


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_manifest_with_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    text = Manifest.of("run", "train", [ManifestFile(path, 1, "a" * 64)]).to_json()
    with pytest.raises(IntegrityError, match=r"^here: damaged"):
        Manifest.parse(text, "here")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b"\xff", b'{"schema": 1, "files": [1]}'])
def test_damaged_manifest_is_an_integrity_error(text: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^here: damaged"):
        Manifest.parse(text, "here")


def test_manifest_of_a_later_version_is_refused() -> None:
    fields = json.loads(Manifest.of("run", "train", []).to_json()) | {"schema": 2}
    with pytest.raises(IntegrityError, match="schema 2, this version reads schema 1"):
        Manifest.parse(json.dumps(fields).encode(), "here")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    fmnist.storage.s3.client.cache_clear()
    yield monkeypatch
    fmnist.storage.s3.client.cache_clear()


def address_of(bucket: str, key: str) -> str:
    """Returns the address that a request would be sent to."""
    seen = []

    def record(request: AWSPreparedRequest, **_: object) -> None:
        seen.append(request.url)
        raise EndpointConnectionError(endpoint_url=request.url)

    client = fmnist.storage.s3.client(fmnist.storage.s3.QUICK_ATTEMPTS)
    client.meta.events.register("before-send.s3", record)
    with pytest.raises(EndpointConnectionError):
        client.head_object(Bucket=bucket, Key=key)
    return seen[0]


def test_without_an_endpoint_the_client_speaks_to_aws_with_the_bucket_as_host(aws: pytest.MonkeyPatch) -> None:
    assert fmnist.storage.s3.client().meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
    assert address_of("bucket", "runs/key") == "https://bucket.s3.eu-central-1.amazonaws.com/runs/key"


def test_with_an_endpoint_the_bucket_is_in_the_path(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "http://storage:8333")
    assert address_of("bucket", "runs/key") == "http://storage:8333/bucket/runs/key"


def test_endpoint_that_is_no_address_is_told(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "storage:8333")
    with pytest.raises(StoreError, match=r"^AWS_ENDPOINT_URL: not an address"):
        S3Store("bucket").check()


def test_waits_between_attempts_outlast_three_minutes(aws: pytest.MonkeyPatch) -> None:
    """An outage is simulated by sockets that refuse and by a clock that only the waits advance."""
    waited: list[float] = []
    aws.setattr("time.sleep", waited.append)

    def refuse(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://s3")

    fmnist.storage.s3.client().meta.events.register("before-send.s3", refuse)
    with pytest.raises(StoreError, match=r"cannot connect$"):
        S3Store("bucket").put_bytes("key", b"")
    assert sum(waited) > 180
    assert max(waited) <= 5
