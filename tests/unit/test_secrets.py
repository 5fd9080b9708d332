"""A secret that is given in any place is in no message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist import cli
from fmnist.errors import UserError, printable, redacted
from fmnist.storage import S3Store, open_store

SECRET = "MARKER-secret/0"


@pytest.mark.parametrize(
    "address",
    [
        f"s3://key:{SECRET}@bucket/x", "s3://MARKER-secret@bucket/x", f"s3://bucket/x?token={SECRET}",
        f"s3://bucket/x?a=b&X-Amz-Signature={SECRET}", f"http://user:{SECRET}@host/x", f"https://host/x?token={SECRET}",
        f"s3://bucket:{SECRET}@host", f"ftp://user:{SECRET}@host",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--artifacts"], ["train", "--data"], ["runs", "list", "--artifacts"], ["data", "info", "--data"],
        ["transfer", "--backbone", "vgg16", "--data", "nowhere", "--weights"], ["runs", "show", "x", "--artifacts"],
        ["weights", "fetch", "--backbone", "vgg16", "--from", "none", "--to"], ["train", "--run-id"],
        ["train", "--epochs"], ["train", "--config"], ["predict", "--run", "x"],
    ],
)  # fmt: skip
def test_secret_in_an_argument_is_in_no_message(
    arguments: list[str], address: str, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*arguments, address]) == 2
    captured = capsys.readouterr()
    assert "MARKER" not in captured.out + captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD"])
def test_secret_of_the_environment_is_in_no_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    assert str(UserError(f"the server said {SECRET}")) == "the server said ***"


@given(user=st.from_regex(r"[a-z]{1,8}", fullmatch=True), password=st.from_regex(r"[!-?A-Z-~]{4,20}", fullmatch=True))
def test_password_of_any_address_is_redacted(user: str, password: str) -> None:
    assert f"{password}@" not in printable(f"cannot reach http://{user}:{password}@host:8333/bucket: refused")


@pytest.mark.parametrize(
    "text", ["s3://runs/exp#2: no such file", "http://127.0.0.1:8333/a", "a@b.c", "x?y=z", "s3://runs/a?b"]
)
def test_text_without_secrets_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("prefix", ["exp#2", "exp?2", "a%20b", "a b/c+d", "ü"])
def test_prefix_of_an_address_is_taken_as_it_is(prefix: str) -> None:
    assert open_store(f"s3://runs/{prefix}") == S3Store("runs", prefix)
