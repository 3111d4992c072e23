"""Metrics of the confusion matrix as losses."""

import numpy as np

from keras_zoo.losses import AnyLoss
from tests.generic._cases import LossCase

PAPER = "anyloss"
RNG = np.random.default_rng(0)
LABELS = (RNG.random((10, 3)) < 0.4).astype("float32")
LOGITS = RNG.normal(scale=0.3, size=(10, 3)).astype("float32")
KWARGS = {
    "metric": "f_beta",
    "beta": 2.0,
    "amplification": 20.0,
    "threshold": 0.45,
    "from_logits": True,
}

CASES = [LossCase(AnyLoss, KWARGS, LABELS, LOGITS, PAPER, weights_inside=True)]
