"""Both stores keep the same promises: each test that takes `store` runs on a folder and on a real S3 server."""

from __future__ import annotations

import errno
import os
import pickle
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from s3_server import S3Server

import fmnist.storage.s3
from fmnist.errors import StoreError
from fmnist.storage import ConflictError, Entry, FolderStore, MissingKeyError, S3Store, Store, folder_store, open_store

# Parts that differ in more than their case, so that the law also holds on file systems that ignore it.
PARTS = st.text(alphabet="abc019 ._-+%&=#~äß中", min_size=1, max_size=8).filter(lambda part: part not in {".", ".."})
FILES = st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), max_size=4)


def has_conflict(keys: list[str]) -> bool:
    """Tells whether a key is also the folder of another one, which a file system cannot hold."""
    return any(other.startswith(f"{key}/") for key in keys for other in keys)


@examples(25)
@given(files=FILES.filter(lambda files: not has_conflict(list(files))))
def test_what_is_put_is_what_is_listed_and_read(store: Store, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        store.put_bytes(f"law/{key}", data)
    assert {(entry.key, entry.size) for entry in store.entries("law")} == {
        (f"law/{key}", len(data)) for key, data in files.items()
    }
    assert {key: store.get_bytes(f"law/{key}") for key in files} == files
    assert set(store.folders("law")) >= {key.split("/")[0] for key in files if "/" in key}
    store.delete_folder("law")
    assert list(store.entries("law")) == []


def test_large_file_survives_the_way_there_and_back(store: Store, tmp_path: Path) -> None:
    original = tmp_path / "large"
    original.write_bytes(os.urandom(20_000_001))  # three parts on S3, the last one uneven
    store.put_file(original, "model/large")
    store.get_file("model/large", tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == original.read_bytes()
    assert store.size("model/large") == 20_000_001


def test_prefix_is_a_folder_and_not_the_beginning_of_a_name(store: Store) -> None:
    for key in ("run/a", "run/deep/b", "run-2/c"):
        store.put_bytes(key, b"")
    assert set(store.entries("run")) == {Entry("run/a", 0), Entry("run/deep/b", 0)}
    assert store.folders("run") == ["deep"]
    assert store.folders() == ["run", "run-2"]
    store.delete_folder("run")
    assert [entry.key for entry in store.entries()] == ["run-2/c"]


def test_conditional_write_succeeds_for_the_version_that_was_read_and_for_no_other(store: Store) -> None:
    assert store.get_version("a/key") is None
    first = store.put_version("a/key", b"1", None)
    found = store.get_version("a/key")
    assert found and (found.content, found.version) == (b"1", first) and 0 <= found.age < 60
    with pytest.raises(ConflictError):
        store.put_version("a/key", b"2", None)
    second = store.put_version("a/key", b"2", first)
    with pytest.raises(ConflictError):
        store.put_version("a/key", b"3", first)
    assert second != first and store.get_bytes("a/key") == b"2"
    assert store.heeds_conditions("a/key")
    store.delete("a/key")
    with pytest.raises(ConflictError):
        store.put_version("a/key", b"3", second)
    if isinstance(store, FolderStore):
        assert list(store.root.rglob("*.*")) == []


def test_one_of_many_conditional_writes_at_once_succeeds(store: Store) -> None:
    def write(number: int) -> bool:
        try:
            store.put_version("a/key", str(number).encode(), None)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(24))) == 1


def test_put_replaces(store: Store) -> None:
    store.put_bytes("a/key", b"old and long")
    store.put_bytes("a/key", b"new")
    assert store.get_bytes("a/key") == b"new"
    assert store.size("a/key") == 3


def test_missing_key_is_named_and_deleting_it_is_no_error(store: Store, tmp_path: Path) -> None:
    for read in (lambda: store.get_bytes("a/none"), lambda: store.get_file("a/none", tmp_path / "copy")):
        with pytest.raises(MissingKeyError, match=r"a/none: no such file$") as caught:
            read()
        assert str(caught.value).startswith(store.location)
        assert isinstance(caught.value, FileNotFoundError)
    assert not (tmp_path / "copy").exists()
    assert store.size("a/none") is None
    assert not store.exists("a/none")
    store.delete("a/none")
    store.delete_folder("none")


def test_check_leaves_nothing_behind(store: Store) -> None:
    store.check()
    assert list(store.entries()) == []


