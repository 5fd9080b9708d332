"""What all jobs declare: a `Job` and its typed configuration, the only place where a default lives.

The command line, the YAML form, ``--print-config`` and the text of ``--help`` all come from the configuration classes,
of which each job has its own. Importing this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from jsonargparse.typing import (
    NonNegativeInt,
    OpenUnitInterval,
    PositiveInt,
    restricted_number_type,
    restricted_string_type,
)

SPACES = ("notebook", "extended")
MODELS = ("lenet5", "lenet5-1998")

# What an error message says that a value of a type must be, by the type's name.
EXPECTED = {
    "PositiveInt": "a whole number of 1 or more",
    "NonNegativeInt": "a whole number of 0 or more",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number of 0 or more",
    "OpenUnitInterval": "a number between 0 and 1",
    "dict": "names with values",
    "str": "text",
    "bool": "true or false",
    "list": "a list",
}


def text_type(name: str, pattern: str, expected: str) -> Any:
    """Returns a type of texts that match a regular expression; ``expected`` is what an error says a value must be."""
    EXPECTED[name] = expected
    return restricted_string_type(name, pattern)


def number_type(name: str, base: type, restrictions: Any, expected: str) -> Any:
    """Returns a type of numbers within limits.

    Args:
        name: of the type.
        base: int or float.
        restrictions: a pair such as ``(">=", 2)``, or a list of them.
        expected: what an error message says that a value must be.
    """
    EXPECTED[name] = expected
    return restricted_number_type(name, base, restrictions)


def may_change(default: Any) -> Any:
    """Declares a setting that a resumed run may change, with its default.

    No number of a run depends on such a setting: where its files are, and how much of a cluster it takes. A run keeps
    its number of lanes, whatever workers and processors it resumes with.
    """
    return field(default=default, metadata={"may_change": True})


_BUILDER = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
ModelName = text_type(
    "ModelName",
    rf"^({'|'.join(MODELS + SPACES)}|{_BUILDER})$",
    f"one of {', '.join(MODELS + SPACES)}, or module:function",
)
SpaceName = text_type(
    "SpaceName", rf"^({'|'.join(SPACES)}|{_BUILDER})$", f"one of {', '.join(SPACES)}, or module:function"
)
TwoOrMore = number_type("TwoOrMore", int, (">=", 2), "a whole number of 2 or more")


@dataclass(frozen=True)
class JobConfig:
    """What every job has.

    Attributes:
        data: Where the images are: auto (cache, Debian's package, download), a folder of IDX or CSV files, the train
            CSV of a pair, or an s3:// address of either.
        artifacts: The artifact store for the run folder, a folder or s3://bucket/prefix.
        run_id: Name of the run, made from job and time if not given. An unfinished run of the same id is resumed.
        overwrite: Replace a finished run of the same id instead of refusing.
        skip_finished: Do nothing and exit with 0 if a finished run has the same id and settings, instead of refusing,
            so that the same command can be repeated after a failure.
        wait: Wait while another process works on the run, instead of refusing.
        val_fraction: Share of the training images set aside for validation, stratified by class.
        seed: Of the split, the initial weights and the order of the images.
        limit: Number of training images to use, after shuffling by the seed; all if not given.
        precision: Of matrix products; weights stay float32. auto takes bfloat16 if the processor has instructions for
            it.
        xla: Compile the training step with XLA; auto does so on GPUs only, since it is slower on a CPU.
    """

    # Settings of earlier versions: files may still have them, and they have no effect.
    removed: ClassVar[tuple[str, ...]] = ()

    data: str = "auto"
    artifacts: str = may_change("artifacts")
    run_id: str | None = may_change(None)
    overwrite: bool = may_change(False)
    skip_finished: bool = may_change(False)
    wait: bool = may_change(False)
    val_fraction: OpenUnitInterval = 0.2
    seed: NonNegativeInt = 0
    limit: PositiveInt | None = None
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    xla: Literal["auto", "on", "off"] = "auto"

    @classmethod
    def fixed_settings(cls) -> frozenset[str]:
        """Names of the settings that a resumed run must not change."""
        return frozenset(one.name for one in fields(cls) if not one.metadata.get("may_change"))


def batch_size_of(hyperparameters: Mapping[str, Any] | None, default: int) -> int:
    """Returns the images per step: the hyper-parameter ``batch_size`` if there is one, else ``default``."""
    return int((hyperparameters or {}).get("batch_size", default))
