"""Ray Train's `TensorflowTrainer` without TensorFlow in the processes that never compute.

Ray's module `ray.train.tensorflow` imports TensorFlow into the driver and the controller (4 s and 500 MB each) and
switches the workers' ``tf.keras`` to Keras 2. Training needs only ``TF_CONFIG`` in each worker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.tensorflow.tensorflow_trainer import TensorflowTrainer

from fmnist.errors import FmnistError


class StrategyTrainer(TensorflowTrainer):
    """Runs a function on workers that ``tf.distribute.MultiWorkerMirroredStrategy`` connects.

    Args:
        worker: gets ``train_loop_config``; what it returns on rank 0 is the result's ``return_value``.
        settings: arguments of Ray's `TensorflowTrainer` but the backend.
    """

    def __init__(self, worker: Callable[[dict[str, Any]], Any], **settings: Any) -> None:
        # Skips TensorflowTrainer's own __init__, which only chooses Ray's backend and imports it.
        super(TensorflowTrainer, self).__init__(worker, backend_config=StrategyConfig(), **settings)

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        arguments["failure_policy"] = RestartPolicy(self.run_config.failure_config)
        return super()._initialize_and_run_controller(**arguments)

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        """Leaves out Ray Data, which costs a process; images are references into the object store."""
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leaves Control-C to Python: Ray Train's handler outlasts training and exits an interrupted job with 0."""


def known_cause(error: ray.train.TrainingFailedError) -> FmnistError | None:
    """Returns the `FmnistError` that a worker or Ray Train's controller ended with; None for any other error."""
    for failure in (*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)):
        while failure is not None and not isinstance(failure, FmnistError):
            # Of Ray's own errors around it: one of a task, and one that a worker's thread ended with.
            failure = getattr(failure, "cause", None) or getattr(failure, "_base_exc", None)
        if failure is not None:
            return failure
    return None


class RestartPolicy(DefaultFailurePolicy):
    """Restarts workers as Ray Train does, but for an `FmnistError`: they would end with it again."""

    def make_decision(self, training_failed_error: ray.train.TrainingFailedError) -> FailureDecision:
        if known_cause(training_failed_error):
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)


@dataclass
class StrategyConfig(BackendConfig):
    """Sets the addresses of all workers in each worker."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _StrategyBackend


class _StrategyBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        addresses = [f"{host}:{port}" for host, port in worker_group.execute(get_address_and_port)]
        ranks = range(len(worker_group))
        ray.get([worker_group.execute_single_async(rank, _set_tf_config, addresses, rank) for rank in ranks])


def _set_tf_config(addresses: list[str], rank: int) -> None:
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}})
