"""Confidence-weighted, boundary-aware semi-supervised segmentation."""

import keras
import numpy as np

from keras_zoo import ops
from keras_zoo.losses import ConfidenceWeightedBoundaryLoss
from keras_zoo.trainers import CWBASS
from tests.generic._cases import LossCase, ModelCase, PlainCase

PAPER = "cw-bass"
RNG = np.random.default_rng(0)
# Confidences well apart from the threshold of 0.4.
TEACHER, STUDENT = (3 * RNG.normal(size=(6, 4, 3, 3)).astype("float32") for _ in range(2))
LOSS = {
    "gamma": 1.5,
    "boundary_weight": 0.7,
    "base_threshold": 0.3,
    "threshold_sensitivity": 0.2,
    "min_threshold": 0.4,
    "max_threshold": 0.9,
    "confidence_decay": 0.9,
    "border": "symmetric",
    "from_logits": True,
}
IMAGES = {key: RNG.normal(size=(6, 5, 4, 2)).astype("float32") for key in ("labeled", "unlabeled")}
MASKS = RNG.integers(0, 3, (6, 5, 4))
MASKS[:, 0] = 254


def build(dtype):
    layers = [
        keras.Input((None, None, 2)),
        keras.layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2", dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
        keras.layers.Conv2D(3, 1, activation="tanh", dtype=dtype),
    ]
    return CWBASS(
        keras.Sequential(layers, name="student"),
        unsupervised_loss=ConfidenceWeightedBoundaryLoss(**LOSS),
        unsupervised_weight=0.5,
        warmup_steps=3,
        ema_decay=0.9,
        ignore_class=254,
        dtype=dtype,
    )


CASES = [
    LossCase(ConfidenceWeightedBoundaryLoss, LOSS, TEACHER, STUDENT, PAPER),
    ModelCase(
        CWBASS,
        build,
        IMAGES,
        MASKS,
        PAPER,
        compile=lambda: {"metrics": [keras.metrics.SparseCategoricalAccuracy()]},
    ),
    PlainCase(ops.label_boundaries, PAPER, "a function, held by its own tests"),
]
