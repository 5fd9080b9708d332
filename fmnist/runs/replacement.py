"""Replacing a finished run: it stays whole until the one that takes its place has something that could be resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

from fmnist.errors import RunError
from fmnist.runs.files import MANIFEST, PROGRESS, REPLACED, STATE_FOLDERS
from fmnist.runs.folder import RunFolder
from fmnist.runs.lease import LeasedStore
from fmnist.runs.manifest import Manifest


class Replacement:
    """A finished run that is about to be replaced.

    Attributes:
        run: the folder, of both.
        done: whether the old run's files are gone.
    """

    def __init__(
        self, run: RunFolder, documents: Mapping[str, bytes], has_progress: Callable[[], bool] | None = None
    ) -> None:
        """Checks that the run can be removed, without removing anything of it.

        Args:
            documents: the new run's first files, which are written when the old one is removed.
            has_progress: whether the new run has something to resume; None looks for a checkpoint in its folder.

        Raises:
            RunError: if this process may not remove the run.
            StoreError: likewise.
        """
        self.run, self.done = run, False
        self._documents = documents
        self._has_progress = has_progress or partial(has_checkpoint, run)
        self._old = run.manifest()
        self._lock = threading.RLock()
        check_removable(run)
        # What an earlier attempt has left must not be resumed.
        known = {file.path for file in self._old.files}
        for path in run.files():
            if path not in known and path != MANIFEST:
                run.delete(path)

    def replace_if_due(self) -> None:
        """Removes the old run if the new one has something to resume."""
        if not self.done and self._has_progress():
            self.replace()

    def before_write(self, path: str) -> None:
        """Removes the old run before a result of the new one is written. Only state may lie beside the old run."""
        if path.partition("/")[0] not in STATE_FOLDERS:
            self.replace()

    def replace(self) -> None:
        """Removes the old run, its manifest first, and writes the new one's first files."""
        with self._lock:
            if self.done:
                return
            self.done = True
            # Whoever resumes after a kill in these lines knows by it which files are the old run's.
            self.run.put_bytes(REPLACED, self._old.to_json())
            self.run.reopen()
            remove_replaced(self.run, self._documents)


def check_removable(run: RunFolder) -> None:
    """Raises a `RunError` if this process cannot remove a run's folder whole."""
    if reason := run.store.why_not_removable(run.run_id):
        raise RunError(f"{run.location}: cannot be replaced: {reason}")


def has_checkpoint(run: RunFolder) -> bool:
    """Whether a run's folder has something to resume; a finished run has not."""
    return any(path.partition("/")[0] in STATE_FOLDERS and path.rpartition("/")[2] in PROGRESS for path in run.files())


def replace_finished(
    run: RunFolder, documents: Mapping[str, bytes], has_progress: Callable[[], bool] | None = None
) -> None:
    """Has a finished run replaced as soon as the new one has something to resume; arguments as of `Replacement`."""
    replacement = Replacement(run, documents, has_progress)
    lease = run.store.lease if isinstance(run.store, LeasedStore) else None
    if lease is None:
        replacement.replace()
        return
    lease.before_write, lease.watch = replacement.before_write, replacement.replace_if_due


def remove_replaced(run: RunFolder, documents: Mapping[str, bytes]) -> None:
    """Removes what is left of a run that was being replaced; ``documents`` are the first files of the new one."""
    if not run.exists(REPLACED):
        return
    old = Manifest.parse(run.get_bytes(REPLACED), f"{run.location}/{REPLACED}")
    for path, content in documents.items():
        run.put_bytes(path, content)
    # The new run's state lies beside the old one's folders, never in them.
    for folder in {file.path.rpartition("/")[0] for file in old.files} - {""}:
        run.store.delete_folder(f"{run.run_id}/{folder}")
    for file in old.files:
        if "/" not in file.path and file.path not in documents:
            run.delete(file.path)
    run.delete(REPLACED)
