"""Users' compiled models: what becomes of their inputs, softmax, loss and optimizer."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.optimizers.base_optimizer import BaseOptimizer

from fmnist.data import Images
from fmnist.errors import UserError
from fmnist.models import LOGITS, precision_policy
from fmnist.models.compiled import MAY_DEFINE, SET_BY_KERAS, Trainable, trainable
from fmnist.models.optimizers import FusedAdam, fused
from fmnist.training import engine

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (300, 28, 28), dtype=np.uint8)
# Labels that can be learnt: whether the upper half is brighter than the lower one.
LABELS = (PIXELS[:, :14].mean(axis=(1, 2)) > PIXELS[:, 14:].mean(axis=(1, 2))).astype(np.uint8)
IMAGES = Images(PIXELS, LABELS)
SCALED = PIXELS.astype("float32") / 255


def padded(pixels: np.ndarray, before: int, after: int) -> np.ndarray:
    return np.pad(pixels, ((0, 0), (before, after), (before, after)))


def compiled(model: keras.Model, loss: Any = "sparse_categorical_crossentropy", **arguments: Any) -> keras.Model:
    model.compile(arguments.pop("optimizer", "adam"), loss=loss, metrics=["accuracy"], **arguments)
    return model


def sequential_32() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(4, 5, activation="relu"),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        name="sequential_32",
    )


def functional_28() -> keras.Model:
    image = keras.Input((28, 28, 1))
    x = layers.Flatten()(layers.MaxPooling2D(7)(layers.Conv2D(4, 3)(image)))
    return keras.Model(image, layers.Softmax()(layers.Dense(10)(x)))


def flat() -> keras.Model:
    return keras.Sequential([keras.Input((784,)), layers.Dense(10), layers.Activation("softmax")])


def three_channels() -> keras.Model:
    return keras.Sequential(
        [keras.Input((33, 33, 3)), layers.Conv2D(3, 9, strides=8), layers.Flatten(), layers.Dense(10, "softmax")]
    )


def no_channels_and_augmentation() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, 0.1),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def without_input() -> keras.Model:
    """As in keras-tuner's own guide."""
    return keras.Sequential([layers.Flatten(), layers.Dense(8, activation="relu"), layers.Dense(10, "softmax")])


def model_in_a_model() -> keras.Model:
    return keras.Sequential([keras.Input((32, 32, 1)), layers.RandomFlip(), sequential_32()])


def raw_integers() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28), dtype="uint8"),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


INPUTS: list[tuple[Callable[[], keras.Model], np.ndarray]] = [
    (sequential_32, padded(SCALED, 2, 2)[..., None]),
    (functional_28, SCALED[..., None]),
    (flat, SCALED.reshape(-1, 784)),
    (three_channels, np.repeat(padded(SCALED, 2, 3)[..., None], 3, axis=-1)),
    (no_channels_and_augmentation, SCALED),
    (without_input, SCALED[..., None]),
    (model_in_a_model, padded(SCALED, 2, 2)[..., None]),
    (raw_integers, PIXELS),
]


@pytest.mark.parametrize(("build", "fed"), INPUTS, ids=lambda value: getattr(value, "__name__", ""))
def test_raw_images_give_what_the_users_model_gives_for_images_it_is_fed_with(
    build: Callable[[], keras.Model], fed: np.ndarray, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    expected = build().predict(fed[:50], verbose=0)
    keras.utils.set_random_seed(0)
    result = trainable(compiled(build())).model
    probabilities = result.predict(PIXELS[:50], verbose=0)

    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    logits = keras.Model(result.inputs[0], result.get_layer(LOGITS).output).predict(PIXELS[:50], verbose=0)
    np.testing.assert_allclose(keras.ops.softmax(logits), expected, atol=1e-6)
    assert np.abs(logits.sum(axis=1)).max() > 1e-3
    assert (result.input_shape, result.output_shape) == ((None, 28, 28), (None, 10))
    assert result.inputs[0].dtype == "uint8"

    result.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(PIXELS[:50], verbose=0), probabilities)


def test_logits_are_not_the_logarithm_of_rounded_probabilities() -> None:
    users = compiled(flat())
    users.set_weights([np.zeros((784, 10)), np.arange(10) * 100.0])
    result = trainable(users).model

    logits = keras.Model(result.inputs[0], result.get_layer(LOGITS).output).predict(PIXELS[:1], verbose=0)

    np.testing.assert_array_equal(logits, [np.arange(10) * 100.0])


