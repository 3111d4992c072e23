"""Contrastive losses over two views, and what goes with them."""

import numpy as np

from keras_zoo import layers, losses, metrics
from tests.generic._cases import LayerCase, LossCase, PlainCase

PAPER = "cwcl"
RNG = np.random.default_rng(0)
VIEWS = RNG.normal(size=(6, 2, 4)).astype("float32")
UNIT = VIEWS / np.linalg.norm(VIEWS, axis=2, keepdims=True)
FEATURES = RNG.normal(size=(6, 3)).astype("float32")

CASES = [
    LossCase(
        losses.CWCLLoss,
        {
            "temperature": 0.3,
            "reverse_weight": 0.5,
            "weights_from": "target",
            "normalize": False,
        },
        FEATURES,
        UNIT,
        PAPER,
    ),
    LossCase(
        losses.InfoNCELoss,
        {"temperature": 0.3, "symmetric": False, "normalize": False},
        np.zeros(6),
        UNIT,
        PAPER,
    ),
    LayerCase(layers.LogitScale, {"initial_temperature": 0.2, "max_scale": 50.0}, FEATURES, PAPER),
    PlainCase(metrics.zero_shot_accuracy, PAPER, "a function on numpy arrays"),
]
