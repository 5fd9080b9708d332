"""Trains a model of your own: `python examples/own_model.py --epochs 3`, or any other flag of `fmnist train`.

The function below is all that fmnist needs to know. The same function is a search space:
`PYTHONPATH=examples fmnist tune --space own_model:build` tries values of what it asks `hp` for.
"""

import sys

import keras
from keras import layers
from keras_tuner import HyperParameters

from fmnist.cli import main


def build(hp: HyperParameters) -> keras.Model:
    """A small convolutional network.

    Args:
        hp: answers with the value of each hyper-parameter: its default in `fmnist train`, a drawn one in `fmnist tune`.

    Returns:
        A compiled model from grey images [n, 28, 28, 1] with pixels from 0 to 1 to ten probabilities [n, 10].
    """
    filters = hp.Int("filters", 16, 64, step=16, default=32)
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.RandomFlip("horizontal")])
    for block in range(2):
        model.add(layers.Conv2D(filters * (block + 1), 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(hp.Float("dropout", 0, 0.5, step=0.1, default=0.2)))
    model.add(layers.Dense(10, activation="softmax"))
    rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    sys.exit(main(["train", "--model", "own_model:build", *sys.argv[1:]]))