def test_a_saved_model_loads_without_this_package(tmp_path: Path) -> None:
    users = sequential_32()
    compiled(users, optimizer=FusedAdam(0.01))
    trainable(users).model.save(tmp_path / "model.keras")
    code = (
        "import sys; sys.modules['fmnist'] = None; import keras, numpy; "
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r}); "
        "print(model(numpy.zeros((1, 28, 28), 'uint8')).shape)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "(1, 10)"


def test_a_model_of_raw_images_with_logits_keeps_its_layers() -> None:
    users = compiled(ready())
    result = trainable(users).model

    assert result.layers == users.layers
    assert not result.compiled


def ready() -> keras.Model:
    images = keras.Input((28, 28), dtype="uint8")
    logits = layers.Dense(10, name="logits")(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    return keras.Model(images, layers.Softmax()(logits))


def test_a_layer_called_logits_that_is_not_fed_to_the_softmax_does_not_count() -> None:
    images = keras.Input((28, 28), dtype="uint8")
    logits = layers.Dense(10, name="logits")(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    users = compiled(keras.Model(images, layers.Softmax()(layers.Rescaling(0.5)(logits))))
    expected = users.predict(PIXELS[:5], verbose=0)
    result = trainable(users).model

    logits = keras.Model(result.inputs[0], result.get_layer(LOGITS).output).predict(PIXELS[:5], verbose=0)

    np.testing.assert_allclose(keras.ops.softmax(logits), expected, atol=1e-6)


@pytest.mark.parametrize("build", [sequential_32, functional_28, flat, ready])
def test_with_bfloat16_products_logits_and_probabilities_are_float32(build: Callable[[], keras.Model]) -> None:
    with precision_policy("bfloat16"):
        result = trainable(compiled(build())).model
    with_logits = keras.Model(result.inputs[0], result.get_layer(LOGITS).output)
    logits, probabilities = (model(PIXELS[:20]) for model in (with_logits, result))

    assert (logits.dtype, probabilities.dtype) == ("float32", "float32")
    rounded = keras.ops.cast(keras.ops.cast(logits, "bfloat16"), "float32")
    assert not np.array_equal(logits, rounded)


LOSSES: list[tuple[Any, bool, float]] = [
    ("sparse_categorical_crossentropy", False, 0),
    ("categorical_crossentropy", False, 0),
    (keras.losses.sparse_categorical_crossentropy, False, 0),
    (keras.losses.SparseCategoricalCrossentropy(), False, 0),
    (keras.losses.SparseCategoricalCrossentropy(from_logits=True), True, 0),
    (keras.losses.CategoricalCrossentropy(label_smoothing=0.2), False, 0.2),
    (keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1, reduction="mean"), True, 0.1),
]


@pytest.mark.parametrize(("loss", "from_logits", "smoothing"), LOSSES)
def test_losses_are_the_users(loss: Any, from_logits: bool, smoothing: float) -> None:
    activation = None if from_logits else "softmax"
    users = compiled(keras.Sequential([keras.Input((784,)), layers.Dense(10, activation)]), loss)
    probabilities = users.predict(SCALED.reshape(-1, 784)[:20], verbose=0)
    if from_logits:
        probabilities = keras.ops.softmax(probabilities)
    targets = np.eye(10)[LABELS[:20]] * (1 - smoothing) + smoothing / 10
    result = trainable(users)

    logits = keras.Model(result.model.inputs[0], result.model.get_layer(LOGITS).output)(PIXELS[:20])
    np.testing.assert_allclose(
        result.loss(LABELS[:20].astype("int32"), logits), -(targets * np.log(probabilities)).sum(axis=1), rtol=1e-4
    )


class Subclass(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def dense(inputs: tuple[int, ...] = (784,), units: int = 10, activation: str | None = "softmax") -> keras.Model:
    return keras.Sequential([keras.Input(inputs), layers.Flatten(), layers.Dense(units, activation)], name="mine")


def two_outputs() -> keras.Model:
    image = keras.Input((784,))
    return keras.Model(image, [layers.Dense(10, "softmax")(image), layers.Dense(10, "softmax")(image)], name="mine")


def frozen() -> keras.Model:
    model = dense()
    model.trainable = False
    return model


def regularised_softmax() -> keras.Model:
    last = layers.Dense(10, "softmax", activity_regularizer="l2", name="last")
    return keras.Sequential([keras.Input((784,)), last])


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: None, "the builder's model: found NoneType, expected a compiled keras.Model"),
    (dense, "model 'mine': found no optimizer and loss, expected a model that compile() was called on"),
    (lambda: compiled(dense(), "mse"), "model 'mine': found loss mean_squared_error, expected sparse_cat"),
    (lambda: compiled(dense(), lambda y, p: p), "model 'mine': found loss <lambda>, expected sparse_cat"),
    (lambda: compiled(dense(), keras.losses.Poisson()), "model 'mine': found loss Poisson, expected sparse_cat"),
    (lambda: compiled(dense(), None), "model 'mine': found loss None, expected sparse_cat"),
    (lambda: compiled(dense(), "nonsense"), "model 'mine': found loss nonsense, expected sparse_cat"),
    (
        lambda: compiled(dense(), keras.losses.SparseCategoricalCrossentropy(reduction="sum")),
        "model 'mine': found loss with reduction 'sum', expected a mean",
    ),
    (
        lambda: compiled(dense(), keras.losses.SparseCategoricalCrossentropy(ignore_class=3)),
        "model 'mine': found loss with ignore_class 3, expected none",
    ),
    (
        lambda: compiled(dense(), loss_weights=[2.0]),
        "model 'mine': found loss_weights, expected none, as there is one output",
    ),
    (
        lambda: compiled(Subclass(name="mine")),
        "model 'mine': found a subclass of keras.Model, expected a Sequential or functional one",
    ),
    (lambda: compiled(two_outputs()), "model 'mine': found 1 inputs and 2 outputs, expected one of each"),
    (lambda: compiled(dense(units=9)), "model 'mine': found output [n, 9], expected [n, 10]"),
    (lambda: compiled(dense((27, 32, 1))), "model 'mine': found input [n, 27, 32, 1], expected [n, H, W]"),
    (lambda: compiled(dense((28, 28, 2))), "model 'mine': found input [n, 28, 28, 2], expected [n, H, W]"),
    (lambda: compiled(dense((785,))), "model 'mine': found input [n, 785], expected [n, H, W]"),
    (
        lambda: compiled(dense(activation="sigmoid")),
        "without softmax, expected a softmax, or a loss with from_logits=True",
    ),
    (lambda: compiled(frozen()), "model 'mine': found no trainable weights, expected some"),
    (
        lambda: compiled(regularised_softmax()),
        "found activity_regularizer of the softmax 'last', expected none",
    ),
    (
        lambda: compiled(keras.Sequential([layers.LSTM(4), layers.Dense(10, "softmax")], name="mine")),
        "model 'mine': found no keras.Input, and layers that do not take [n, 28, 28, 1] (",
    ),
]


