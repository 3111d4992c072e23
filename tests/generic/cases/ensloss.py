"""Stochastic calibrated loss ensembles."""

import keras
import numpy as np

from keras_zoo.ops import ens_loss_derivatives
from keras_zoo.trainers import EnsLossTrainer
from tests.generic._cases import ModelCase, PlainCase

PAPER = "ensloss"
LABELS = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1, 0])
X = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")


def build(dtype):
    layers = keras.layers
    network = [keras.Input((5,)), layers.Dense(6, "tanh", dtype=dtype, kernel_regularizer="l2")]
    network.append(layers.Dense(1, dtype=dtype))
    model = EnsLossTrainer(keras.Sequential(network, name="network"), 2, seed=3, dtype=dtype)
    model(X)
    return model


CASES = [
    ModelCase(
        EnsLossTrainer,
        build,
        X,
        LABELS,
        PAPER,
        compile=lambda: {"metrics": [keras.metrics.BinaryAccuracy(threshold=0.0)]},
        random=True,
    ),
    PlainCase(ens_loss_derivatives, PAPER, "a function that a trainer calls with its draw"),
]
