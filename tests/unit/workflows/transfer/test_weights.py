"""Finding a backbone's weights: what a name stands for, what is recorded of a file, what is said when there is none."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fmnist import cli
from fmnist.errors import UserError
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.weights import obtain_weights, stage_weights

CONTENT = b"any bytes: the content is checked when it is loaded"
KERAS_FILE = FACTS["vgg16"].keras_file


def silent(line: str) -> None:
    raise AssertionError(f"nothing is downloaded here: {line}")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes CONTENT what Keras publishes for vgg16."""
    facts = replace(FACTS["vgg16"], keras_md5=hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setitem(FACTS, "vgg16", facts)


@pytest.mark.parametrize("name", ["vgg16.weights.h5", "vgg16.h5", KERAS_FILE])
def test_folder_is_looked_through_for_the_backbones_names(tmp_path: Path, name: str) -> None:
    for file in (name, "resnet152v2.weights.h5", "vgg16.txt"):
        (tmp_path / file).write_bytes(CONTENT)
    for location in (tmp_path, tmp_path / name):
        weights = obtain_weights(str(location), "vgg16", silent)
        assert weights is not None
        assert (weights.record.source, weights.path) == (str(location), tmp_path / name)
        assert weights.record.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert not weights.record.published


def test_none_is_no_weights() -> None:
    assert obtain_weights("none", "vgg16", silent) is None


def test_imagenet_is_taken_from_keras_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: None
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / KERAS_FILE).write_bytes(CONTENT)
    weights = obtain_weights("imagenet", "vgg16", silent)
    assert weights is not None and weights.record.published
    assert weights.path == tmp_path / "models" / KERAS_FILE