@pytest.mark.parametrize(("build", "message"), WRONG)
def test_what_cannot_be_trained_is_named_in_one_line(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        trainable(build())

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a user who did not register it with Keras."""

    def __call__(self, step: Any) -> Any:
        return 0.01 / (1 + keras.ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {}


def slow() -> float:
    return 0.005


SETTINGS: list[dict[str, Any]] = [
    {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-4},
    {"learning_rate": Halving()},
    {"learning_rate": slow},
    {"weight_decay": 0.1},
    {"clipnorm": 0.01},
    {"global_clipnorm": 0.01},
    {"clipvalue": 0.001},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
    {"amsgrad": True},
    {"gradient_accumulation_steps": 2},
    {"loss_scale_factor": 8.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_a_fused_optimizer_takes_the_steps_of_the_original(kind: type, settings: dict[str, Any]) -> None:
    quick = fused(kind(**settings))
    assert type(quick) is FusedAdam

    first, second = (after_steps(optimizer) for optimizer in (kind(**settings), quick))

    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(other, one, rtol=2e-4, atol=1e-6)


def after_steps(optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    """Weights and the optimizer's variables after 20 steps with gradients of any size."""
    random = np.random.default_rng(1)
    variables = [keras.Variable(random.normal(size=shape).astype("float32")) for shape in ((5, 4), (4,))]
    optimizer.build(variables)
    for _ in range(20):
        optimizer.apply([keras.ops.convert_to_tensor(random.normal(size=v.shape), "float32") for v in variables])
    return [np.asarray(variable) for variable in (*variables, *optimizer.variables)]


def test_other_optimizers_and_used_ones_are_kept() -> None:
    class Mine(keras.optimizers.Adam):
        pass

    used, sparing = keras.optimizers.Adam(), keras.optimizers.AdamW()
    used.build([keras.Variable([0.0])])
    sparing.exclude_from_weight_decay(var_names=["bias"])

    for optimizer in (keras.optimizers.SGD(), Mine(), FusedAdam(), used, sparing):
        assert fused(optimizer) is optimizer


# One for each argument that all optimizers take; the test below it says when Keras has a new one.
OPTIMIZERS: list[Callable[[], Any]] = [
    lambda: "sgd",
    lambda: keras.optimizers.AdamW(0.003, weight_decay=0.02),
    lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.01, 40), weight_decay=0.01, clipnorm=0.1),
    lambda: keras.optimizers.SGD(0.01, clipvalue=0.01),
    lambda: keras.optimizers.SGD(0.01, global_clipnorm=0.1),
    lambda: keras.optimizers.SGD(0.01, gradient_accumulation_steps=3),
    lambda: keras.optimizers.SGD(0.01, loss_scale_factor=1024.0),
    lambda: keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.9),
    lambda: keras.optimizers.Adam(0.003, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=7),
    lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, use_ema=True), initial_scale=2.0**127),
    lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.003), dynamic_growth_steps=5),
]


