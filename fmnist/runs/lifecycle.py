"""Opening a run: new, resumed, or refused."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from fmnist import data
from fmnist.config import JobConfig
from fmnist.console import console
from fmnist.errors import RunError
from fmnist.options import settings_yaml
from fmnist.runs.documents import Names, json_bytes
from fmnist.runs.environment import environment as environment_here
from fmnist.runs.files import CHECKPOINTS, CONFIG, DATA, ENVIRONMENT
from fmnist.runs.folder import RunFolder
from fmnist.runs.inputs import INPUTS, changed_input, inputs_of, versions_before
from fmnist.runs.lease import check_free, leased
from fmnist.runs.replacement import check_removable, remove_replaced, replace_finished
from fmnist.runs.run_id import new_run_id
from fmnist.storage import open_store

Config = TypeVar("Config", bound=JobConfig)
Extends = Callable[[RunFolder, Config], bool]
# What an opened run is: without files, unfinished, finished but lacking something, finished and to be replaced, or
# finished with nothing to do.
Entry = Literal["new", "resumed", "extended", "replaced", "done"]


@dataclass(frozen=True)
class OpenedRun:
    """A run that this process may write, and what it found, decided once.

    Attributes:
        folder: of the run; every write through it is fenced, also after the run was closed.
        entry: what was found.
        inputs: sha256 of everything that the run reads, by name.
        job: that the run is of.
    """

    folder: RunFolder
    entry: Entry
    inputs: Mapping[str, str] = field(default_factory=dict)
    job: str = ""

    @property
    def done(self) -> bool:
        """Whether there is nothing to do."""
        return self.entry == "done"

    @property
    def is_resumed(self) -> bool:
        """Whether the run has files to go on from."""
        return self.entry in {"resumed", "extended"}

    def fact(self, name: str) -> Any:
        """Returns what the environment of a run to go on from says of ``name``; None if nothing."""
        if not (self.is_resumed and self.folder.exists(ENVIRONMENT)):
            return None
        return self.folder.get_record(ENVIRONMENT, dict[str, Any]).get(name)

    @property
    def checkpoint_suffix(self) -> str:
        """What the names of checkpoints end with, so that they lie beside those of a finished run being replaced."""
        return f"-{secrets.token_hex(3)}" if self.entry == "replaced" and self.folder.state() == "finished" else ""


def never(run: RunFolder, config: JobConfig) -> bool:
    """Of a job that continues no finished run."""
    return False


@contextmanager
def open_run(job: str, config: Config, extends: Extends[Config] = never) -> Iterator[OpenedRun]:
    """Opens a run for the block, after `check_run`: takes its lease, without writing anything else into its folder.

    An unfinished run of the same id and settings is resumed, with ``overwrite`` too, so the same command continues
    after a crash.

    Raises:
        RunError: as `check_run`.
        LeaseError: from the block, if another process takes the run over.
    """
    opened = check_run(job, config, extends)
    note = console.print
    with ExitStack() as stack:
        # What is done needs no lease, nor a store that can be written.
        if not opened.done:
            run = opened.folder
            store = stack.enter_context(leased(run.store, run.run_id, note, wait=config.wait))
            folder = RunFolder(store, run.run_id)
            # Another process may have finished it since.
            opened = OpenedRun(folder, _entry(folder, config, extends), job=job)
        if opened.done:
            note(_done_line(opened.folder))
        yield opened


def check_run(job: str, config: Config, extends: Extends[Config] = never) -> OpenedRun:
    """Checks what can be checked before anything heavy is imported or started: store, run id and data source.

    Returns what was found, in a folder that is not fenced; ``job`` is the job's name, for the id of a new run. A
    finished run that ``extends`` says lacks something is one to continue.

    Raises:
        StoreError: if the artifact store cannot be written.
        RunError: if the id is that of a run of other settings and ``overwrite`` is off, or of a finished one and
            ``skip_finished`` is off too; or if another process works on the run and ``wait`` is off.
        DataError: if there is no data where the settings say, unless the run is finished already.
    """
    if config.overwrite and config.skip_finished:
        raise RunError("overwrite, skip_finished: found both, expected one of them at most")
    store = open_store(config.artifacts)
    store.check()
    run = RunFolder(store, config.run_id or new_run_id(job))
    found = OpenedRun(run, _entry(run, config, extends), job=job)
    if not found.done:
        if not config.wait:
            check_free(store, run.run_id)
        data.check_source(config.data)
    return found


def _entry(run: RunFolder, config: Config, extends: Extends[Config]) -> Entry:
    """Decides what a job with this configuration does with the run in this folder; a RunError if nothing."""
    state, changed = run.state(), changed_setting(run, config)
    if state == "finished" and not config.overwrite and not changed:
        if extends(run, config):
            return "extended"
        if config.skip_finished:
            return "done"
    if state != "finished" and not changed:
        return "new" if state == "absent" else "resumed"
    if config.overwrite:
        return "replaced"
    conflict = changed if changed and (state != "finished" or config.skip_finished) else "finished already"
    raise _conflict(run, conflict)


def _conflict(run: RunFolder, reason: str) -> RunError:
    return RunError(f"run {run.run_id} in {run.store.location}: {reason}; take another --run-id, or --overwrite")


def with_inputs(
    opened: OpenedRun, config: JobConfig, data_summary: Mapping[str, Any], more: Mapping[str, str]
) -> OpenedRun:
    """Returns an opened run with its inputs: the images of ``data_summary``, ``more``, and the user's code.

    Raises:
        RunError: if a run to be resumed has read others, and ``overwrite`` is off.
    """
    opened = replace(opened, inputs=inputs_of(config, data_summary, more))
    if opened.is_resumed and (changed := changed_input(opened.folder, opened.inputs)):
        if not config.overwrite:
            raise _conflict(opened.folder, changed)
        return replace(opened, entry="replaced")
    return opened


def is_done(job: str, config: JobConfig) -> bool:
    """Whether a job has nothing to do, after `check_run`; then a line says so."""
    found = check_run(job, config)
    if found.done:
        console.print(_done_line(found.folder))
    return found.done


def _done_line(run: RunFolder) -> str:
    return f"run {run.run_id} in {run.store.location}: finished already, nothing to do"


def begin_run(
    opened: OpenedRun,
    config: JobConfig,
    data_summary: dict[str, Any],
    has_progress: Callable[[], bool] | None = None,
    more: Mapping[str, bytes] = MappingProxyType({}),
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Writes settings, data summary and environment of a run that starts; returns the environment.

    A finished run that is to be replaced stays until the new one has something to resume: then these files are written.

    Args:
        has_progress: whether the new run has that; None looks for a checkpoint in its folder.
        more: other files to write then, by path.
        facts: that the environment has besides.
    """
    run = opened.folder
    earlier = versions_before(run, console.print) if opened.is_resumed else []
    environment = {
        **environment_here(),
        INPUTS: dict(opened.inputs),
        **facts,
        **({"earlier": earlier} if earlier else {}),
    }
    documents = {
        CONFIG: settings_yaml({**asdict(config), "run_id": run.run_id}).encode(),
        DATA: json_bytes(data_summary),
        ENVIRONMENT: json_bytes(environment),
        **more,
    }
    if opened.entry == "replaced" and run.state() == "finished":
        replace_finished(run, documents, has_progress)
        return environment
    if opened.entry == "replaced":
        check_removable(run)
        run.remove()
    elif opened.entry == "extended":
        run.reopen()
    remove_replaced(run, documents)
    for path, content in documents.items():
        run.put_bytes(path, content)
    return environment


def changed_setting(run: RunFolder, config: JobConfig) -> str | None:
    """Names the first setting that a job's numbers depend on and that differs from the run's; None if none does."""
    if run.exists(CONFIG):
        before = run.get_yaml(CONFIG, Names)
        # A run of an earlier version has no value of a newer setting: it worked as the default says.
        defaults = {one.name: one.default for one in fields(config)}
        for name, now in asdict(config).items():
            then = before.get(name, defaults[name])
            # Where it was settled by what there was, the run goes on with that.
            settled = now == "auto" and name in config.declared("settled")
            if name not in config.fixed_settings() or then == now or settled:
                continue
            # A run that diverged, or that is long enough, is finished with the epochs that it has.
            if name != "epochs" or now != _trained_epochs(run):
                return f"started with {name} {then}, found {now}"
    return None


def _trained_epochs(run: RunFolder) -> int:
    """Returns the last epoch of which an unfinished training has a checkpoint, 0 without one."""
    names = [path.split("/")[1] for path in run.files() if path.startswith(f"{CHECKPOINTS}/epoch-")]
    # What follows the number is of a checkpoint that lay beside those of a run that was replaced.
    return max((int(name.split("-")[1]) for name in names if name.split("-")[1].isdigit()), default=0)
