"""Conditioning of volumes on points, the loss and metrics of pressure fields, DeepTFUS."""

import numpy as np

from keras_zoo.layers import (
    DynamicDepthwiseConv3D,
    FeatureWiseModulation,
    FourierPositionEncoding,
    GlobalTokenCrossAttention3D,
    PointSetEncoder,
)
from keras_zoo.losses import PressureFieldLoss
from keras_zoo.metrics import FocalPositionError, MaxPressureError, RelativeL2Error
from tests.generic._cases import LayerCase, LossCase, MetricCase, ModelCase, PlainCase

PAPER = "deeptfus"
RNG = np.random.default_rng(0)
POINTS = RNG.uniform(-1, 1, (6, 5, 3)).astype("float32")
VOLUMES = RNG.normal(size=(6, 4, 2, 3, 4)).astype("float32")
TOKENS = RNG.normal(size=(6, 5)).astype("float32")
TRUE = RNG.uniform(0, 0.7, (6, 4, 2, 3)).astype("float32")
FOUND = RNG.uniform(0, 0.7, (6, 4, 2, 3)).astype("float32")

CASES = [
    LossCase(
        PressureFieldLoss,
        {"alpha": 3.0, "gradient_weight": 0.3, "gradient_norm": "l1"},
        TRUE,
        FOUND,
        PAPER,
        separable=True,
    ),
    LayerCase(
        FourierPositionEncoding, {"num_frequencies": 3, "include_input": False}, POINTS, PAPER
    ),
    LayerCase(PointSetEncoder, {"units": 6, "num_frequencies": 3, "num_layers": 1}, POINTS, PAPER),
    LayerCase(FeatureWiseModulation, {}, [VOLUMES, TOKENS], PAPER),
    LayerCase(
        DynamicDepthwiseConv3D, {"kernel_size": 1, "hidden_units": 3}, [VOLUMES, TOKENS], PAPER
    ),
    LayerCase(
        GlobalTokenCrossAttention3D,
        {"num_heads": 2, "bidirectional": False},
        [VOLUMES, TOKENS],
        PAPER,
    ),
    MetricCase(RelativeL2Error, {}, TRUE, FOUND, PAPER),
    MetricCase(FocalPositionError, {"spacing": [0.5, 1.0, 2.0]}, TRUE, FOUND, PAPER),
    MetricCase(MaxPressureError, {}, TRUE, FOUND, PAPER),
]

try:
    from keras_zoo.models import (
        DeepTFUSBackbone,
        DeepTFUSPressureEstimator,
        DeepTFUSPressureEstimatorPreprocessor,
    )
except ImportError:  # The extra `models` is not installed.
    pass
else:

    def backbone(dtype):
        return DeepTFUSBackbone(
            (4, 2, 4, 1),
            filters=(2, 4),
            units=4,
            num_frequencies=2,
            kernel_size=1,
            num_heads=3,
            attention_levels=(1,),
            use_dynamic_convolution=False,
            dtype=dtype,
        )

    def estimator(dtype):
        return DeepTFUSPressureEstimator(backbone(dtype), compile=False)

    _inputs = {
        "images": RNG.uniform(size=(6, 4, 2, 4, 1)).astype("float32"),
        "transducer_points": POINTS,
    }
    _fields = RNG.uniform(0, 0.7, (6, 4, 2, 4)).astype("float32")
    CASES += [
        ModelCase(DeepTFUSBackbone, backbone, _inputs, None, PAPER),
        ModelCase(
            DeepTFUSPressureEstimator,
            estimator,
            _inputs,
            _fields,
            PAPER,
            compile=lambda: {"loss": PressureFieldLoss()},
        ),
        PlainCase(DeepTFUSPressureEstimatorPreprocessor, PAPER, "preprocessing of volumes"),
    ]
