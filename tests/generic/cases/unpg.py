"""Margin softmax over cosines, with and without the negative pairs of the batch."""

import numpy as np

from keras_zoo import layers, losses, metrics
from tests.generic._cases import LayerCase, LossCase, MetricCase, PlainCase

PAPER = "unpg"
RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
COSINES = RNG.uniform(-0.9, 0.9, (8, 3)).astype("float32")
FEATURES = RNG.normal(size=(8, 4)).astype("float32")
BOTH = np.concatenate([COSINES, FEATURES], axis=1)
MARGIN = {"margin_type": "cosface", "margin": 0.2, "scale": 4.0}

CASES = [
    LossCase(losses.MarginSoftmaxLoss, MARGIN, LABELS, COSINES, PAPER, separable=True),
    LossCase(losses.UNPGLoss, {"num_classes": 3, **MARGIN, "whisker": 0.7}, LABELS, BOTH, PAPER),
    LayerCase(
        layers.CosineClassifier,
        {
            "units": 3,
            "append_features": True,
            "kernel_initializer": "he_normal",
            "kernel_regularizer": "l2",
        },
        FEATURES,
        PAPER,
    ),
    MetricCase(metrics.CosineAccuracy, {"num_classes": 3}, LABELS, BOTH, PAPER),
    PlainCase(metrics.tar_at_far, PAPER, "a function on numpy arrays"),
]
