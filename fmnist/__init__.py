"""Batch training for Fashion-MNIST, the same on a laptop and on a Kubernetes GPU cluster."""

import os

__version__ = "0.1.0"

# Keras reads its backend once, at import; a person's own ~/.keras/keras.json must not change what these jobs run on.
os.environ["KERAS_BACKEND"] = "tensorflow"
# TensorFlow's native notes (instruction sets, absent GPUs); what goes wrong is raised as an exception all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Ray reads it at its import: on a busy machine the dashboard of a local Ray takes longer than 60 s to start.
os.environ.setdefault("RAY_DASHBOARD_STARTUP_TIMEOUT_S", "300")
