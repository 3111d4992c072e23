"""Comp-sum losses, the attack, and the trainer that attacks."""

import keras
import numpy as np

from keras_zoo import losses
from keras_zoo.ops import projected_gradient_attack
from keras_zoo.trainers import SmoothAdversarialTrainer
from tests.generic._cases import LossCase, ModelCase, PlainCase

PAPER = "comp-sum"
RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 0, 1, 2, 0, 2, 1, 2, 0])
LOGITS = RNG.normal(size=(10, 3)).astype("float32")
VIEWS = RNG.normal(size=(10, 2, 3)).astype("float32")
X = RNG.uniform(size=(10, 5)).astype("float32")
SMOOTH = {"tau": 0.5, "rho": 2.0, "nu": 0.3}


def build(dtype):
    layers = keras.layers
    network = [keras.Input((5,)), layers.Dense(6, "tanh", dtype=dtype, kernel_regularizer="l2")]
    network += [layers.BatchNormalization(dtype=dtype), layers.Dense(3, dtype=dtype)]
    network = keras.Sequential(network, name="network")
    attack = {"epsilon": 0.1, "step_size": 0.04, "num_steps": 3, "value_range": (0.0, 1.0)}
    model = SmoothAdversarialTrainer(network, **SMOOTH, **attack, seed=3, dtype=dtype)
    model(X)
    return model


CASES = [
    LossCase(losses.CompSumLoss, {"tau": 1.5}, LABELS, LOGITS, PAPER, separable=True),
    LossCase(losses.SmoothAdversarialCompSumLoss, SMOOTH, LABELS, VIEWS, PAPER, separable=True),
    ModelCase(
        SmoothAdversarialTrainer,
        build,
        X,
        LABELS,
        PAPER,
        compile=lambda: {"metrics": ["sparse_categorical_accuracy"]},
        random=True,
    ),
    PlainCase(projected_gradient_attack, PAPER, "a function of a function"),
]
