"""A set of points as one vector (Srivastav et al., 2025)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count
from keras_zoo.layers._composite import CompositeLayer
from keras_zoo.layers.fourier_position_encoding import FourierPositionEncoding


@component(paper="deeptfus")
class PointSetEncoder(CompositeLayer):
    """Encodes a set of points, such as a transducer's elements, as one token.

    With `U = units`, `encode` a `FourierPositionEncoding`, `w` `(U,)` the weight `query`, for each
    point `t_i` of a set:

        z_i = encode(t_i)
        z_i = relu(layer_norm(dense(z_i)))       num_layers times            (U,)
        a   = softmax_i(w . z_i)                                             (N,)
        z   = sum_i a_i z_i                                                  (U,)

    The order of the points does not matter.

    Args:
        units: int `U`.
        num_frequencies: int; see `FourierPositionEncoding`.
        num_layers: int. How many dense layers.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. Angles, norms and the
            softmax are worked out in float32 at least.

    Inputs: points `(B, N, 3)`, meant to be in [-1, 1]; any number of coordinates and `N >= 1`.
    Output: `(B, U)`.

    Weights: `dense_i/kernel`, `dense_i/bias`, `norm_i/gamma`, `norm_i/beta`, `query` `(U,)`.

    Raises:
        ValueError: an argument is out of its range; the inputs are not `(B, N, D)`.

    Example:
    >>> layer = keras_zoo.layers.PointSetEncoder(units=64)
    >>> tuple(layer(np.zeros((2, 128, 3))).shape)
    (2, 64)

    Reference: arXiv:2505.12998, section 3.2. No official code of the network is public.
    """

    def __init__(self, units=128, num_frequencies=8, num_layers=2, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units = check_count("units", units)
        self.num_frequencies = check_count("num_frequencies", num_frequencies)
        self.num_layers = check_count("num_layers", num_layers)

    def build(self, input_shape):
        """Makes the dense layers, their norms and the query."""
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                "`inputs` must be points `(B, N, D)` with a known D. "
                f"Received: inputs of shape {tuple(input_shape)}"
            )
        policy = {"dtype": self.sublayer_dtype}
        self.encode = FourierPositionEncoding(self.num_frequencies, name="encode", **policy)
        shape = self.encode.compute_output_shape(input_shape)
        self._dense, self._norms = [], []
        for i in range(self.num_layers):
            dense = keras.layers.Dense(self.units, name=f"dense_{i}", **policy)
            norm = keras.layers.LayerNormalization(epsilon=1e-5, name=f"norm_{i}", **policy)
            dense.build(shape)
            shape = (*shape[:-1], self.units)
            norm.build(shape)
            self._dense.append(dense)
            self._norms.append(norm)
        start = keras.initializers.RandomNormal(stddev=self.units**-0.5)
        self.query = self.add_weight((self.units,), start, name="query")

    def call(self, inputs):
        """The token of each set."""
        z = self.encode(inputs)
        for dense, norm in zip(self._dense, self._norms, strict=True):
            z = ops.relu(norm(dense(z)))
        z = ops.cast(z, "float64" if self.compute_dtype == "float64" else "float32")
        scores = ops.sum(z * ops.cast(self.query, z.dtype), axis=-1, keepdims=True)
        token = ops.sum(ops.softmax(scores, axis=1) * z, axis=1)
        return ops.cast(token, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """`(B, U)`."""
        return (input_shape[0], self.units)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "num_frequencies": self.num_frequencies,
            "num_layers": self.num_layers,
        }
