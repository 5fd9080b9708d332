"""A job, as the command line, the pipeline and the documentation know it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmnist.config import JobConfig


@dataclass(frozen=True)
class Job:
    """A job's declaration. It names what it consists of, so that ``fmnist --help`` imports none of it.

    Attributes:
        name: of the job and its command.
        summary: one line for ``fmnist --help``.
        config: the class of its settings, as ``module:class``; `Config` is the class itself.
        driver: the function that runs the job, as ``module:function`` or itself. It takes the settings and, if a Ray
            cluster is connected already, its resources; it returns the finished run folder.
        checker: a function, as ``module:function``, that raises a `UserError` if a file that the settings name is
            missing; it starts nothing. For jobs that have more than data and artifact store to check.
        extender: a function, as ``module:function``, that takes a finished run and the settings, and returns whether
            the run lacks something that they ask for. The job continues such a run.
    """

    name: str
    summary: str
    config: str
    driver: str | Callable[..., Any]
    checker: str | None = None
    extender: str | None = None

    @property
    def Config(self) -> type[JobConfig]:  # noqa: N802
        """The class of the job's settings."""
        settings: type[JobConfig] = _imported(self.config)
        return settings

    def run(self, config: JobConfig, resources: Any = None) -> Any:
        """Runs the job and returns the finished run folder.

        Args:
            resources: of a Ray cluster that is connected already; None connects to one.
        """
        return _imported(self.driver)(config, resources)

    def check(self, config: JobConfig) -> None:
        """Checks the files that the settings name.

        Raises:
            UserError: if one is missing.
        """
        if self.checker:
            _imported(self.checker)(config)

    def extends(self, run: Any, config: JobConfig) -> bool:
        """Whether the job continues a finished run of the same settings, since it lacks something they ask for."""
        return self.extender is not None and _imported(self.extender)(run, config)


def _imported(what: str | Callable[..., Any]) -> Any:
    if not isinstance(what, str):
        return what
    module, _, name = what.partition(":")
    return getattr(importlib.import_module(module), name)
