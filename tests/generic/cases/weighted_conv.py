"""Weighted convolutions, their search, and DnCNN."""

import numpy as np

from keras_zoo.layers import (
    WeightedConv1D,
    WeightedConv2D,
    WeightedConv3D,
    fold_weighted_conv,
    to_weighted_conv,
)
from keras_zoo.trainers import DensitySearch
from tests.generic._cases import LayerCase, ModelCase, PlainCase

PAPER = "weighted-conv"

_rng = np.random.default_rng(0)


def _normal(*shape):
    return _rng.standard_normal(shape).astype("float32")


def _kwargs(**others):
    # No groups and strides: where shapes vary, torch's compiler has no gradient for them. The tests
    # of the layers hold them.
    return {
        "filters": 4,
        "density_trainable": True,
        "density_lr_multiplier": 10.0,
        "activation": "tanh",
        "use_bias": True,
        "kernel_initializer": "glorot_uniform",
        "bias_initializer": "ones",
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        # No activity_regularizer: under mixed precision Keras itself refuses it on TensorFlow.
        "kernel_constraint": "max_norm",
        "bias_constraint": "max_norm",
        **others,
    }


def _backbone(dtype):
    from keras_zoo.models import DnCNNBackbone

    return DnCNNBackbone(
        num_layers=3,
        filters=4,
        kernel_size=5,
        density=[0.3, 0.7],
        density_trainable=True,
        density_lr_multiplier=10.0,
        kernel_initializer="glorot_uniform",
        image_shape=(None, None, 2),
        dtype=dtype,
    )


def _denoiser(dtype):
    from keras_zoo.models import DnCNNDenoiser

    return DnCNNDenoiser(_backbone(dtype))


CASES = [
    LayerCase(
        WeightedConv1D,
        _kwargs(kernel_size=5, density=[0.3, 0.7], padding="causal", dilation_rate=2),
        _normal(6, 9, 2),
        PAPER,
    ),
    LayerCase(
        WeightedConv2D,
        _kwargs(kernel_size=3, density=[0.6], padding="same"),
        _normal(6, 8, 7, 2),
        PAPER,
    ),
    LayerCase(
        WeightedConv3D,
        _kwargs(kernel_size=3, density=[0.6], padding="same"),
        _normal(6, 4, 5, 3, 2),
        PAPER,
    ),
    PlainCase(to_weighted_conv, PAPER, "a function of a model"),
    PlainCase(fold_weighted_conv, PAPER, "a function of a model"),
    PlainCase(DensitySearch, PAPER, "a search that calls the user's own training"),
]

try:
    from keras_zoo.models import DnCNNBackbone, DnCNNDenoiser
except ImportError:  # The extra `models` is not installed.
    pass
else:
    _clean = _rng.random((6, 8, 7, 2)).astype("float32")
    _noisy = (_clean + 0.1 * _normal(*_clean.shape)).astype("float32")
    CASES += [
        ModelCase(DnCNNBackbone, _backbone, _noisy, None, PAPER),
        ModelCase(DnCNNDenoiser, _denoiser, _noisy, _clean, PAPER, compile=lambda: {"loss": "mse"}),
    ]
