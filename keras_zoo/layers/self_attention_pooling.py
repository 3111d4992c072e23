"""Pooling of a bag of vectors by self-attention (Mondol et al., 2024)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag
from keras_zoo.layers._attention import attention_weights
from keras_zoo.layers._composite import CompositeLayer


@component(paper="biofusionnet")
class SelfAttentionPooling(CompositeLayer):
    """Sums up a bag of vectors, each seen by every other.

    For a bag `x` `(P, F)`, in any order:

        q, k, v = x W + b, each with its own weights        (P, units)
        A       = softmax(q k^T)  over the keys             (P, P)
        output  = sum_p (A v)_p                             (units,)

    Args:
        units: int.
        scaled: bool. Whether to divide `q k^T` by `sqrt(units)`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. Attention weights are
            computed in float32 at least.

    Call: `layer(x, mask=None)`, `x` `(B, P, F)` and `mask` bool `(B, P)`, True for what belongs to
    the bag. A mask gives what the bag gives without the other vectors; an empty bag gives 0.
    Output: `(B, units)`.

    Weights: `query/kernel` `(F, units)`, `query/bias`, then those of `key` and `value`.

    Raises:
        ValueError: an argument is out of its range; the inputs are no `(B, P, F)`.

    Example:
    >>> layer = keras_zoo.layers.SelfAttentionPooling(64)
    >>> tuple(layer(keras.random.normal((2, 500, 256))).shape)
    (2, 64)

    Reference: arXiv:2402.10717; github.com/raktim-mondol/BioFusionNet, `SelfAttention` of
    `multimodal_model.py`. Differs from the official code, which takes one bag at a time: masks.
    """

    def __init__(self, units, scaled=False, **kwargs):
        super().__init__(**kwargs)
        self.units = check_count("units", units)
        self.scaled = check_flag("scaled", scaled)
        self.supports_masking = True

    def build(self, input_shape):
        """Makes the three projections."""
        if len(input_shape) != 3 or input_shape[2] is None:
            raise ValueError(
                "The inputs must be bags `(B, P, F)` with a known `F`. "
                f"Received: shape {tuple(input_shape)}"
            )
        policy = {"dtype": self.sublayer_dtype}
        self._query = keras.layers.Dense(self.units, name="query", **policy)
        self._key = keras.layers.Dense(self.units, name="key", **policy)
        self._value = keras.layers.Dense(self.units, name="value", **policy)
        for layer in (self._query, self._key, self._value):
            layer.build(input_shape)

    def call(self, x, mask=None):
        """The pooled bags, `(B, units)`."""
        scale = self.units**-0.5 if self.scaled else 1.0
        mask = None if mask is None else ops.cast(mask, "bool")
        weights = attention_weights(self._query(x), self._key(x), scale, mask)
        if mask is not None:
            weights = ops.where(mask[:, :, None], weights, 0.0)
        # Summed over the queries before the product: that has P times fewer terms.
        value = self._value(x)
        weights = ops.cast(ops.sum(weights, axis=1), value.dtype)
        return ops.squeeze(ops.matmul(weights[:, None, :], value), 1)

    def compute_mask(self, inputs, previous_mask):
        """None: of a bag one vector is left."""
        return None

    def compute_output_shape(self, input_shape):
        """`(B, units)`."""
        return (input_shape[0], self.units)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units, "scaled": self.scaled}
