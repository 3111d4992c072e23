"""Dynamically weighted fusion of features, its loss, and DWFF-Net."""

import numpy as np

from keras_zoo.layers import DynamicWeightedFusion
from keras_zoo.losses import DiceFocalLoss
from tests.generic._cases import LayerCase, LossCase, ModelCase, PlainCase

PAPER = "dwff-net"
RNG = np.random.default_rng(0)
MAPS = [RNG.normal(size=(6, 3, 2, channels)).astype("float32") for channels in (4, 3)]
MASKS = RNG.integers(0, 3, (6, 4, 3))
LOGITS = RNG.normal(size=(6, 4, 3, 3)).astype("float32")


def _backbone(dtype):
    from keras_hub.models import DINOV3Backbone

    from keras_zoo.models import DWFFNetBackbone

    encoder = DINOV3Backbone(
        patch_size=16,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=16,
        image_shape=(16, 32, 3),
        data_format="channels_last",
        dtype="float32",  # On CPUs JAX has no attention in float16.
    )
    return DWFFNetBackbone(encoder, (0, 1, -1), fusion_filters=8, entropy_weight=0.1, dtype=dtype)


def _segmenter(dtype):
    from keras_zoo.models import DWFFNetImageSegmenter

    # Without dropout, which draws other numbers on each backend.
    return DWFFNetImageSegmenter(
        _backbone(dtype), num_classes=3, decoder_filters=(8, 4), dropout=0.0, compile=False
    )


CASES = [
    LossCase(
        DiceFocalLoss,
        {"dice_weight": 0.3, "focal_weight": 0.9, "gamma": 1.5, "from_logits": True},
        MASKS,
        LOGITS,
        PAPER,
    ),
    LayerCase(
        DynamicWeightedFusion,
        {
            "filters": 6,
            "hidden_units": 5,
            "initial_temperature": 0.5,
            "entropy_weight": 0.1,
            "data_format": "channels_last",
        },
        MAPS,
        PAPER,
    ),
]

try:
    from keras_zoo.models import (
        DWFFNetBackbone,
        DWFFNetImageConverter,
        DWFFNetImageSegmenter,
        DWFFNetImageSegmenterPreprocessor,
    )
except ImportError:  # The extra `models` is not installed.
    pass
else:
    _images = RNG.normal(size=(6, 16, 32, 3)).astype("float32")
    _masks = RNG.integers(0, 3, (6, 16, 32))
    CASES += [
        ModelCase(DWFFNetBackbone, _backbone, _images, None, PAPER),
        ModelCase(
            DWFFNetImageSegmenter,
            _segmenter,
            _images,
            _masks,
            PAPER,
            compile=lambda: {"loss": DiceFocalLoss()},
        ),
        PlainCase(DWFFNetImageConverter, PAPER, "preprocessing of images"),
        PlainCase(DWFFNetImageSegmenterPreprocessor, PAPER, "preprocessing of images and masks"),
    ]
