"""Mixup for metric learning."""

import keras
import numpy as np

from keras_zoo.losses import BinomialDevianceLoss, metrix_embedding_loss
from keras_zoo.metrics import RecallAtK, utilization
from keras_zoo.trainers import Metrix
from tests.generic._cases import ModelCase, PlainCase

PAPER = "metrix"
LABELS = np.array([0, 1, 0, 1, 2, 0, 2, 1, 2, 0])
X = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")


def build(dtype):
    layers = keras.layers
    encoder = [keras.Input((5,)), layers.Dense(6, "tanh", dtype=dtype, name="features")]
    model = Metrix(
        keras.Sequential(encoder, name="encoder"),
        layers.Dense(3, dtype=dtype, name="head"),
        BinomialDevianceLoss(2.0, 5.0, chunk_size=64),
        level="embedding",
        mix_weight=0.6,
        alpha=0.7,
        pairing="random",
        seed=3,
        dtype=dtype,
    )
    model(X)
    return model


CASES = [
    ModelCase(
        Metrix,
        build,
        X,
        LABELS,
        PAPER,
        compile=lambda: {"metrics": [RecallAtK(1)]},
        random=True,
    ),
    PlainCase(metrix_embedding_loss, PAPER, "a function that a trainer calls with its draw"),
    PlainCase(utilization, PAPER, "a function on numpy arrays"),
]
