"""What needs a GPU that TensorFlow finds. `make bench-gpu` measures how fast it is."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="TensorFlow finds no GPU here"),
]

TRAIN = """
import json, sys
model, xla, deterministic = json.loads(sys.argv[1])
from fmnist.training import devices
lanes = devices.configure_tensorflow(2, deterministic=deterministic)
import numpy as np
from fmnist.data import Images
from fmnist.models.factory import build
from fmnist.training import engine

random = np.random.default_rng(0)
pixels, labels = random.integers(0, 256, (1500, 28, 28), np.uint8), random.integers(0, 10, 1500, np.uint8)
built = build(model, {"DROPOUT_1": 0.0}, learning_rate=1e-3, seed=0, precision="float32")
notes = []
epochs = engine.train(
    built.model, built.loss, built.optimizer, Images(pixels, labels), Images(pixels[:1100], labels[:1100]),
    batch_size=64, epochs=2, seed=0, shard=engine.Shard(lanes=lanes), xla=xla, note=notes.append,
)
losses = [[*map(float, epoch.step_losses), epoch.val_loss] for epoch in epochs]
print("RESULT", json.dumps({"losses": losses, "notes": notes, "devices": devices.device_names()}))
"""


def trained(model: str, *, xla: bool, deterministic: bool = False) -> np.ndarray:
    """Returns the losses of a training in a process of its own."""
    given = json.dumps([model, xla, deterministic])
    done = subprocess.run([sys.executable, "-c", TRAIN, given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    assert found["notes"] == [] and any("GPU" in name for name in found["devices"])
    return np.array(found["losses"])


@pytest.mark.parametrize("model", ["lenet5", "lenet5-1998", "notebook"])
def test_a_compiled_epoch_on_a_gpu_has_the_losses_of_the_graph(model: str) -> None:
    # TF32 products have three digits.
    np.testing.assert_allclose(trained(model, xla=True)[0], trained(model, xla=False)[0], rtol=2e-2)


def test_the_best_space_is_compiled_on_a_gpu() -> None:
    assert np.isfinite(trained("extended", xla=True)).all()


def test_deterministic_training_on_a_gpu_repeats_to_the_last_digit() -> None:
    first, second = (trained("extended", xla=True, deterministic=True) for _ in range(2))

    np.testing.assert_array_equal(first, second)
