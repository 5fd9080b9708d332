"""A saved model in the formats of other runtimes: ONNX, LiteRT and TensorFlow's SavedModel, in float32 or in int8."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fmnist.console import quiet_libraries
from fmnist.data import SIDE
from fmnist.errors import FmnistError, UserError, one_line, printable

Format = Literal["onnx", "litert", "savedmodel"]
Predictor = Callable[[np.ndarray], np.ndarray]

# Of the files, by format; a SavedModel is a folder.
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "litert": ".tflite", "savedmodel": "-savedmodel"}
# What writes and runs a format beside TensorFlow and Keras; an extra of our package has the format's name.
LIBRARIES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "litert": ("ai_edge_litert",),
    "savedmodel": (),
}
QUANTIZED: tuple[Format, ...] = ("onnx", "litert")
INPUT = "images"
BATCH_SIZE = 1000


def check_libraries(kind: Format) -> None:
    """Raises a `UserError` that says what to install if a library of a format is missing; imports none."""
    if missing := [name for name in LIBRARIES[kind] if importlib.util.find_spec(name) is None]:
        raise UserError(f"to: {kind} needs {', '.join(missing)}: pip install {' '.join(missing)}, or fmnist[{kind}]")


def export_model(model: Any, kind: Format, path: Path, calibration: np.ndarray | None = None) -> Predictor:
    """Writes a model for another runtime, and returns the function that predicts with what was written.

    Args:
        model: a Keras model of uint8 images [n, 28, 28] and probabilities [n, 10].
        path: of the file, or of the folder of a SavedModel; must not exist.
        calibration: uint8 images [n, 28, 28] by which the ranges of int8 are chosen; None writes float32.

    Raises:
        FmnistError: if the model has what the format has not.
    """
    try:
        # TensorFlow's converters and LiteRT write to standard error, and some of their modules warn.
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _WRITERS[kind](model, path, calibration)
            return _PREDICTORS[kind](path)
    # Each converter has errors of its own, of which none is documented.
    except Exception as error:
        raise FmnistError(f"cannot be exported to {kind}: {printable(one_line(error))[:300]}") from error


def predict(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """Returns float32 probabilities [n, 10] of uint8 images [n, 28, 28]."""
    batches = [pixels[start : start + BATCH_SIZE] for start in range(0, len(pixels), BATCH_SIZE)]
    return np.concatenate([np.asarray(predictor(batch), np.float32) for batch in batches])


def _export(model: Any, kind: str, path: Path, **options: Any) -> None:
    import keras

    signature = [keras.InputSpec(shape=(None, SIDE, SIDE), dtype="uint8", name=INPUT)]
    model.export(path, format=kind, input_signature=signature, verbose=False, **options)


def _write_savedmodel(model: Any, path: Path, calibration: np.ndarray | None) -> None:
    _export(model, "tf_saved_model", path)


def _write_onnx(model: Any, path: Path, calibration: np.ndarray | None) -> None:
    _export(model, "onnx", path)
    if calibration is not None:
        _quantize_onnx(path, calibration)


def _quantize_onnx(path: Path, calibration: np.ndarray) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Images(CalibrationDataReader):
        images = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({INPUT: image[None]} for image in self.images), None)

    written = path.with_suffix(".float32.onnx")
    path.rename(written)
    quantize_static(written, path, Images(), per_channel=True, weight_type=QuantType.QInt8)
    written.unlink()


def _write_litert(model: Any, path: Path, calibration: np.ndarray | None) -> None:
    import keras
    import tensorflow as tf

    # LiteRT has no padding of plain uint8, and a Functional model casts to the dtype of its own input.
    images = keras.Input((SIDE, SIDE), dtype="uint8", name=INPUT)
    of_floats = keras.models.clone_model(model, input_tensors=keras.Input((SIDE, SIDE), dtype="float32"))
    of_floats.set_weights(model.get_weights())
    served = keras.Model(images, of_floats(keras.ops.cast(images, "float32")))
    options: dict[str, Any] = {}
    if calibration is not None:
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
        options["representative_dataset"] = lambda: ([image[None]] for image in calibration)
    # Only operations that every LiteRT has: by default Keras takes TensorFlow's too, for which phones need more.
    only_own = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    _export(served, "litert", path, target_spec=only_own, **options)


def _savedmodel(path: Path) -> Predictor:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda pixels: np.asarray(loaded.serve(pixels))


def _onnx(path: Path) -> Predictor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda pixels: np.asarray(session.run(None, {INPUT: pixels})[0])


def _litert(path: Path) -> Predictor:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predictor(pixels: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != pixels.shape:
            interpreter.resize_tensor_input(given["index"], pixels.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(answer["index"]))

    return predictor


_WRITERS: dict[Format, Callable[[Any, Path, np.ndarray | None], None]] = {
    "onnx": _write_onnx,
    "litert": _write_litert,
    "savedmodel": _write_savedmodel,
}
_PREDICTORS: dict[Format, Callable[[Path], Predictor]] = {
    "onnx": _onnx,
    "litert": _litert,
    "savedmodel": _savedmodel,
}
