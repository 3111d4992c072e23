"""Losses of the spherical family, and training with exact output updates."""

import keras
import numpy as np

from keras_zoo import layers, losses, trainers
from tests.generic._cases import LayerCase, LossCase, ModelCase

PAPER = "z-loss"
RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 3, 3, 1])
LOGITS = RNG.normal(size=(10, 4)).astype("float32")
X = RNG.normal(size=(10, 5)).astype("float32")


def build(dtype):
    dense = keras.layers.Dense(3, "tanh", dtype=dtype, name="features")
    model = trainers.FactoredOutputTrainer(
        keras.Sequential([keras.Input((5,)), dense], name="encoder"),
        layers.FactoredDense(4, "glorot_normal", dtype=dtype, name="output_layer"),
        losses.TaylorSoftmaxLoss(),
        output_learning_rate=0.05,
        stabilize_period=3,
        dtype=dtype,
    )
    model(X)
    return model


CASES = [
    LossCase(
        losses.ZLoss,
        {"scale": 0.5, "shift": 2.0, "epsilon": 1e-10},
        LABELS,
        LOGITS,
        PAPER,
        separable=True,
    ),
    LossCase(losses.TaylorSoftmaxLoss, {}, LABELS, LOGITS, PAPER, separable=True),
    LayerCase(layers.FactoredDense, {"units": 4, "kernel_initializer": "he_normal"}, LOGITS, PAPER),
    ModelCase(trainers.FactoredOutputTrainer, build, X, LABELS, PAPER, compile=dict),
]
