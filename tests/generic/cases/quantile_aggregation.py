"""Quantiles: loss, order, aggregation, scores, calibration and stacking."""

import numpy as np

from keras_zoo.layers import MonotoneQuantiles, QuantileAggregation
from keras_zoo.losses import QuantileLoss
from keras_zoo.metrics import QuantileCalibrationError, WeightedIntervalScore
from keras_zoo.ops import monotone_quantiles
from keras_zoo.trainers import StackedQuantileRegressor
from tests.generic._cases import LayerCase, LossCase, MetricCase, PlainCase

PAPER = "quantile-aggregation"
RNG = np.random.default_rng(0)
LEVELS = [0.1, 0.4, 0.8]
TARGETS = RNG.normal(size=10)
QUANTILES = RNG.normal(size=(10, 3)).astype("float32")
PREDICTIONS = RNG.normal(size=(10, 2, 3)).astype("float32")
FEATURES = RNG.normal(size=(10, 4)).astype("float32")

CASES = [
    LossCase(
        QuantileLoss,
        {
            "quantiles": LEVELS,
            "huber_delta": 0.3,
            "crossing_weight": 0.5,
            "crossing_margin": [0.1, 0.2, 0.4],
        },
        TARGETS,
        QUANTILES,
        PAPER,
        separable=True,
    ),
    LayerCase(MonotoneQuantiles, {"method": "soft_sort", "strength": 0.5}, QUANTILES, PAPER),
    LayerCase(
        QuantileAggregation,
        {
            "resolution": "fine",
            "local": True,
            "normalize": False,
            "hidden_units": 4,
            "num_layers": 1,
            "activation": "tanh",
            "monotone": "sort",
            "monotone_in_training": True,
            "monotone_strength": 0.5,
        },
        [PREDICTIONS, FEATURES],
        PAPER,
    ),
    MetricCase(
        WeightedIntervalScore,
        {"quantiles": LEVELS, "normalize": False},
        TARGETS,
        QUANTILES,
        PAPER,
    ),
    MetricCase(QuantileCalibrationError, {"quantiles": LEVELS}, TARGETS, QUANTILES, PAPER),
    PlainCase(monotone_quantiles, PAPER, "a function, held by its own tests"),
    PlainCase(StackedQuantileRegressor, PAPER, "fits models of any library, is none of Keras"),
]

try:
    from keras_zoo.models import ConformalQuantileCalibrator
except ImportError:  # The extra `models` is not installed.
    pass
else:
    CASES.append(PlainCase(ConformalQuantileCalibrator, PAPER, "NumPy alone"))
