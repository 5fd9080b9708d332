"""What a process of ours imports: the driver's folders last, and Keras without the parts that no job uses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# By the parts of Keras that import them if they are there. They are a third of the time of Keras' and TensorFlow's
# import, in each worker.
_SPARED = {"keras.src.wrappers": "sklearn", "keras.src.visualization": "matplotlib"}


class _SparingKeras:
    """A finder that finds no scikit-learn and no Matplotlib for Keras, and nothing for anybody else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in _SPARED.values():
            frame = sys._getframe(1)
            while frame.f_back and frame.f_globals.get("__name__", "").startswith("importlib."):
                frame = frame.f_back
            package = frame.f_globals.get("__name__", "").rpartition(".")[0]
            if _SPARED.get(package) == fullname:
                raise ModuleNotFoundError(f"{package} is used without {fullname} in a process of fmnist", name=fullname)
        return None


def spare_keras() -> None:
    """Imports of Keras in this process, which is one of ours, load neither scikit-learn nor Matplotlib."""
    if not any(isinstance(finder, _SparingKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SparingKeras())


def in_ray_worker() -> bool:
    """Whether this is a process that Ray has started for a job's tasks and actors."""
    if not (ray := sys.modules.get("ray")):
        return False
    worker = ray._private.worker.global_worker
    return bool(worker.connected and worker.mode == ray.WORKER_MODE)


def put_last_what_ray_put_first() -> None:
    """Makes the driver's folders the last ones of a Ray worker's import path.

    Ray puts them first: a file beside the data, such as ``optree.py``, would be imported in place of a library. As the
    last ones they still have what ``--space module:function`` names.
    """
    worker = sys.modules["ray"]._private.worker.global_worker
    folders = set(worker.core_worker.get_job_config().py_driver_sys_path)
    sys.path.sort(key=lambda entry: entry in folders)
