"""What a real S3 server may refuse: each is one line with its reason, and rights that are not needed are not used."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import pytest
from keras import layers
from PIL import Image
from s3_faults import Refusal, Request, faulty
from s3_server import S3Server
from tracked_runs import begun, trained

import fmnist.storage.s3
from fmnist import cli
from fmnist.errors import StoreError
from fmnist.runs import MODEL
from fmnist.storage import S3Store

Through = Callable[[Refusal], None]


@pytest.fixture
def store(s3_bucket: str) -> S3Store:
    return S3Store(s3_bucket, "runs")


@pytest.fixture
def refuse(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Through]:
    """Call it with what the server refuses from now on."""
    refused: list[Refusal] = []
    with faulty(s3_server, lambda request: refused[0](request) if refused else None) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        fmnist.storage.s3.client.cache_clear()
        yield refused.append


def stored(server: S3Server, bucket: str) -> list[str]:
    return [item["Key"] for item in server.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_looking_at_runs_needs_rights_to_read_only_and_creates_nothing(
    refuse: Through, store: S3Store, s3_server: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(store)
    classifier = begun(store, "classifier")
    with_softmax = [layers.Flatten(), layers.Dense(10, "softmax")]
    keras.Sequential([keras.Input((28, 28)), *with_softmax]).save(tmp_path / MODEL)
    classifier.put_file(tmp_path / MODEL, MODEL)
    classifier.finish("train")
    Image.new("L", (28, 28)).save(tmp_path / "picture.png")
    refuse(lambda request: (403, "AccessDenied") if request.writes else None)
    before = stored(s3_server, store.bucket)

    for arguments in (["list"], ["show", "train-1"], ["verify", "train-1"], ["pull", "train-1", "--to", str(tmp_path)]):
        assert cli.main(["runs", *arguments, "--artifacts", store.location]) == 0, capsys.readouterr().err
    assert capsys.readouterr().err == ""
    predict = ["predict", "--run", "classifier", "--artifacts", store.location, str(tmp_path / "picture.png")]
    assert cli.main(predict) == 0, capsys.readouterr().err
    assert stored(s3_server, store.bucket) == before


@pytest.mark.parametrize(("status", "code"), [(400, "ExpiredToken"), (403, "SignatureDoesNotMatch")])
def test_credentials_that_are_refused_after_the_listing_end_the_list_of_runs(
    refuse: Through, store: S3Store, status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in ("train-1", "train-2"):
        trained(store, run_id)
    requests = itertools.count()
    refuse(lambda request: (status, code) if next(requests) > 1 else None)

    assert cli.main(["runs", "list", "--artifacts", store.location]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(f"fmnist: {store.location}/train-"), shown
    assert len(shown.err.splitlines()) == 1 and "access denied, " in shown.err


def test_run_that_may_not_be_read_is_a_row(refuse: Through, store: S3Store, capsys: pytest.CaptureFixture[str]) -> None:
    for run_id in ("train-1", "train-2"):
        trained(store, run_id)
    refuse(lambda request: (403, "AccessDenied") if "/train-1/" in request.path else None)

    assert cli.main(["runs", "list", "--artifacts", store.location]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], row[2]) for row in rows] == [("train-1", "unreadable"), ("train-2", "finished")]


@pytest.mark.parametrize(
    ("refused", "what"),
    [
        (lambda request: request.writes, "cannot be written"),
        (lambda request: request.deletes, "files cannot be deleted"),
        (lambda request: True, "cannot be listed"),
    ],
)
def test_missing_right_is_named_before_a_job_starts_and_tries_leave_no_pile_of_files(
    refuse: Through,
    store: S3Store,
    s3_server: S3Server,
    refused: Callable[[Request], bool],
    what: str,
) -> None:
    refuse(lambda request: (403, "AccessDenied") if refused(request) else None)

    for _ in range(3):
        with pytest.raises(StoreError, match=rf"^{store.location}: {what} at 127\.0\.0\.1:\d+: access denied$"):
            store.check()
    assert len(stored(s3_server, store.bucket)) <= 1
    assert list(store.entries()) == [] if what != "cannot be listed" else True


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "ExpiredToken", "access denied, the credentials have expired"),
        (403, "InvalidAccessKeyId", "access denied, the server does not know AWS_ACCESS_KEY_ID"),
        (400, "AuthorizationHeaderMalformed", "access denied, AWS_REGION is not the bucket's region"),
    ],
)
def test_reason_is_told_where_the_servers_answer_has_none(
    refuse: Through, store: S3Store, status: int, code: str, reason: str
) -> None:
    store.put_bytes("key", b"value")
    refuse(lambda request: (status, code))

    for read in (store.get_bytes, store.size):
        with pytest.raises(StoreError, match=f": {reason}$"):
            read("key")


def test_folder_is_deleted_on_a_server_that_does_not_know_how_to_delete_many_files_at_once(
    refuse: Through, store: S3Store
) -> None:
    for key in ("run/a", "run/deep/b", "run-2/c"):
        store.put_bytes(key, b"")
    refuse(lambda request: (501, "NotImplemented") if "?delete" in request.path else None)

    store.delete_folder("run")

    assert [entry.key for entry in store.entries()] == ["run-2/c"]


def test_server_without_checksums_is_told_what_it_needs_and_is_used_with_it(
    refuse: Through, store: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refuse(lambda request: (400, "InvalidArgument") if any("checksum" in name for name in request.headers) else None)
    with pytest.raises(StoreError, match=r"needs AWS_REQUEST_CHECKSUM_CALCULATION=when_required$"):
        store.check()

    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    fmnist.storage.s3.client.cache_clear()
    (tmp_path / "large").write_bytes(bytes(9 << 20))
    store.check()
    store.put_file(tmp_path / "large", "run/large")
    store.delete_folder("run")

    assert list(store.entries()) == []


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:99999", "http://127.0.0.1:80?token=marker-secret"])
def test_endpoint_of_another_form_is_named_without_its_secrets(
    endpoint: str, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    fmnist.storage.s3.client.cache_clear()

    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL is not an address such as http://host:port") as caught:
        store.check()
    assert "marker" not in str(caught.value)
