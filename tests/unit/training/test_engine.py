"""The training loop, on random images and a network small enough to check by hand."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmnist.data import Images
from fmnist.errors import TrainingError
from fmnist.models import sparse_cross_entropy
from fmnist.models.factory import build
from fmnist.models.optimizers import FusedAdam
from fmnist.models.serving import without_augmentation
from fmnist.training import checkpoint, engine
from fmnist.training.examples import on_device
from fmnist.training.history import History


def tiny_model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    images = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(images))
    logits = keras.layers.Dense(10, name="logits")(x)
    return keras.Model(images, keras.layers.Softmax()(logits))


def random_images(count: int, seed: int) -> Images:
    random = np.random.default_rng(seed)
    return Images(
        random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.integers(0, 10, count, dtype=np.uint8)
    )


TRAIN, VAL = random_images(50, 1), random_images(23, 2)


def run(model: keras.Model, epochs: int = 1, **options: object) -> list[engine.EpochResult]:
    optimizer = options.pop("optimizer", None) or keras.optimizers.SGD(0.01)
    settings = {"batch_size": 16, "seed": 0, **options}
    return list(engine.train(model, sparse_cross_entropy, optimizer, TRAIN, VAL, epochs=epochs, **settings))


def mean_loss(model: keras.Model, images: Images) -> float:
    probabilities = model.predict(images.pixels, verbose=0)
    return float(-np.log(probabilities[np.arange(len(images)), images.labels]).mean())


def test_a_step_is_gradient_descent_on_the_mean_loss_of_its_batch() -> None:
    model = tiny_model()
    kernel, bias = model.get_weights()
    run(model, batch_size=50, optimizer=keras.optimizers.SGD(0.1))

    x = TRAIN.pixels.reshape(50, -1) / 255
    logits = x @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (probabilities - np.eye(10)[TRAIN.labels]) / 50

    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * x.T @ error, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias - 0.1 * error.sum(axis=0), atol=1e-6)


def test_the_last_incomplete_batch_counts_each_of_its_images_once() -> None:
    (result,) = run(tiny_model(), optimizer=keras.optimizers.SGD(1e-12))

    assert len(result.step_losses) == 4  # 16 + 16 + 16 + 2
    assert result.loss == pytest.approx(mean_loss(tiny_model(), TRAIN), rel=1e-5)


def test_validation_covers_every_image_once() -> None:
    model = tiny_model()
    (result,) = run(model)

    right = model.predict(VAL.pixels, verbose=0).argmax(axis=1) == VAL.labels
    assert result.val_accuracy == pytest.approx(right.mean(), abs=1e-9)
    assert result.val_loss == pytest.approx(mean_loss(model, VAL), rel=1e-5)


def test_a_run_resumed_at_an_epoch_equals_an_undisturbed_one() -> None:
    whole = tiny_model()
    undisturbed = run(whole, epochs=3)

    model, optimizer = tiny_model(), keras.optimizers.SGD(0.01)
    run(model, epochs=1, optimizer=optimizer)
    resumed = run(model, epochs=3, first_epoch=2, optimizer=optimizer)

    assert [result.epoch for result in resumed] == [2, 3]
    assert [result.loss for result in resumed] == [result.loss for result in undisturbed[1:]]
    np.testing.assert_array_equal(model.get_weights()[0], whole.get_weights()[0])


def test_a_checkpoint_of_averaged_weights_goes_on_as_if_there_had_been_no_end(tmp_path: Path) -> None:
    def averaging() -> keras.optimizers.Optimizer:
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))

    whole = tiny_model()
    undisturbed = run(whole, epochs=3, optimizer=averaging())

    model, optimizer = tiny_model(), averaging()
    (first,) = run(model, epochs=1, optimizer=optimizer)
    assert first.val_loss == pytest.approx(mean_loss(model, VAL), rel=1e-5)
    checkpoint.save(tmp_path, model, optimizer, History((first.row(),)))

    model, optimizer = tiny_model(seed=1), averaging()
    checkpoint.restore(tmp_path, model, optimizer)
    resumed = run(model, epochs=3, first_epoch=2, optimizer=optimizer)

    assert [result.val_loss for result in resumed] == [result.val_loss for result in undisturbed[1:]]
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_epoch_sees_the_images_in_another_order_that_the_seed_decides() -> None:
    first, same, other = (run(tiny_model(), epochs=2, seed=seed)[1].step_losses for seed in (0, 0, 1))

    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_loss_that_is_not_finite_names_epoch_and_step() -> None:
    with pytest.raises(TrainingError, match=r"epoch 1, step \d of 4: the loss is (nan|inf), expected a finite number"):
        run(tiny_model(), optimizer=keras.optimizers.SGD(1e38))


def test_regularisation_of_the_model_reaches_the_gradient() -> None:
    keras.utils.set_random_seed(0)
    images = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Rescaling(0.0)(keras.layers.Flatten()(images))
    dense = keras.layers.Dense(10, name="logits", kernel_regularizer=keras.regularizers.L2(1.0))
    model = keras.Model(images, keras.layers.Softmax()(dense(x)))
    before = model.get_weights()[0]

    run(model, batch_size=50, optimizer=keras.optimizers.SGD(0.1))

    np.testing.assert_allclose(model.get_weights()[0], before * 0.8, atol=1e-6)


def convolutional_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((28, 28, 1))(images))
    x = keras.layers.Conv2D(2, 5, strides=3, activation="relu")(x)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(keras.layers.BatchNormalization(momentum=0.9)(x)))
    return keras.Model(images, keras.layers.Softmax()(keras.layers.Dense(10, name="logits")(x)))


# Each has one convolution or two, so that XLA compiles it in seconds on a CPU; the whole models are slow.
@pytest.mark.parametrize(
    "of",
    [
        convolutional_model,
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("lenet5", "lenet5-1998", "notebook", "extended")),
    ],
)
def test_a_compiled_epoch_computes_the_same(of: Callable[[], keras.Model] | str, monkeypatch) -> None:
    # Two validation steps, of which the second is incomplete.
    monkeypatch.setattr(engine, "VALIDATION_BATCH_SIZE", 16)

    def of_epochs(xla: bool) -> list[engine.EpochResult]:
        if callable(of):
            return run(of(), epochs=2, xla=xla, note=pytest.fail, optimizer=FusedAdam(1e-3, use_ema=True))
        # Random layers draw other numbers in a compiled program.
        built = build(of, {"DROPOUT_1": 0.0, "dropout": 0.0}, learning_rate=1e-3, seed=0, precision="float32")
        model = without_augmentation(built.model)
        settings = {"batch_size": 16, "epochs": 2, "seed": 0, "xla": xla, "note": pytest.fail}
        return list(engine.train(model, built.loss, built.optimizer, TRAIN, VAL, **settings))

    for compiled, plain in zip(of_epochs(True), of_epochs(False), strict=True):
        np.testing.assert_allclose(compiled.step_losses, plain.step_losses, rtol=1e-3)
        assert compiled.val_loss == pytest.approx(plain.val_loss, rel=1e-3)
        assert compiled.accuracy == plain.accuracy and compiled.val_accuracy == plain.val_accuracy


def test_an_epoch_is_compiled_once_whatever_its_last_batches(monkeypatch) -> None:
    monkeypatch.setattr(engine, "VALIDATION_BATCH_SIZE", 16)
    traced = []

    class Traced(keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            traced.append(x.shape)
            return x

    images = keras.Input((28, 28), dtype="uint8")
    x = Traced()(keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(images)))
    model = keras.Model(images, keras.layers.Softmax()(keras.layers.Dense(10, name="logits")(x)))
    settings = {"batch_size": 16, "epochs": 3, "seed": 0, "xla": True}
    epochs = engine.train(model, sparse_cross_entropy, keras.optimizers.SGD(0.01), TRAIN, VAL, **settings)

    next(epochs)
    of_first_epoch = len(traced)

    assert len(list(epochs)) == 2 and len(traced) == of_first_epoch


def test_a_layer_that_keras_knows_not_to_compile_is_named() -> None:
    keras.utils.set_random_seed(0)
    images = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.RandomRotation(0.1, name="turned")(keras.layers.Reshape((28, 28, 1))(images))
    logits = keras.layers.Dense(10, name="logits")(keras.layers.Flatten()(x))
    model, notes = keras.Model(images, keras.layers.Softmax()(logits), name="mine"), []

    (result,) = run(model, xla=True, note=notes.append)

    assert np.isfinite(result.loss)
    assert notes == ["model 'mine' is trained without XLA, which cannot compile layer 'turned', as Keras knows"]


class PoissonNoise(keras.layers.Layer):
    """An operation that XLA does not have, in a layer that does not say so."""

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return x + 1e-3 * tf.random.poisson(tf.shape(x), 1.0, seed=1) if training else x


def test_a_layer_that_xla_refuses_is_named_and_the_model_trained_as_a_graph() -> None:
    def noisy_model() -> keras.Model:
        keras.utils.set_random_seed(0)
        images = keras.Input((28, 28), dtype="uint8")
        noisy = PoissonNoise(name="noisy")(keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(images)))
        logits = keras.layers.Dense(10, name="logits")(noisy)
        return keras.Model(images, keras.layers.Softmax()(logits), name="mine")

    notes: list[str] = []
    refused, plain = run(noisy_model(), epochs=2, xla=True, note=notes.append), run(noisy_model(), epochs=2)

    assert notes == ["model 'mine' is trained without XLA, which cannot compile layer 'noisy' (RandomPoissonV2)"]
    # Nothing was changed by the attempt.
    assert [result.loss for result in refused] == [result.loss for result in plain]


@pytest.mark.parametrize("lanes", [2, 3])
def test_lanes_change_nothing_but_rounding(lanes: int) -> None:
    whole, split = tiny_model(), tiny_model()
    expected = run(whole, epochs=2)
    actual = run(split, epochs=2, shard=engine.Shard(lanes=lanes))

    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_allclose(other.step_losses, one.step_losses, rtol=1e-5)
        assert other.accuracy == one.accuracy
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-5)
    np.testing.assert_allclose(split.get_weights()[0], whole.get_weights()[0], atol=1e-6)


def test_fused_adam_takes_the_steps_of_adam() -> None:
    weights = []
    for optimizer in (keras.optimizers.Adam(0.01, beta_1=0.8, epsilon=1e-5), FusedAdam(0.01, beta_1=0.8, epsilon=1e-5)):
        model = tiny_model()
        run(model, epochs=3, optimizer=optimizer)
        weights.append([*model.get_weights(), *(np.asarray(variable) for variable in optimizer.variables)])

    for plain, fused in zip(*weights, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-6)


def test_images_are_converted_once_for_all_models_of_a_process() -> None:
    images, others = random_images(8, seed=0), random_images(4, seed=1)
    assert on_device(images)[0] is on_device(images)[0]
    assert on_device(others)[0].shape == (4, 28, 28)


def test_positions_are_the_images_at_those_places() -> None:
    places, val_places = np.array([3, 1, 40, 7, 9, 22, 30]), np.array([5, 0, 11])
    chosen, optimizer = tiny_model(), keras.optimizers.SGD(0.01)
    settings = {"batch_size": 4, "seed": 5, "epochs": 2}
    of_positions = list(
        engine.train(
            chosen,
            sparse_cross_entropy,
            optimizer,
            TRAIN,
            VAL,
            train_positions=places,
            val_positions=val_places,
            **settings,
        )
    )

    copied = tiny_model()
    parts = TRAIN.select(places), VAL.select(val_places)
    of_copies = list(engine.train(copied, sparse_cross_entropy, keras.optimizers.SGD(0.01), *parts, **settings))

    for one, other in zip(of_positions, of_copies, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6)
