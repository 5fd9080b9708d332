"""Errors of the libraries that commands use, as they raise them: those that are a line, and those that are bugs."""

from __future__ import annotations

import argparse
import errno
import io

import boto3.exceptions
import botocore.exceptions
import grpc
import jsonargparse
import numpy as np
import pytest
import ray.exceptions
import ray.train
import ray.tune
import tensorflow as tf

from fmnist.errors import StoreError, TrainingError

SECRET = "marker-of-a-secret"


class RefusedError(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


def of_task(cause: Exception) -> Exception:
    return ray.exceptions.RayTaskError("step", "the traceback\nof the task", cause).as_instanceof_cause()


def of_constructor(last_line: str) -> Exception:
    text = f'Traceback (most recent call last):\n  File "a.py", line 1, in __init__\n{last_line}'
    return ray.exceptions.ActorDiedError(ray.exceptions.RayTaskError("Actor.__init__", text, ValueError()))


def of_mlflow() -> Exception:
    mlflow = pytest.importorskip("mlflow.exceptions")
    error: Exception = mlflow.MlflowException("API request failed\nwith more lines")
    return error


# Of a function in Python, TensorFlow keeps the text of its traceback.
IN_FUNCTION = "ConnectionError: worker 1 is gone"
LINES = [
    TrainingError("the loss is nan"),
    OSError(errno.ENOSPC, "No space left on device", "/runs/a"),
    PermissionError(errno.EACCES, "Permission denied", "/runs/a"),
    OSError("AF_UNIX path too long"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((1 << 60,), np.dtype("uint8")),
    argparse.ArgumentError(None, "two\nlines"),
    jsonargparse.ParserError(None, "two\nlines"),
    botocore.exceptions.NoCredentialsError(),
    botocore.exceptions.EndpointConnectionError(endpoint_url=f"http://user:{SECRET}@host"),
    botocore.exceptions.ProxyConnectionError(proxy_url=f"http://user:{SECRET}@proxy", error="refused"),
    botocore.exceptions.ClientError({"Error": {"Code": "ExpiredToken", "Message": SECRET}}, "GetObject"),
    boto3.exceptions.S3UploadFailedError(f"Failed to upload a to http://user:{SECRET}@host"),
    ray.exceptions.RaySystemError("the raylet\nis gone"),
    ray.exceptions.ObjectStoreFullError("full"),
    ray.exceptions.OutOfMemoryError("killed\nby Ray"),
    of_task(OSError(errno.ENOSPC, "No space left on device", "/runs/a")),
    of_task(StoreError("s3://runs: cannot connect")),
    ray.train.WorkerGroupError("two\nlines", {0: of_task(TrainingError("the loss is nan"))}),
    ray.train.ControllerError(StoreError("s3://runs: cannot connect")),
    ray.tune.TuneError("two\nlines"),
    of_constructor("fmnist.errors.StoreError: s3://runs: access denied"),
    tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
    tf.errors.UnavailableError(None, None, "Socket closed\nmore"),
    tf.errors.AbortedError(None, None, "Collective ops is aborted\nmore"),
    tf.errors.DeadlineExceededError(None, None, "Collective ops timed out\nmore"),
    tf.errors.UnknownError(None, None, f"{{{{node}}}} {IN_FUNCTION}\nTraceback …\n\n{IN_FUNCTION}\n\n[[{{{{node}}}}]]"),
    RefusedError(),
]
TRACEBACKS = [
    TypeError("a bug"),
    KeyError("a bug"),
    AssertionError(),
    RecursionError(),
    io.UnsupportedOperation("not readable"),
    tf.errors.InvalidArgumentError(None, None, "a bug in a model"),
    tf.errors.UnknownError(None, None, "ValueError: a bug in a model\nTraceback (most recent …"),
    of_constructor("ValueError: a bug in a model"),
    np.linalg.LinAlgError("singular"),
    of_task(ValueError("a bug in a model")),
    ray.train.WorkerGroupError("two\nlines", {0: of_task(ValueError("a bug in a model"))}),
]
