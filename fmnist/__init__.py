"""Batch training for Fashion-MNIST, the same on a laptop and on a Kubernetes GPU cluster."""

import os

from fmnist.imports import in_ray_worker, put_last_what_ray_put_first, spare_keras

__version__ = "0.1.0"

# Keras reads its backend once, at import; the user's ~/.keras/keras.json must not change what these jobs run on.
os.environ["KERAS_BACKEND"] = "tensorflow"
# TensorFlow's native notes (instruction sets, absent GPUs); what goes wrong is raised as an exception all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Ray reads it at its import: on a busy machine the dashboard of a local Ray takes longer than 60 s to start.
os.environ.setdefault("RAY_DASHBOARD_STARTUP_TIMEOUT_S", "300")
# scikit-learn sets both at its import, unless they are set. A thread of a job imports it while Ray starts, and Ray may
# crash if the environment changes while it reads it.
os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "True")
os.environ.setdefault("KMP_INIT_AT_FORK", "FALSE")

# A Ray worker imports nothing of ours before this.
if in_ray_worker():
    put_last_what_ray_put_first()
    spare_keras()