def test_store_can_be_sent_to_another_process(store: Store) -> None:
    store.put_bytes("a/key", b"text")
    assert pickle.loads(pickle.dumps(store)).get_bytes("a/key") == b"text"


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\\b", "a\nb", "a\0b", "x.fmnist-part/a"]
)
def test_key_that_is_no_plain_path_is_refused(store: Store, key: str) -> None:
    for action in (
        store.get_bytes,
        store.size,
        store.delete,
        store.delete_folder,
        lambda key: store.put_bytes(key, b""),
    ):
        with pytest.raises(StoreError, match="not a key"):
            action(key)


def test_more_files_than_one_page_are_listed_and_deleted(s3_server: S3Server, s3_bucket: str) -> None:
    store = S3Store(s3_bucket)
    for number in range(12):
        store.put_bytes(f"run/{number}", b"")
    client = fmnist.storage.s3.client()

    def small_pages(params: dict[str, object], **_: object) -> None:
        params["MaxKeys"] = 5

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", small_pages)
    assert len(list(store.entries("run"))) == 12
    store.delete_folder("run")
    assert list(store.entries("run")) == []


def test_delete_folder_frees_uploads_that_a_killed_process_left(s3_server: S3Server, s3_bucket: str) -> None:
    client = s3_server.client()
    client.create_multipart_upload(Bucket=s3_bucket, Key="runs/dead/model.keras")
    client.create_multipart_upload(Bucket=s3_bucket, Key="runs/alive/model.keras")
    S3Store(s3_bucket, "runs").delete_folder("dead")
    left = client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads", [])
    assert [upload["Key"] for upload in left] == ["runs/alive/model.keras"]


