"""The transfer job."""

from typing import Any

from fmnist.config import Job
from fmnist.workflows.transfer.config import BACKBONES, TRANSFER, TransferConfig


def run(config: TransferConfig, resources: Any = None) -> Any:
    """Runs the job; what it needs is imported only now."""
    from fmnist.workflows.transfer.job import transfer

    return transfer(config, resources)


def check(config: TransferConfig) -> None:
    """Obtains the weights, so that a missing file is reported before anything is trained."""
    from functools import partial

    from fmnist.console import plain_console
    from fmnist.workflows.transfer.weights import obtain_weights

    for backbone in BACKBONES if config.backbone == "all" else (config.backbone,):
        obtain_weights(config.weights, backbone, partial(plain_console().print, markup=False))


JOB = Job(
    TRANSFER, "train new heads on networks trained on ImageNet, and leave a finished run", TransferConfig, run, check
)
