"""Capsules, their loss, and the network and ensemble of texts."""

import numpy as np

from keras_zoo import ops
from keras_zoo.layers import Capsule, CapsuleLength, DomainBelongingDegree, PrimaryCapsule
from keras_zoo.losses import MarginLoss
from tests.generic._cases import LayerCase, LossCase, ModelCase, PlainCase

PAPER = "weighted-capsnet"
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 8)
SCORES = RNG.uniform(0.2, 0.7, (8, 3)).astype("float32")
IDS = RNG.integers(1, 9, (6, 4)) * (np.arange(4) < np.array([[4], [2], [3], [4], [1], [4]]))

CASES = [
    PlainCase(ops.squash, PAPER, "a function"),
    LossCase(
        MarginLoss,
        {"m_plus": 0.8, "m_minus": 0.15, "down_weight": 0.3, "class_costs": [0.5, 1.0, 2.0]},
        LABELS,
        SCORES,
        PAPER,
        separable=True,
    ),
    LayerCase(
        PrimaryCapsule,
        {
            "num_channels": 2,
            "capsule_dim": 3,
            "kernel_size": 2,
            "strides": 2,
            "padding": "same",
            "kernel_initializer": "he_normal",
            "epsilon": 1e-6,
        },
        RNG.normal(size=(6, 5, 3)).astype("float32"),
        PAPER,
    ),
    LayerCase(
        Capsule,
        {
            "num_capsules": 2,
            "capsule_dim": 3,
            "routings": 2,
            "use_bias": True,
            "kernel_initializer": "he_normal",
            "epsilon": 1e-6,
        },
        RNG.normal(size=(6, 4, 3)).astype("float32"),
        PAPER,
    ),
    LayerCase(
        CapsuleLength, {"epsilon": 1e-3}, RNG.normal(size=(6, 4, 3)).astype("float32"), PAPER
    ),
    PlainCase(DomainBelongingDegree, PAPER, "takes ids of words; in the ensemble"),
]

try:
    from keras_zoo.models import (
        CapsuleTextClassifier,
        WeightedCapsuleEnsemble,
        WeightedCapsuleTextClassifier,
        WeightedCapsuleTextClassifierPreprocessor,
    )
except ImportError:  # The extra `models` is not installed.
    pass
else:

    def classifier(dtype):
        return CapsuleTextClassifier(9, 2, 3, 2, 2, 2, 3, routings=2, dropout=0.0, dtype=dtype)

    def ensemble(dtype):
        belonging = DomainBelongingDegree(2, 9, sharpness=2.0)
        belonging.adapt(IDS, np.arange(6) % 2)
        return WeightedCapsuleEnsemble([classifier(dtype) for _ in range(2)], belonging)

    CASES += [
        ModelCase(CapsuleTextClassifier, classifier, IDS, None, PAPER),
        ModelCase(WeightedCapsuleEnsemble, ensemble, IDS, None, PAPER),
        PlainCase(WeightedCapsuleTextClassifierPreprocessor, PAPER, "takes texts"),
        ModelCase(
            WeightedCapsuleTextClassifier,
            lambda dtype: WeightedCapsuleTextClassifier(ensemble(dtype), compile=False),
            IDS,
            LABELS[:6] % 2,
            PAPER,
            compile=lambda: {"loss": MarginLoss()},
        ),
    ]
