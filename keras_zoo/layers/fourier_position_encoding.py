"""Positions as sines and cosines of growing frequency (Srivastav et al., 2025)."""

import math

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag


@component(paper="deeptfus")
class FourierPositionEncoding(keras.layers.Layer):
    """Coordinates beside their sines and cosines at frequencies that double.

    With `F = num_frequencies` and a position `t` of `D` coordinates:

        y = [ t, sin(2^j pi t_d), cos(2^j pi t_d) ]       d = 1 .. D,  j = 0 .. F - 1

    where within the sines, and within the cosines, all frequencies of the first coordinate come
    first, then those of the second, and so on.

    Args:
        num_frequencies: int `F`.
        include_input: bool. Whether `t` itself comes first.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`. The angles are worked out in float32 at
            least, whatever the policy: those of half precision would be off by whole turns.

    Inputs: positions `(..., D)`, meant to be in [-1, 1].
    Output: `(..., D + 2 D F)`, without the input `(..., 2 D F)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> layer = keras_zoo.layers.FourierPositionEncoding(num_frequencies=8)
    >>> tuple(layer(np.zeros((2, 128, 3))).shape)
    (2, 128, 51)

    Reference: arXiv:2505.12998, section 3.2. No official code of the network is public.
    """

    def __init__(self, num_frequencies=8, include_input=True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.num_frequencies = check_count("num_frequencies", num_frequencies)
        self.include_input = check_flag("include_input", include_input)

    def call(self, inputs):
        """The encoding."""
        double = self.compute_dtype == "float64"
        t = ops.cast(inputs, "float64" if double else "float32")
        turns = t[..., None] * ops.cast([2.0**j for j in range(self.num_frequencies)], t.dtype) / 2
        # Products with powers of two are exact, and so is what is left of them after whole turns.
        angles = 2 * math.pi * (turns - ops.stop_gradient(ops.round(turns)))
        shape = (*ops.shape(t)[:-1], t.shape[-1] * self.num_frequencies)
        waves = [ops.reshape(wave(angles), shape) for wave in (ops.sin, ops.cos)]
        parts = [t, *waves] if self.include_input else waves
        return ops.cast(ops.concatenate(parts, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """`(..., D + 2 D F)`, or without `D`."""
        width = 2 * self.num_frequencies + self.include_input
        return (*input_shape[:-1], input_shape[-1] * width)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_frequencies": self.num_frequencies,
            "include_input": self.include_input,
        }
