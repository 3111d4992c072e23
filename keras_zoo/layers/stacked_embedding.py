"""A meta-learner over embeddings of several encoders (Aslam et al., 2024)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, sizes_agree
from keras_zoo.layers._composite import CompositeLayer


@component(paper="arabic-emotion")
class StackedEmbedding(CompositeLayer):
    """Token embeddings of several encoders side by side, with what a dense layer makes of them.

    For embeddings `E_k` `(B, T, D_k)` of the same `T` positions:

        S      = concat_k E_k                          (B, T, sum D_k)
        Z      = activation(S W + b)                   (B, T, units)
        output = concat([S, Z])                        (B, T, sum D_k + units)

    Args:
        units: int.
        activation: as in `keras.layers.Dense`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call: `layer(embeddings)`, a list of one or more tensors. The Keras mask of the first is that of
    the output.

    Weights: `meta/kernel` `(sum D_k, units)` and `meta/bias`.

    Raises:
        ValueError: `units` is not a positive int; the inputs are no such list.

    Example:
    >>> layer = keras_zoo.layers.StackedEmbedding(16)
    >>> tuple(layer([keras.random.normal((2, 5, 8)), keras.random.normal((2, 5, 4))]).shape)
    (2, 5, 28)

    Reference: arXiv:2410.03979. Differs from the official code: none is public. That the
    meta-learner is one dense layer, which learns with the rest, is ours.
    """

    def __init__(self, units, activation="relu", **kwargs):
        units = check_count("units", units)
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.supports_masking = True

    def build(self, input_shape):
        """Makes the dense layer."""
        shapes = input_shape if isinstance(input_shape, list) else []
        if not shapes or any(
            len(s) != 3 or s[2] is None or not sizes_agree(s[:2], shapes[0][:2]) for s in shapes
        ):
            raise ValueError(
                "The inputs must be a list of `(B, T, D)`, with the same B and T and known D. "
                f"Received: shape {input_shape}"
            )
        self._meta = keras.layers.Dense(
            self.units, self.activation, name="meta", dtype=self.sublayer_dtype
        )
        self._meta.build((*shapes[0][:2], sum(shape[2] for shape in shapes)))

    def call(self, inputs):
        """The stack, with its dense layer's output beside it."""
        stack = ops.concatenate(inputs, axis=-1)
        return ops.concatenate([stack, self._meta(stack)], axis=-1)

    def compute_mask(self, inputs, previous_mask):
        """The mask of the first embedding."""
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def compute_output_shape(self, input_shape):
        """`(B, T, sum D_k + units)`."""
        return (*input_shape[0][:2], sum(shape[2] for shape in input_shape) + self.units)

    def get_config(self):
        """The constructor's arguments."""
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation}
