"""Hyperbolic one-class classification."""

import keras
import numpy as np

from keras_zoo import ops
from keras_zoo.layers import HyperbolicMLR, ToPoincareBall
from keras_zoo.losses import HyperbolicPairwiseConfusionLoss
from keras_zoo.metrics import EqualErrorRate
from keras_zoo.trainers import HypOC
from tests.generic._cases import LayerCase, LossCase, MetricCase, ModelCase, PlainCase

PAPER = "hyp-oc"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 5)).astype("float32")
POINTS = (0.4 * RNG.normal(size=(10, 4))).astype("float32")
LABELS = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1, 0])
SCORES = RNG.random(10).astype("float32")


def build(dtype):
    encoder = [
        keras.Input((5,)),
        keras.layers.Dense(6, "tanh", dtype=dtype, kernel_regularizer="l2"),
    ]
    model = HypOC(
        keras.Sequential(encoder, name="encoder"),
        hidden_units=(8, 4),
        curvature=0.3,
        clip_radius=1.5,
        mean_momentum=0.6,
        variance=0.5,
        running_mean="running",
        confusion_distance="geodesic",
        confusion_weight=0.5,
        seed=3,
        dtype=dtype,
    )
    model(X)
    return model


CASES = [
    LossCase(
        HyperbolicPairwiseConfusionLoss,
        {"curvature": 0.5, "distance": "geodesic"},
        # Rows of one class, whose order makes the pairs.
        np.zeros(10),
        POINTS,
        PAPER,
        ordered_within_classes=True,
    ),
    LayerCase(
        ToPoincareBall,
        {"curvature": 0.5, "clip_radius": 1.5, "learn_origin": False, "riemannian_gradient": False},
        X,
        PAPER,
    ),
    LayerCase(
        HyperbolicMLR,
        {"units": 3, "curvature": 0.2, "kernel_initializer": "glorot_uniform"},
        POINTS,
        PAPER,
    ),
    MetricCase(EqualErrorRate, {"num_thresholds": 101}, LABELS, SCORES, PAPER),
    ModelCase(
        HypOC,
        build,
        X,
        np.zeros(10),
        PAPER,
        compile=lambda: {"metrics": [EqualErrorRate(101)]},
        random=True,
    ),
    *(
        PlainCase(fn, PAPER, "a function, held by its own tests")
        for fn in (
            ops.mobius_add,
            ops.poincare_distance,
            ops.poincare_expmap,
            ops.poincare_expmap0,
            ops.poincare_project,
        )
    ),
]

try:
    from keras_zoo.models import HypOCAnomalyDetector, HypOCBackbone
except ImportError:  # The extra `models` is not installed.
    pass
else:

    def backbone(dtype):
        layers = [keras.Input((5,)), keras.layers.Dense(6, "tanh", dtype=dtype)]
        encoder = keras.Sequential(layers, name="encoder")
        return HypOCBackbone(
            encoder, hidden_units=(8, 4), curvature=0.3, clip_radius=1.5, dtype=dtype
        )

    def detector(dtype):
        return HypOCAnomalyDetector(backbone(dtype))

    CASES += [
        ModelCase(HypOCBackbone, backbone, X, None, PAPER),
        # Its training is Keras's own, on a network that the trainer above takes through it all.
        ModelCase(HypOCAnomalyDetector, detector, X, None, PAPER),
    ]
