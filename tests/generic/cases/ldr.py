"""Label-distributionally robust losses, and the trainer with a temperature for each example."""

import keras
import numpy as np

from keras_zoo.losses import ALDRLoss, LDRLoss
from keras_zoo.trainers import ALDRTrainer
from tests.generic._cases import LossCase, ModelCase

PAPER = "ldr"
RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 0, 1, 2, 0, 2, 1, 2, 0])
SCORES = RNG.normal(size=(10, 3)).astype("float32")
X = RNG.normal(size=(10, 5)).astype("float32")
SHARED = {"temperature": 0.7, "margin": 0.2}
ADAPTIVE = {**SHARED, "alpha": 1.5, "normalization": "softplus", "num_steps": 2}


def build(dtype):
    layers = keras.layers
    network = [keras.Input((5,)), layers.Dense(6, "tanh", dtype=dtype, kernel_regularizer="l2")]
    network.append(layers.Dense(3, dtype=dtype))
    loss = ALDRLoss(1.0, reduction="mean_with_sample_weight")
    model = ALDRTrainer(keras.Sequential(network, name="network"), 12, loss, dtype=dtype)
    model(X)
    return model


CASES = [
    LossCase(LDRLoss, {**SHARED, "normalization": "l1"}, LABELS, SCORES, PAPER, separable=True),
    LossCase(
        ALDRLoss,
        ADAPTIVE,
        LABELS,
        SCORES,
        PAPER,
        separable=True,
        twice_differentiable=False,  # It holds the temperatures constant.
    ),
    ModelCase(
        ALDRTrainer,
        build,
        X,
        np.stack([LABELS, (np.arange(10) * 7) % 12], axis=1),
        PAPER,
        compile=lambda: {"metrics": ["sparse_categorical_accuracy"]},
    ),
]
