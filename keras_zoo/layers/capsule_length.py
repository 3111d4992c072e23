"""The length of capsules, which is how sure they are (Sabour et al., 2017)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.ops._precision import full_precision


@component(paper="weighted-capsnet")
class CapsuleLength(keras.layers.Layer):
    """Length of each capsule, `sqrt(sum v^2 + epsilon)`: of squashed ones a score below 1.

    Args:
        epsilon: float > 0. A capsule of 0 has the length `sqrt(epsilon)` and a gradient of 0.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`. Worked out in float32 at least.

    Inputs: `(..., O)`.
    Output: `(...)`.

    Raises:
        ValueError: `epsilon` is not above 0.

    Example:
    >>> length = keras_zoo.layers.CapsuleLength()
    >>> keras.ops.convert_to_numpy(length(np.array([[0.6, 0.0]]))).round(4)
    array([0.6], dtype=float32)

    Reference: arXiv:1710.09829. Differs from the authors' code: none but `epsilon`.
    """

    def __init__(self, epsilon=1e-7, **kwargs):
        check_number("epsilon", epsilon, positive=True)
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs):
        """The lengths."""
        squared = ops.sum(ops.square(full_precision(inputs)), axis=-1)
        return ops.cast(ops.sqrt(squared + self.epsilon), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """All axes but the last."""
        return tuple(input_shape[:-1])

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
