"""The commands that a Markdown file shows in its console blocks, and the same commands at a small size."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# Behind the job's own flags, so these win.
SIZES = {
    "train": "--limit 600 --epochs 1",
    "tune": "--limit 400 --max-epochs 1 --retrain-epochs 1",
    "crossval": "--limit 400 --folds 2 --epochs 1",
    "transfer": "--limit 100 --epochs 1",
    "pipeline": "--profile smoke",
}
_BLOCK = re.compile(
    r"(?:<!-- not run here(?: \((?P<only>[^)]+)\))?: (?P<reason>[^>]+) -->\s*\n)?```console\n(.*?)^```", re.S | re.M
)
_COMMENT = re.compile(r"\s+#\s.*")


@dataclass(frozen=True)
class Command:
    """A command of a console block.

    Attributes:
        line: number of its line in the file, from 1.
        text: what stands behind the prompt, with the lines that it goes on in, without a comment.
        skipped: why no test runs it; empty for those that one does.
    """

    line: int
    text: str
    skipped: str = ""


def commands(markdown: str) -> list[Command]:
    """Returns the commands, the lines behind ``$ ``, of all fenced blocks marked ``console``, in order.

    A comment above a block, ``<!-- not run here: REASON -->``, keeps all its commands from being run, or with
    ``not run here (make test, make pipeline): REASON`` those that begin so.
    """
    found = []
    for block in _BLOCK.finditer(markdown):
        begin = markdown.count("\n", 0, block.start(3)) + 1
        only = tuple(prefix.strip() for prefix in (block["only"] or "").split(",")) if block["only"] else ("",)
        lines = block[3].splitlines()
        for offset, line in enumerate(lines):
            if line.startswith("$ "):
                end = offset
                while lines[end].endswith("\\"):
                    end += 1
                text = "\n".join([line[2:], *lines[offset + 1 : end + 1]])
                text = _COMMENT.sub("", text)
                skipped = block["reason"] if block["reason"] and text.startswith(only) else ""
                found.append(Command(begin + offset, text, skipped))
    return found


def small(command: Command) -> Command:
    """Returns the command with a small size where it starts a job: by make, by fmnist, or by a script of jobs/."""
    job = re.search(rf"(?:\bmake |\bfmnist |\bjobs/)({'|'.join(SIZES)})\b", command.text)
    if not job:
        return command
    size = SIZES[job[1]]
    if not job[0].startswith("make "):
        return replace(command, text=f"{command.text} {size}")
    text, own = re.subn(r'ARGS="([^"]*)"', rf'ARGS="\1 {size}"', command.text)
    return replace(command, text=text if own else f'{command.text} ARGS="{size}"')
