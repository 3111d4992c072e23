"""Attention between the voxels of a volume and one vector (Srivastav et al., 2025)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag
from keras_zoo.layers._composite import CompositeLayer
from keras_zoo.layers._conditioning import check_features_and_token


@component(paper="deeptfus")
class GlobalTokenCrossAttention3D(CompositeLayer):
    """Lets a token look at all voxels of a volume, and tells the volume what came of it.

    With features `x` `(D, H, W, C)`, `f` its `T = D H W` voxels in a row `(T, C)`, a token `z`
    `(U,)`, dense layers `W`, and `h = num_heads` heads of `C / h` channels each:

        a   = softmax_t(q . k_t / sqrt(C / h)),   q = W_tq z,  k = W_fk f      in each head
        z'  = W_to sum_t a_t v_t,                 v = W_fv f                   (C,)
        f'  = W_fo W_tv z   if bidirectional, else f
        y   = x + fusion([f', z'])                z' (and W_tv z) the same at every voxel

    Voxels that look at one token give it all their attention, so no weights decide over that:
    `f'` has neither queries nor keys. It starts as the identity: `fusion` is zero.

    Args:
        num_heads: int `h`, a divisor of `C`.
        bidirectional: bool. Whether the voxels look at the token too.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. The softmax is worked out
            in float32 at least.

    Inputs: `[x, z]`: volumes `(B, D, H, W, C)`, tokens `(B, U)`.
    Output: `(B, D, H, W, C)`.

    Weights: `kernel` and `bias` of `token_query`, `feature_key`, `feature_value`, `token_output`,
    `token_value`, `feature_output` and `fusion`; without `bidirectional` not of `token_value` and
    `feature_output`.

    Raises:
        ValueError: an argument is out of its range; `num_heads` does not divide `C`; the inputs
            are not volumes and tokens of known widths.

    Example:
    >>> layer = keras_zoo.layers.GlobalTokenCrossAttention3D(num_heads=4)
    >>> tuple(layer([np.ones((2, 8, 8, 8, 16)), np.ones((2, 64))]).shape)
    (2, 8, 8, 8, 16)

    Reference: arXiv:2505.12998, section 3.2. No official code of the network is public.
    """

    def __init__(self, num_heads=4, bidirectional=True, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = check_count("num_heads", num_heads)
        self.bidirectional = check_flag("bidirectional", bidirectional)

    def build(self, input_shape):
        """Makes the dense layers."""
        features, token = check_features_and_token(input_shape, rank=5)
        channels = features[-1]
        if channels % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the number of channels, {channels}. "
                f"Received: num_heads={self.num_heads}"
            )

        def dense(name, width, **kwargs):
            layer = keras.layers.Dense(channels, dtype=self.sublayer_dtype, name=name, **kwargs)
            layer.build((None, width))
            return layer

        self.token_query = dense("token_query", token[-1])
        self.feature_key = dense("feature_key", channels)
        self.feature_value = dense("feature_value", channels)
        self.token_output = dense("token_output", channels)
        if self.bidirectional:
            self.token_value = dense("token_value", token[-1])
            self.feature_output = dense("feature_output", channels)
        self.fusion = dense("fusion", 2 * channels, kernel_initializer="zeros")

    def call(self, inputs):
        """The features, and what the attention adds to them."""
        x, z = inputs
        features = ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))
        token = self._look(z, features)
        if self.bidirectional:
            features = self.feature_output(self.token_value(z))[:, None]
        token = ops.broadcast_to(token[:, None], ops.shape(features))
        added = self.fusion(ops.concatenate([features, token], axis=-1))
        # What both sides say is one vector; it is the same at every voxel.
        sides = (1, 1, 1) if self.bidirectional else ops.shape(x)[1:4]
        return x + ops.reshape(added, (-1, *sides, x.shape[-1]))

    def _look(self, token, features):
        """What the token finds among the features, `z'` of the class docstring, `(B, C)`."""
        channels = features.shape[-1]
        heads = (self.num_heads, channels // self.num_heads)
        query = ops.reshape(self.token_query(token), (-1, *heads))
        rows = (ops.shape(features)[0], -1, *heads)
        key = ops.reshape(self.feature_key(features), rows)
        value = ops.reshape(self.feature_value(features), rows)
        scores = ops.einsum("bhc,bthc->bth", query * heads[1] ** -0.5, key)
        double = self.compute_dtype == "float64"
        weights = ops.softmax(ops.cast(scores, "float64" if double else "float32"), axis=1)
        found = ops.einsum("bth,bthc->bhc", ops.cast(weights, value.dtype), value)
        return self.token_output(ops.reshape(found, (-1, channels)))

    def compute_output_shape(self, input_shape):
        """That of the volumes."""
        return tuple(input_shape[0])

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "bidirectional": self.bidirectional,
        }
