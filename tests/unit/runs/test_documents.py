"""A run's documents, whatever bytes they have: a row of the list that says so, and one line elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import examples
from hypothesis import example, given
from hypothesis import strategies as st

from fmnist import cli
from fmnist.errors import IntegrityError
from fmnist.runs import CONFIG, MANIFEST, METRICS, RunFolder
from fmnist.runs.documents import DEEPEST, LARGEST_JSON, LARGEST_YAML, Names, parse_json, parse_yaml
from fmnist.runs.lifecycle import changed_setting
from fmnist.storage import FolderStore
from fmnist.workflows.train.config import TrainConfig

GOOD: dict[str, Any] = {
    "job": "train",
    "model": "lenet5",
    "finished": "2026-11-23T18:45:00Z",
    "seconds": {"total": 61.5},
    "test": {"accuracy": 0.91, "accuracy_low": 0.9, "accuracy_high": 0.92, "per_class": [{"label": 0}]},
}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
# Bytes of any kind, any value as JSON, and good metrics of which one value is another.
DOCUMENTS = (
    st.binary(max_size=40)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda name, value: json.dumps(GOOD | {name: value}).encode(), st.sampled_from([*GOOD, "held_out"]), VALUES
    )
    | st.builds(lambda name, value: json.dumps(GOOD | {"test": {name: value}}).encode(), st.text(max_size=9), VALUES)
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """A store with an intact run, `good`, and a run to be damaged, `one`."""
    store = FolderStore(tmp_path_factory.mktemp("artifacts"))
    for run_id in ("good", "one"):
        run = RunFolder(store, run_id)
        run.put_bytes(CONFIG, b"epochs: 3\ndata: auto\n")
        run.put_json(METRICS, GOOD)
        run.finish("train")
    return store


@pytest.fixture
def damaged(store: FolderStore) -> Iterator[RunFolder]:
    """The run `one`, which is intact again afterwards."""
    before = {path: store.get_bytes(f"one/{path}") for path in (CONFIG, METRICS, MANIFEST)}
    yield RunFolder(store, "one")
    for path, content in before.items():
        store.put_bytes(f"one/{path}", content)


def outcome(capsys: pytest.CaptureFixture[str], run: RunFolder, *arguments: str) -> tuple[int, str, list[str]]:
    """Runs `fmnist runs`; returns exit code, output, and the lines of errors."""
    code = cli.main(["runs", *arguments, "--artifacts", run.store.location])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


def check(capsys: pytest.CaptureFixture[str], run: RunFolder) -> list[str]:
    """Checks that the damaged run is a row of the list, and elsewhere at most one line; returns the row."""
    code, out, errors = outcome(capsys, run, "list")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, errors) == (0, [])
    assert [row[:3] for row in rows[:2]] == [["run", "job", "status"], ["good", "train", "finished"]]
    assert [len(row) for row in rows] == [8, 8, 8] and rows[2][0] == "one"
    for arguments in (["show", "one"], ["compare", "one", "good", "--all"]):
        code, out, errors = outcome(capsys, run, *arguments)
        assert (code, len(errors)) in {(0, 0), (1, 1)}, arguments
        assert code == 0 or (errors[0].startswith("fmnist: ") and "/one/" in errors[0] and out == "")
        assert all(line.isprintable() for line in out.expandtabs(1).splitlines())
    return rows[2]


@examples(25)
@given(content=DOCUMENTS)
@example(content=b"")
@example(content=b"null")
@example(content=b"[]")
@example(content=b"\xff\xfe")
@example(content=b"[" * 100_000)
@example(content=b'{"seconds": 1' + b"0" * 5000 + b"}")
@example(content=b'{"finished": "2026-11-23T18:45:00Z", "seconds": {"total": 1e999}}')
@example(content=json.dumps(GOOD | {"finished": "now\n\x1b[31m"}).encode())
@example(content=json.dumps(GOOD | {"seconds": {"total": "nan"}}).encode())
def test_any_metrics_are_a_row_and_at_most_one_line(
    content: bytes, damaged: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(damaged.location, METRICS).write_bytes(content)
    row = check(capsys, damaged)
    assert row[1] == "train"
    assert (row[2], row[7] == "-") in {("finished", True), ("damaged", False)}


@examples(25)
@given(content=DOCUMENTS)
@example(content=b'{"schema": 1, "run_id": "one", "job": "a\\tb\\n", "created": "x", "files": []}')
def test_any_manifest_is_a_row_and_at_most_one_line(
    content: bytes, damaged: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(damaged.location, MANIFEST).write_bytes(content)
    check(capsys, damaged)


@examples(25)
@given(content=DOCUMENTS | VALUES.map(lambda value: yaml.dump({"data": value}).encode()))
@example(content=b"epochs: 2026-11-24\n")
@example(content=b"? \n")
@example(content=b"{?: 1}")
@example(content=b"a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n")
@example(content=b"[" * 100_000)
@example(content=b"1: 2\n")
def test_any_settings_are_at_most_one_line(
    content: bytes, damaged: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(damaged.location, CONFIG).write_bytes(content)
    assert check(capsys, damaged)[2] == "finished"
    try:
        changed_setting(damaged, TrainConfig())
    except IntegrityError as error:
        assert str(error).startswith(f"{damaged.location}/{CONFIG}: damaged")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "expected names with values"),
        (b"\xff", "not JSON"),
        (b'{"a": NaN}', "found NaN, expected a finite number"),
        (b'{"a": 1e999}', "found 1e999, expected a finite number"),
        (b'{"a": 9223372036854775808}', "expected an integer of 64 bits"),
        (b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST, f"nested more than {DEEPEST} deep"),
        (b"[" * 10**6, "not JSON"),
        (b" " * (LARGEST_JSON + 1), f"expected at most {LARGEST_JSON:,}"),
    ],
)
def test_bad_json_is_named_with_its_reason(content: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=r"^here: damaged") as raised:
        parse_json(content, Names, "here")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not YAML"),
        (b"\xff", "not YAML"),
        (b"", "expected names with values"),
        (b"a: 1\na: 2", "line 2, column 1: found a twice"),
        (b"[" * 100_000, f"nested more than {DEEPEST} deep"),
        (b"a: !!set {b}", "not YAML"),
        (b"a: &b [1]\nc: *b", "found an alias"),
        (b" " * (LARGEST_YAML + 1), f"expected at most {LARGEST_YAML:,}"),
    ],
)
def test_bad_yaml_is_named_with_its_reason(content: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=r"^here: damaged") as raised:
        parse_yaml(content, Names, "here")
    assert message in str(raised.value)


def test_document_that_is_too_large_is_not_read(damaged: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(damaged.location, METRICS).open("wb") as file:
        file.truncate(LARGEST_JSON + 1)
    monkeypatch.setattr(FolderStore, "get_bytes", lambda *_: pytest.fail("was read"))
    with pytest.raises(IntegrityError, match=r"metrics\.json: damaged, found 16,777,217 bytes"):
        damaged.get_json(METRICS)


def test_manifest_with_a_path_twice_is_damaged(damaged: RunFolder) -> None:
    path = Path(damaged.location, MANIFEST)
    manifest = json.loads(path.read_bytes())
    manifest["files"].append(manifest["files"][0] | {"size": 1})
    path.write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"manifest\.json: damaged, found config\.yaml 2 times"):
        damaged.manifest()


def test_run_folder_shows_what_and_where_it_is(store: FolderStore) -> None:
    assert repr(RunFolder(store, "good")) == f"<run good in {store.location}>"