@pytest.mark.parametrize("damaged", [False, True])
def test_imagenet_without_network_mocked_by_a_closed_port_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damaged: bool
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(FACTS, "vgg16", replace(FACTS["vgg16"], keras_url="http://127.0.0.1:9/"))
    if damaged:
        (tmp_path / "home" / "models").mkdir(parents=True)
        (tmp_path / "home" / "models" / KERAS_FILE).write_bytes(b"half")
    notes: list[str] = []
    with pytest.raises(UserError) as raised:
        obtain_weights("imagenet", "vgg16", notes.append)
    said = str(raised.value)
    assert notes == [f"downloading http://127.0.0.1:9/{KERAS_FILE}"]
    assert len(said.splitlines()) == 1
    for part in ("vgg16", "refused", "--weights FILE.h5", "s3://", "`fmnist weights fetch`", "--weights none"):
        assert part in said
    assert capsys.readouterr().out == ""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: None) -> Iterator[Path]:
    """A folder that a server on this machine publishes as Keras' one does."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        address = f"http://127.0.0.1:{serving.server_port}/"
        monkeypatch.setitem(FACTS, "vgg16", replace(FACTS["vgg16"], keras_url=address))
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
        Thread(target=serving.serve_forever, daemon=True).start()
        yield folder
        serving.shutdown()


def test_download_of_other_bytes_is_refused_and_not_kept(tmp_path: Path, server: Path) -> None:
    (server / KERAS_FILE).write_bytes(b"<html>login</html>")
    with pytest.raises(UserError, match=r"nor to be downloaded \(MD5") as raised:
        obtain_weights("imagenet", "vgg16", lambda _: None)
    assert "--weights none" in str(raised.value)
    assert not list((tmp_path / "home" / "models").iterdir())


@pytest.mark.parametrize("damaged", [False, True])
def test_imagenet_is_downloaded_into_keras_own_folder(tmp_path: Path, server: Path, damaged: bool) -> None:
    (server / KERAS_FILE).write_bytes(CONTENT)
    if damaged:
        (tmp_path / "home" / "models").mkdir(parents=True)
        (tmp_path / "home" / "models" / KERAS_FILE).write_bytes(b"half")
    notes: list[str] = []
    weights = obtain_weights("imagenet", "vgg16", notes.append)
    assert weights is not None and weights.record.published
    assert weights.path == tmp_path / "home" / "models" / KERAS_FILE
    assert len(notes) == 1
    assert obtain_weights("imagenet", "vgg16", silent) == weights, "the second time it is there"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("missing.h5", "missing.h5: no such file, expected weights of vgg16"),
        ("weights.npz", "weights.npz is neither a folder nor a file that ends in .h5"),
        ("no/such/folder", "no/such/folder is neither a folder nor a file that ends in .h5"),
        ("empty", f"empty: no weights of vgg16, expected vgg16.weights.h5, vgg16.h5 or {KERAS_FILE}"),
        ("both", "both: found vgg16.weights.h5 and vgg16.h5, expected one file of weights of vgg16"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], location: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "both"):
        Path(folder).mkdir()
    for file in ("weights.npz", "both/vgg16.h5", "both/vgg16.weights.h5"):
        Path(file).write_bytes(CONTENT)
    with pytest.raises(UserError, match=said.replace(".", r"\.")) as raised:
        obtain_weights(location, "vgg16", silent)
    assert len(str(raised.value).splitlines()) == 1
    assert cli.main(["weights", "fetch", "--backbone", "vgg16", "--from", location, "--to", "staged"]) == 2
    assert capsys.readouterr().err == f"fmnist: {raised.value}\n"
    assert not list(Path("staged").glob("*"))


@pytest.mark.parametrize(
    ("name", "staged"), [(KERAS_FILE, "vgg16.h5"), ("mine.h5", "vgg16.h5"), ("tuned.weights.h5", "vgg16.weights.h5")]
)
def test_staged_file_has_the_backbones_name_and_the_same_bytes(
    tmp_path: Path, published: None, name: str, staged: str
) -> None:
    (tmp_path / name).write_bytes(CONTENT)
    weights, place = stage_weights("vgg16", str(tmp_path / name), str(tmp_path / "to"), silent)
    assert place == str(tmp_path / "to" / staged)
    assert Path(place).read_bytes() == CONTENT
    found = obtain_weights(str(tmp_path / "to"), "vgg16", silent)
    assert found is not None and found.record.published and found.record.sha256 == weights.record.sha256


def test_fetch_of_all_prints_a_line_for_each_and_imports_no_keras(tmp_path: Path) -> None:
    for backbone, facts in FACTS.items():
        (tmp_path / facts.keras_file).write_bytes(CONTENT + backbone.encode())
    code = (
        "import sys; from fmnist.cli import main; code = main(sys.argv[1:]);"
        "print(sorted({'keras', 'tensorflow', 'h5py', 'boto3', 'pooch'} & set(sys.modules))); sys.exit(code)"
    )
    arguments = ["weights", "fetch", "--backbone", "all", "--from", str(tmp_path), "--to", str(tmp_path / "to")]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    *lines, imported = ended.stdout.splitlines()
    assert imported == "[]"
    assert lines == [
        f"{facts.keras_file}: {len(CONTENT + backbone.encode())} bytes, sha256 "
        f"{hashlib.sha256(CONTENT + backbone.encode()).hexdigest()}, now {tmp_path / 'to' / f'{backbone}.h5'}"
        for backbone, facts in FACTS.items()
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fetch", "--backbone", "vgg19", "--to", "x"], "weights fetch: argument --backbone: invalid choice: 'vgg19'"),
        (["fetch", "--backbone", "vgg16"], "weights fetch: the following arguments are required: --to"),
        (["fetch", "--backbone", "all", "--from", "a.h5", "--to", "x"], "the one whose weights a.h5 holds"),
        (["fetch", "--backbone", "vgg16", "--from", "none", "--to", "x"], "weights: found none, expected imagenet"),
        (["fetch", "--backbone", "vgg16", "--to", "gs://x"], "gs://: unknown kind of store"),
        ([], "weights: the following arguments are required: fetch"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["weights", *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.splitlines()) == 1