def test_every_argument_of_an_optimizer_is_among_those_tried() -> None:
    taken = set(inspect.signature(BaseOptimizer.__init__).parameters) - {"self", "kwargs", "name"}
    tried = "".join(inspect.getsource(sys.modules[__name__]).partition("OPTIMIZERS:")[2].partition("\n]\n")[0])
    assert [name for name in taken - {"learning_rate"} if f"{name}=" not in tried] == []


class Penalty(layers.Layer):
    """Adds a loss of its own."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.1 * keras.ops.mean(x**2))
        return x


FROZEN_AND_PENALTY = (OPTIMIZERS[0], lambda: [layers.Dense(16, trainable=False), Penalty()])


@pytest.mark.parametrize(("make", "more"), [*((make, list) for make in OPTIMIZERS), FROZEN_AND_PENALTY])
def test_the_engine_trains_as_keras_does(make: Callable[[], Any], more: Callable[[], list[layers.Layer]]) -> None:
    def build() -> keras.Model:
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((32, 32, 1)),
                layers.Conv2D(4, 5, strides=3, activation="relu", kernel_regularizer="l2"),
                layers.Flatten(),
                *more(),
                layers.Dense(10, activation="softmax", kernel_constraint="max_norm"),
            ]
        )
        return compiled(model, keras.losses.CategoricalCrossentropy(label_smoothing=0.1), optimizer=make())

    theirs, ours = build(), trainable(build())
    results = run(ours, epochs=4)
    fed = padded(SCALED, 2, 2)[..., None]
    for epoch in range(1, 5):
        order = np.random.default_rng([0, epoch]).permutation(len(IMAGES))
        for batch in np.split(order, range(32, len(order), 32)):
            theirs.train_on_batch(fed[batch], np.eye(10)[LABELS[batch]])
    # As `fit` does at its end: the averages become the weights.
    theirs.optimizer.finalize_variable_values(theirs.trainable_variables)

    assert results[-1].loss < results[0].loss
    for expected, actual in zip(theirs.get_weights(), ours.model.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


# What `compile` takes, and what becomes of it.
COMPILE = {
    "optimizer": "used",
    "loss": "used",
    "loss_weights": "refused",
    "metrics": "documented",
    "weighted_metrics": "documented",
    "run_eagerly": "documented",
    "steps_per_execution": "documented",
    "jit_compile": "documented",
    "auto_scale_loss": "documented",
}


def test_every_argument_of_compile_is_used_refused_or_documented() -> None:
    assert set(inspect.signature(keras.Model.compile).parameters) - {"self"} == set(COMPILE)
    text = Path(__file__).parents[3].joinpath("docs", "search-spaces.md").read_text()
    assert [name for name in COMPILE if f"`{name}`" not in text] == []


def test_arguments_of_compile_that_training_does_not_use_are_named() -> None:
    def unused(**arguments: Any) -> tuple[str, ...]:
        model = flat()
        model.compile("adam", "sparse_categorical_crossentropy", **arguments)
        return trainable(model).unused

    assert unused() == unused(metrics=["accuracy", keras.metrics.SparseCategoricalAccuracy()]) == ()
    assert unused(metrics=["acc", keras.metrics.TopKCategoricalAccuracy(3, name="top3")]) == ("metric top3",)
    assert unused(weighted_metrics=["mse"], run_eagerly=True) == ("metric mse", "run_eagerly")
    assert unused(steps_per_execution=4) == ("steps_per_execution",)


# All that Keras' model has, but what a model may define.
METHODS = sorted({name for name in dir(keras.Model) if not name.startswith("__")} - MAY_DEFINE | {"__call__"})


def is_refused(model: keras.Model, owner: str, name: str) -> bool:
    try:
        trainable(model)
    except UserError as error:
        return f"found {owner}.{name}, expected Keras' own" in str(error)
    return False


@pytest.mark.parametrize("build", [functional_28, flat])
def test_what_a_subclass_replaces_of_keras_model_is_refused(build: Callable[[], keras.Model]) -> None:
    model = compiled(build())
    kind = type(model)
    accepted = []
    for name in METHODS:
        model.__class__ = type("Mine", (kind,), {name: getattr(kind, name)})
        if not is_refused(model, "Mine", name):
            accepted.append(name)

    assert accepted == []


@pytest.mark.parametrize("build", [functional_28, flat])
def test_what_is_replaced_on_the_model_itself_is_refused(build: Callable[[], keras.Model]) -> None:
    model = compiled(build())
    accepted = []
    for name in METHODS:
        # Python takes special methods from the class only; and what is no function is no override.
        if callable(getattr(keras.Model, name)) and name not in SET_BY_KERAS | {"__call__"}:
            vars(model)[name] = getattr(model, name)
            if not is_refused(model, "model", name):
                accepted.append(name)
            del vars(model)[name]
    assert accepted == []

    model.train_step = lambda data: {}
    assert is_refused(model, "model", "train_step")


@pytest.mark.parametrize("build", [functional_28, flat])
def test_what_keras_sets_on_a_model_is_no_override(build: Callable[[], keras.Model]) -> None:
    model = compiled(build(), keras.losses.SparseCategoricalCrossentropy())
    fed = SCALED.reshape(-1, 784) if build is flat else SCALED[..., None]
    model.fit(fed[:32], LABELS[:32], verbose=0)
    model.predict(fed[:32], verbose=0)

    assert trainable(model)


def test_a_subclass_may_say_how_it_is_built_and_saved() -> None:
    class Mine(keras.Model):
        def __init__(self) -> None:
            image = keras.Input((784,))
            super().__init__(image, layers.Dense(10, "softmax")(image))

        def get_config(self) -> dict[str, Any]:
            return {}

        def own(self) -> None:
            """Something that Keras does not know."""

    assert trainable(compiled(Mine())).model.input_shape == (None, 28, 28)
    text = Path(__file__).parents[3].joinpath("docs", "search-spaces.md").read_text()
    assert [name for name in MAY_DEFINE - {"__init__", "build", "compile"} if f"`{name}`" not in text] == []


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "bfloat16", "float64"])
def test_a_layer_of_another_type_than_the_setting_says_is_refused(policy: str) -> None:
    model = keras.Sequential([keras.Input((784,)), layers.Dense(8, dtype=policy), layers.Dense(10, "softmax")])
    with pytest.raises(UserError, match=f"in {policy}, expected float32; fmnist's setting precision"):
        trainable(compiled(model))


SOFTMAXES: list[Callable[[], Any]] = [
    lambda: layers.Dense(10, activation=tf.nn.softmax),
    lambda: layers.Dense(10, activation=keras.ops.softmax),
    lambda: lambda x: layers.Activation(tf.nn.softmax)(layers.Dense(10)(x)),
    lambda: lambda x: keras.ops.softmax(layers.Dense(10)(x)),
]


@pytest.mark.parametrize("last", SOFTMAXES)
@pytest.mark.parametrize("loss", [["sparse_categorical_crossentropy"], ("categorical_crossentropy",)])
def test_a_softmax_and_a_loss_in_forms_that_people_use(last: Callable[[], Any], loss: Any) -> None:
    image = keras.Input((784,))
    model = compiled(keras.Model(image, last()(image)), loss)
    expected = model.predict(SCALED[:9].reshape(-1, 784), verbose=0)
    np.testing.assert_allclose(trainable(model).model.predict(PIXELS[:9], verbose=0), expected, atol=1e-6)


def run(result: Trainable, epochs: int) -> list[engine.EpochResult]:
    return list(
        engine.train(result.model, result.loss, result.optimizer, IMAGES, IMAGES, batch_size=32, epochs=epochs, seed=0)
    )
