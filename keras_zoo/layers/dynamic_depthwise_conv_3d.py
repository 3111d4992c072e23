"""Depthwise convolution of volumes with filters that a vector makes (Srivastav et al., 2025)."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo._catalog import component
from keras_zoo._checks import check_count
from keras_zoo.layers._composite import CompositeLayer
from keras_zoo.layers._conditioning import check_features_and_token
from keras_zoo.ops._precision import full_precision


@component(paper="deeptfus")
class DynamicDepthwiseConv3D(CompositeLayer):
    """Convolves each channel of a volume with a filter that is made anew for every example.

    With features `x` `(D, H, W, C)`, a token `z` `(U,)`, `k = kernel_size`, `r = k // 2`:

        K     = generator(gelu(hidden(z)))          dense layers; K is laid out (k, k, k, C)
        y_vc  = sum_o K_oc x_(v + o - r)c           over offsets o, zeros beyond the sides

    It starts as the identity: the generator's kernel is zero, its bias one at the centre of each
    filter. The GELU is the exact one, by the error function.

    Args:
        kernel_size: odd int `k`.
        hidden_units: int, width of the dense layer between; None for `U`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `[x, z]`: volumes `(B, D, H, W, C)`, tokens `(B, U)`.
    Output: `(B, D, H, W, C)`.

    Weights: `hidden/kernel`, `hidden/bias`, `kernel_generator/kernel`, `kernel_generator/bias`.

    Raises:
        ValueError: an argument is out of its range; the inputs are not volumes and tokens of known
            widths.

    Example:
    >>> layer = keras_zoo.layers.DynamicDepthwiseConv3D()
    >>> tuple(layer([np.ones((2, 8, 8, 8, 16)), np.ones((2, 64))]).shape)
    (2, 8, 8, 8, 16)

    Reference: arXiv:2505.12998, section 3.2. No official code of the network is public.
    """

    def __init__(self, kernel_size=3, hidden_units=None, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = check_count("kernel_size", kernel_size)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}")
        self.hidden_units = (
            None if hidden_units is None else check_count("hidden_units", hidden_units)
        )

    def build(self, input_shape):
        """Makes both dense layers."""
        features, token = check_features_and_token(input_shape, rank=5)
        hidden = self.hidden_units or token[-1]
        centred = np.zeros((self.kernel_size,) * 3 + features[-1:])
        centred[(self.kernel_size // 2,) * 3] = 1
        self.hidden = keras.layers.Dense(hidden, "gelu", dtype=self.sublayer_dtype, name="hidden")
        self.kernel_generator = keras.layers.Dense(
            centred.size,
            kernel_initializer="zeros",
            bias_initializer=lambda shape, dtype=None: ops.cast(centred.reshape(shape), dtype),
            dtype=self.sublayer_dtype,
            name="kernel_generator",
        )
        self.hidden.build(token)
        self.kernel_generator.build((None, hidden))

    def call(self, inputs):
        """The convolved volumes."""
        x, z = inputs
        filters = self.kernel_generator(self.hidden(z))
        filters = ops.reshape(filters, (-1, *(self.kernel_size,) * 3, x.shape[-1]))
        return depthwise_correlation(x, filters)

    def compute_output_shape(self, input_shape):
        """That of the volumes."""
        return tuple(input_shape[0])

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "hidden_units": self.hidden_units,
        }


@custom_gradient
def depthwise_correlation(x, filters):
    """Correlates each channel of each volume with its own filter, zeros beyond the sides.

    A sum over shifted copies: frameworks are slow at grouped convolutions of volumes, or lack them.
    The gradient is written out since theirs, of the copies, pads each to full size again.

    Args:
        x: `(B, D, H, W, C)`.
        filters: `(B, k, k, k, C)`, of the same dtype, `k` odd.
    """
    size = filters.shape[1]

    def grad(upstream):
        by_x = _shifted_sum(upstream, ops.flip(filters, axis=(1, 2, 3)))
        depth, height, width, channels = ops.shape(x)[1:]
        rows = ops.reshape(upstream, (-1, depth, height, width * channels))
        by_offset = [
            ops.sum(full_precision(part * rows), axis=(1, 2)) for part in _shifted_rows(x, size)
        ]
        by_offset = ops.reshape(ops.stack(by_offset, axis=1), (-1, size**3, width, channels))
        by_filters = ops.reshape(ops.sum(by_offset, axis=2), ops.shape(filters))
        return by_x, ops.cast(by_filters, filters.dtype)

    return _shifted_sum(x, filters), grad


def _shifted_sum(x, filters):
    """What `depthwise_correlation` gives."""
    size, (width, channels) = filters.shape[1], ops.shape(x)[3:]
    filters = ops.reshape(filters, (-1, size**3, 1, 1, channels))
    filters = ops.tile(filters, (1, 1, 1, 1, width))
    total = 0
    for offset, part in enumerate(_shifted_rows(x, size)):
        total = total + filters[:, offset] * part
    return ops.reshape(total, ops.shape(x))


def _shifted_rows(x, size):
    """`x` seen from each of `size^3` offsets, a list of `(B, D, H, W C)`.

    The channels of a row lie side by side, so that what is done to them is done in long runs.
    """
    depth, height, width, channels = ops.shape(x)[1:]
    margin = size // 2
    for axis in (1, 2, 3):
        zeros = [ops.zeros_like(ops.take(x, [0], axis=axis))] * margin
        x = ops.concatenate([*zeros, x, *zeros], axis=axis)
    rows = (width + 2 * margin) * channels
    x = ops.reshape(x, (-1, depth + 2 * margin, height + 2 * margin, rows))
    return [
        x[:, i : i + depth, j : j + height, k * channels : (k + width) * channels]
        for i, j, k in itertools.product(range(size), repeat=3)
    ]
