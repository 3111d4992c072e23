"""Channels scaled and shifted by what a vector says (FiLM; Srivastav et al., 2025)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo.layers._composite import CompositeLayer
from keras_zoo.layers._conditioning import check_features_and_token


@component(paper="deeptfus")
class FeatureWiseModulation(CompositeLayer):
    """Scales and shifts each channel of features as a token says.

    With features `x` `(..., C)` and a token `z` `(U,)`:

        y = gamma(z) * x + beta(z)          gamma, beta: dense layers from U to C

    It starts as the identity: the kernels are zero, and so is beta's bias; gamma's is one.

    Args:
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `[x, z]`: features `(B, ..., C)` of any rank above 1, tokens `(B, U)`.
    Output: that of `x`.

    Weights: `gamma/kernel` `(U, C)`, `gamma/bias`, `beta/kernel`, `beta/bias`.

    Raises:
        ValueError: the inputs are not features and tokens of known widths.

    Example:
    >>> layer = keras_zoo.layers.FeatureWiseModulation()
    >>> tuple(layer([np.ones((2, 8, 8, 8, 16)), np.ones((2, 64))]).shape)
    (2, 8, 8, 8, 16)

    Reference: arXiv:2505.12998, section 3.2; arXiv:1709.07871 (FiLM). No official code of the
    network is public.
    """

    def build(self, input_shape):
        """Makes both dense layers."""
        features, token = check_features_and_token(input_shape)
        self.gamma, self.beta = (
            keras.layers.Dense(
                features[-1],
                kernel_initializer="zeros",
                bias_initializer=start,
                dtype=self.sublayer_dtype,
                name=name,
            )
            for name, start in (("gamma", "ones"), ("beta", "zeros"))
        )
        self.gamma.build(token)
        self.beta.build(token)

    def call(self, inputs):
        """The modulated features."""
        x, z = inputs
        shape = (-1, *(1,) * (len(x.shape) - 2), x.shape[-1])
        gamma, beta = (ops.reshape(layer(z), shape) for layer in (self.gamma, self.beta))
        return gamma * x + beta

    def compute_output_shape(self, input_shape):
        """That of the features."""
        return tuple(input_shape[0])
