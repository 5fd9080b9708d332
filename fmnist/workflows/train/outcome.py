"""What training brings back from the workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmnist.training.history import History


@dataclass(frozen=True)
class TrainOutcome:
    """What rank 0 brings back.

    Attributes:
        history: every epoch of the run, those before a restart included.
        precision: of the products, float32 or bfloat16.
        model: the content of ``model.keras``, with the best epoch's weights.
        parameters: of the model.
        test_probabilities: float32 [n, 10], from the saved model on the raw test images.
        evaluation_seconds: that took.
        devices: what TensorFlow computed on.
        restarts: how often the workers had to be started again.
        failure: why training could not go on; the results below `history` are missing then.
    """

    history: History
    precision: str
    model: bytes = b""
    parameters: int = 0
    test_probabilities: np.ndarray | None = None
    evaluation_seconds: float = 0.0
    devices: tuple[str, ...] = ()
    restarts: int = 0
    failure: str | None = None
