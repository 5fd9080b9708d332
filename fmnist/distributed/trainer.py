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
from ray import PlacementGroupID
from ray._common.constants import RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import (
    DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE,
    get_env_vars_to_propagate,
)
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, FixedScalingPolicy
from ray.train.v2._internal.execution.scaling_policy.scaling_policy import NoopDecision, ScalingDecision
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerGroupState
from ray.train.v2.tensorflow.tensorflow_trainer import TensorflowTrainer
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.queue import Queue

from fmnist.boundary import lasting, spared
from fmnist.distributed.events import post

# Events of the workers as a whole: their processes are there, or gone, to be started again or because all is done.
WORKERS_STARTED, WORKERS_ENDED = "workers started", "workers ended"


class StrategyTrainer(TensorflowTrainer):
    """Runs a function on workers that ``tf.distribute.MultiWorkerMirroredStrategy`` can connect.

    Args:
        worker: gets ``train_loop_config``; what it returns on rank 0 is the result's ``return_value``.
        events: where Ray Train's controller posts ``WORKERS_STARTED`` and ``WORKERS_ENDED``, if any.
        epochs: number of the last epoch, after which the number of workers changes no more.
        look: called about each second while the workers work; what it raises ends the training.
        settings: arguments of Ray's `TensorflowTrainer` but the backend.
    """

    def __init__(
        self,
        worker: Callable[[dict[str, Any]], Any],
        *,
        events: Queue | None = None,
        epochs: int | None = None,
        look: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> None:
        # Skips TensorflowTrainer's own __init__, which only chooses Ray's backend and imports it.
        super(TensorflowTrainer, self).__init__(worker, backend_config=StrategyConfig(events), **settings)
        self._epochs, self._look = epochs, look

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        """Leaves out what costs a process each and has nothing to do.

        Images are references into the object store, not Ray Data's. The room of a controller that died is freed by the
        driver, which lives as long; Ray's process for it asks the dashboard, and waits 12 s for one that is not there.
        """
        needless = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, needless)]

    def _initialize_and_run_controller(self, **settings: Any) -> ray.train.Result:
        """As Ray's own, but it looks meanwhile, an error that will come again ends it, and so does Control-C.

        Ray's handler of Control-C outlasts training, and exits an interrupted job with 0.
        """
        settings["failure_policy"] = RestartPolicy(self.run_config.failure_config)
        node = ray._private.worker._global_node
        # A cluster that this process has started cannot grow.
        if node is not None and node.head:
            settings["scaling_policy"] = SameNodePolicy(self.scaling_config)
        elif self.scaling_config.elasticity_enabled:
            settings["scaling_policy"] = EpochEndPolicy(self.scaling_config, self._epochs)
        here = {ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}
        environment = get_env_vars_to_propagate()
        environment.setdefault(
            RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR, DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE
        )
        remote = ray.remote(num_cpus=0, label_selector=here, runtime_env={"env_vars": environment})
        controller = remote(TrainController).remote(**settings)
        try:
            ended = controller.run.remote()
            while not ray.wait([ended], timeout=1)[0]:
                self._look()
            ray.get(ended)
            return ray.get(controller.get_result.remote())
        except BaseException:
            # Its workers end with it. The driver of a pipeline goes on, and needs their room.
            with spared("workers that were interrupted may keep their room until the job ends"):
                ray.kill(controller)
                _free_room()
            raise


class RestartPolicy(DefaultFailurePolicy):
    """Starts workers again after a loss, but not after an error that says what is wrong: it would come again."""

    def make_decision(self, training_failed_error: ray.train.TrainingFailedError) -> FailureDecision:
        if lasting(training_failed_error):
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)


class SameNodePolicy(FixedScalingPolicy):
    """A number of workers on a cluster that cannot grow: asks no autoscaler, which costs a process."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class EpochEndPolicy(ElasticScalingPolicy):
    """Changes the number of workers that work when all have reported an epoch, as the next one has hardly begun."""

    def __init__(self, scaling_config: ray.train.ScalingConfig, epochs: int | None) -> None:
        super().__init__(scaling_config)
        self._epochs, self._reported = epochs, set[int]()

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        self._reported.clear()
        return super().make_decision_for_non_running_worker_group()

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        statuses = worker_group_status.worker_statuses
        reports = {rank: status.training_report for rank, status in statuses.items() if status.training_report}
        self._reported |= reports.keys()
        last = any(report.metrics["epoch"] == self._epochs for report in reports.values())
        if len(self._reported) < len(statuses) or last:
            self._maybe_send_resource_request()
            return NoopDecision()
        self._reported.clear()
        return super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)


def _free_room() -> None:
    """Removes this job's placement groups, which outlast the actor that made them."""
    job = ray.get_runtime_context().get_job_id()
    for identifier, group in ray.util.placement_group_table().items():
        # The id of a placement group ends with that of its job.
        if identifier.endswith(job) and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(identifier))))


@dataclass
class StrategyConfig(BackendConfig):
    """Sets the addresses of all workers in each worker."""

    events: Queue | None = None

    @property
    def backend_cls(self) -> type[Backend]:
        return _StrategyBackend


class _StrategyBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: StrategyConfig) -> None:
        addresses = worker_group.execute(get_address_and_port)
        ranks = range(len(worker_group))
        ray.get([worker_group.execute_single_async(rank, _set_addresses, addresses, rank) for rank in ranks])
        _post(backend_config, WORKERS_STARTED)

    def on_shutdown(self, worker_group: Any, backend_config: StrategyConfig) -> None:
        _post(backend_config, WORKERS_ENDED)


def _post(config: StrategyConfig, event: str) -> None:
    if config.events:
        post(config.events, event)


def _set_addresses(addresses: list[tuple[str, int]], rank: int) -> None:
    workers = [f"{host}:{port}" for host, port in addresses]
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})
    # gRPC would ask the proxy of http_proxy for the other workers.
    os.environ.update(no_grpc_proxy=",".join(host for host, _ in addresses))
