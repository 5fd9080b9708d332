"""What all jobs declare: a `Job` and its typed configuration, the only place where a default lives.

The command line, the YAML form, ``--print-config`` and the text of ``--help`` all come from the configuration classes,
of which each job has its own. Importing this module imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse.typing import (
    NonNegativeFloat,
    OpenUnitInterval,
    PositiveInt,
    restricted_number_type,
    restricted_string_type,
)

from fmnist.errors import UserError
from fmnist.strict_yaml import LARGEST_INTEGER

SPACES = ("notebook", "extended", "fast")
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
    "int": "a whole number",
    "float": "a number",
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


# What every generator of random numbers takes; scikit-learn's takes no more.
Seed = number_type("Seed", int, [(">=", 0), ("<", 2**32)], "a whole number of 0 to 4294967295")


def may_change(default: Any) -> Any:
    """Declares a setting that a resumed run may change, with its default.

    No number of a run depends on such a setting: where its files are, and how much of a cluster it takes. A run keeps
    its number of lanes, whatever workers and processors it resumes with.
    """
    return field(default=default, metadata={"may_change": True})


def settled(default: str = "auto", **metadata: bool) -> Any:
    """Declares a setting that may be ``auto``: a new run settles it by what the cluster has.

    A resumed run takes what was settled.
    """
    return field(default=default, metadata={"settled": True, **metadata})


def gpu_share() -> Any:
    """Declares how many GPUs one process of a kind gets, a `GpuShare` that is `settled`."""
    return settled(gpu_share=True)


_BUILDER = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
ModelName = text_type(
    "ModelName",
    rf"^({'|'.join(MODELS + SPACES)}|{_BUILDER})$",
    f"one of {', '.join(MODELS + SPACES)}, or module:function",
)
SpaceName = text_type(
    "SpaceName", rf"^({'|'.join(SPACES)}|{_BUILDER})$", f"one of {', '.join(SPACES)}, or module:function"
)
TrackerNames = text_type(
    "TrackerNames",
    "^(tensorboard|mlflow|tensorboard,mlflow|mlflow,tensorboard)$",
    "tensorboard, mlflow, or both with a comma between",
)
WorkerRange = text_type("WorkerRange", r"^[1-9]\d{0,5}:[1-9]\d{0,5}$", "a range such as 1:8")
TwoOrMore = number_type("TwoOrMore", int, (">=", 2), "a whole number of 2 or more")


class SettingError(UserError, TypeError):
    """A value that a setting cannot have.

    Args:
        field: the setting's name.
        value: that was found.
        hint: the setting's type.
    """

    def __init__(self, field: str, value: Any, hint: Any) -> None:
        super().__init__(f"{field}: found {_shown(value)}, expected {_expected(hint)}")
        self.field = field


# GPUs of a process, 0 to 1. A job sees numbers only: auto is settled when Ray has said what there is.
GpuShare: Any = NonNegativeFloat | Literal["auto"]


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
        track: Show the run in TensorBoard, in MLflow, or in both, while it works; docs/tracking.md has more.
        allow_overlap: Train even if more than 1 % of the test images equal a training image.
        val_fraction: Share of the training images set aside for validation, stratified by class.
        seed: Of the split, the initial weights and the order of the images.
        limit: Number of training images to use, after shuffling by the seed; all if not given.
        precision: Of matrix products; weights stay float32. auto takes bfloat16 if the processor has instructions for
            it; a resumed run keeps what was taken.
        xla: Compile training with XLA; auto does so on a GPU if the training has some 3,000 steps or more. It is slower
            on a CPU.
        deterministic: Use only operations that compute the same numbers in each run on the same GPU. Folds always do.
    """

    # Settings of earlier versions: files may still have them, and they have no effect.
    removed: ClassVar[tuple[str, ...]] = ()
    # A folder of settings files, each with what it reaches in its first line: the flag --recipe reads one by its name.
    recipes: ClassVar[Path | None] = None

    data: str = "auto"
    artifacts: str = may_change("artifacts")
    run_id: str | None = may_change(None)
    overwrite: bool = may_change(False)
    skip_finished: bool = may_change(False)
    wait: bool = may_change(False)
    track: TrackerNames | None = may_change(None)  # type: ignore[valid-type]
    allow_overlap: bool = may_change(False)
    val_fraction: OpenUnitInterval = 0.2
    seed: Seed = 0  # type: ignore[valid-type]
    limit: PositiveInt | None = None
    precision: Literal["float32", "bfloat16", "auto"] = settled("float32")
    xla: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False

    def __post_init__(self) -> None:
        """Raises a `SettingError` if a setting has a value that it cannot have, wherever it came from."""
        for name, hint in hints(type(self)).items():
            if not fits(getattr(self, name), hint):
                raise SettingError(name, getattr(self, name), hint)

    @classmethod
    def fixed_settings(cls) -> frozenset[str]:
        """Names of the settings that a resumed run must not change."""
        return frozenset(one.name for one in fields(cls)) - cls.declared("may_change")

    @classmethod
    def declared(cls, kind: Literal["may_change", "settled", "gpu_share"]) -> frozenset[str]:
        """Returns the names of the settings that the function of that name declares."""
        return frozenset(one.name for one in fields(cls) if one.metadata.get(kind))


def batch_size_of(hyperparameters: Mapping[str, Any] | None, default: int) -> int:
    """Returns the images per step: the hyper-parameter ``batch_size`` if there is one, else ``default``."""
    return int((hyperparameters or {}).get("batch_size", default))


def worker_range(workers: int | str) -> tuple[int, int]:
    """Returns the least and the greatest number of workers that a setting names, such as 2 or ``1:8``."""
    least, _, most = str(workers).partition(":")
    return int(least), int(most or least)


def own_builder(config: JobConfig) -> str | None:
    """Returns the ``module:function`` of a user's own model or search space; None for a job on fmnist's."""
    name = model_of(config)
    return name if ":" in name else None


def model_of(config: JobConfig) -> str:
    """Returns the name of the model or search space that a job trains, empty for a job without one."""
    return getattr(config, "model", None) or getattr(config, "space", None) or ""


def hints(config_class: type[JobConfig]) -> dict[str, Any]:
    """Returns the type of each setting by name."""
    hints = get_type_hints(config_class)
    return {one.name: hints[one.name] for one in fields(config_class)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is one of a type's; a truth is no number."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, kind) for kind in arguments)
    if origin is dict:
        of_name, of_value = arguments
        return isinstance(value, dict) and all(fits(k, of_name) and fits(v, of_value) for k, v in value.items())
    if origin is list:
        return isinstance(value, list) and all(fits(one, arguments[0]) for one in value)
    if isinstance(value, bool) or hint in (bool, NoneType):
        return isinstance(value, hint)
    plain = next(plain for plain in (int, float, str) if issubclass(hint, plain))
    if not isinstance(value, (int, float) if plain is float else plain):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return False
    try:
        # jsonargparse's restricted types are called to check.
        return hint(value) == value
    except (TypeError, ValueError):
        return False


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _expected(hint: Any) -> str:
    """Says what values a type has."""
    if get_origin(hint) is Literal:
        *others, last = map(str, get_args(hint))
        return f"one of {', '.join([*others, last])}" if others else last
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_expected(kind) for kind in get_args(hint) if kind is not NoneType)
    return EXPECTED[(get_origin(hint) or hint).__name__]
