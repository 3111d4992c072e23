"""Gaussian naive Bayes as a classification head."""

import numpy as np

from keras_zoo import layers
from tests.generic._cases import LayerCase

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")

CASES = [
    LayerCase(
        layers.GaussianNaiveBayes,
        {"num_classes": 3, "shared_variance": False, "epsilon": 0.5},
        X,
        "discriminative-vs-generative",
    ),
]