def test_crashed_upload_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "artifacts")
    store.put_bytes("run/key", b"old")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process does not tidy up
    monkeypatch.setattr("shutil.copyfile", lambda _, part: (part.write_bytes(b"ne"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        store.put_file(tmp_path / "any", "run/key")
    assert len(list((tmp_path / "artifacts" / "run").iterdir())) == 2
    assert list(store.entries()) == [Entry("run/key", 3)]
    assert store.get_bytes("run/key") == b"old"


@pytest.mark.parametrize("multipart", [False, True])
def test_server_that_damages_an_upload_is_noticed(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multipart: bool
) -> None:
    """The checksum that travels with an upload is compared by the server: a byte flipped under way is refused."""
    local = tmp_path / "file"
    local.write_bytes(b"x" * (9_000_000 if multipart else 1000))

    def flip(request: object, **_: object) -> None:
        body = b"".join(iter(lambda: request.body.read(1 << 20), b""))  # type: ignore[attr-defined]
        request.body = body.replace(b"x", b"y", 1)  # type: ignore[attr-defined]

    event = "before-send.s3.UploadPart" if multipart else "before-send.s3.PutObject"
    fmnist.storage.s3.client().meta.events.register(event, flip)
    with pytest.raises(StoreError, match="BadDigest"):
        S3Store(s3_bucket, "runs").put_file(local, "a/file")
    assert not S3Store(s3_bucket, "runs").exists("a/file")


def test_upload_outlasts_a_server_that_is_away(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    local = tmp_path / "large"
    local.write_bytes(os.urandom(20_000_000))
    store = S3Store(s3_bucket, "runs")
    started, over = threading.Event(), threading.Event()
    parts: list[None] = []

    def hold_back_all_but_the_first(**_: object) -> None:
        parts.append(None)
        started.set()
        if len(parts) > 1:
            over.wait()

    fmnist.storage.s3.client().meta.events.register("before-send.s3.UploadPart", hold_back_all_but_the_first)
    with ThreadPoolExecutor() as pool:
        upload = pool.submit(store.put_file, local, "run/large")
        assert started.wait(120)
        with s3_server.away(attempts=12):
            over.set()
        upload.result(240)
    assert store.get_bytes("run/large") == local.read_bytes()


def counted_attempts() -> list[None]:
    """A list that grows with each attempt of the client that finds out whether a server is there at all."""
    attempts: list[None] = []
    fmnist.storage.s3.client.cache_clear()
    client = fmnist.storage.s3.client(fmnist.storage.s3.QUICK_ATTEMPTS)
    client.meta.events.register("before-send.s3", lambda **_: attempts.append(None))
    return attempts


def test_unreachable_server_is_told_after_few_attempts(monkeypatch: pytest.MonkeyPatch, s3_bucket: str) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        port = deaf.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:pa55word@127.0.0.1:{port}")
        attempts = counted_attempts()
        with pytest.raises(StoreError) as caught:
            S3Store(s3_bucket, "runs").check()
    assert len(attempts) == 2
    assert str(caught.value) == f"s3://{s3_bucket}/runs: cannot be listed at 127.0.0.1:{port}: cannot connect"


def test_server_that_does_not_answer_is_told_after_few_attempts(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        attempts = counted_attempts()
        with pytest.raises(StoreError, match="no answer within the time limit"):
            S3Store(s3_bucket).check()
    assert len(attempts) == 2


def test_missing_bucket_is_named(s3_bucket: str) -> None:
    store = S3Store(f"{s3_bucket}-missing", "runs")
    attempts = [
        store.check,
        lambda: store.put_bytes("a/key", b""),
        lambda: store.get_bytes("a/key"),
        lambda: list(store.entries()),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=rf"^s3://{s3_bucket}-missing/runs.*: no such bucket$") as caught:
            attempt()
        assert not isinstance(caught.value, MissingKeyError)


@pytest.mark.parametrize(
    ("variable", "value", "cause"),
    [
        ("AWS_ACCESS_KEY_ID", "unknown", "access denied, the server does not know AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "access denied, AWS_SECRET_ACCESS_KEY is not the one of AWS_ACCESS_KEY_ID"),
    ],
)
def test_wrong_credentials_are_access_denied(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, cause: str
) -> None:
    monkeypatch.setenv(variable, value)
    fmnist.storage.s3.client.cache_clear()
    with pytest.raises(StoreError, match=f"{cause}$"):
        S3Store(s3_bucket).check()


def test_bucket_name_that_cannot_be_one_is_told(s3_bucket: str) -> None:
    with pytest.raises(StoreError, match="not a valid bucket name"):
        S3Store("not a bucket").check()


def test_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "artifacts"):
        with pytest.raises(StoreError, match="cannot be written") as caught:
            FolderStore(path).check()
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
        with pytest.raises(StoreError, match="cannot be written"):
            FolderStore(path).put_bytes("run/key", b"")


def test_location_opens_the_same_store_again(store: Store) -> None:
    store.put_bytes("a/key", b"text")
    again = open_store(store.location)
    assert type(again) is type(store)
    assert again.location == store.location
    assert again.get_bytes("a/key") == b"text"


def test_folders_and_files_that_are_held_open_cost_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    for key in ("run/a/b/one", "run/a/two", "run/three"):
        store.put_bytes(key, b"")

    def busy(path: object, *_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    with monkeypatch.context() as held:
        held.setattr(os, "rmdir", busy)
        store.delete_folder("run")
    assert list(store.entries()) == [] and (tmp_path / "run/a/b").is_dir()

    for key in ("run/a/one", "run/two"):
        store.put_bytes(key, b"")
    unlink = os.unlink
    with monkeypatch.context() as held:
        held.setattr(os, "unlink", lambda name, **more: busy(name) if name == "one" else unlink(name, **more))
        with pytest.raises(StoreError, match=r"run: cannot be deleted: Device or resource busy \(.*run/a/one\)"):
            store.delete_folder("run")
    assert [entry.key for entry in store.entries()] == ["run/a/one"]


def test_folder_that_is_a_link_is_not_followed_by_a_deletion(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    FolderStore(tmp_path).put_bytes("elsewhere/one", b"")
    store.put_bytes("run/two", b"")
    for link in (tmp_path / "store/linked", tmp_path / "store/run/linked"):
        link.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match="linked: cannot be deleted"):
        store.delete_folder("linked")
    store.delete_folder("run")

    assert (tmp_path / "elsewhere/one").exists() and not (tmp_path / "store/run").exists()


def test_lock_that_another_process_holds_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fmnist.waiting.FIRST_SECONDS", 0.1)
    written = threading.Thread(target=FolderStore(tmp_path).put_version, args=("one", b"", None))
    with folder_store._locked(tmp_path / "one"):
        written.start()
        said = ""
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            said = capsys.readouterr().err
    written.join()

    assert re.fullmatch(r"fmnist: still waiting after .*: another process to release .*one\.lock.*\n", said)
    assert (tmp_path / "one").exists()
