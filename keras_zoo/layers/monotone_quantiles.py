"""A layer that puts predicted quantiles in order."""

import keras

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_number
from keras_zoo.ops.monotone_quantiles import METHODS, monotone_quantiles


@component(paper="quantile-aggregation")
class MonotoneQuantiles(keras.layers.Layer):
    """Makes quantiles increase along the last axis, in training and after.

        out = monotone_quantiles(x, method, strength)

    See `keras_zoo.ops.monotone_quantiles` for the methods.

    Args:
        method: "sort", "isotonic", "center_out" or "soft_sort".
        strength: float > 0, of the soft sort alone.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`. Half precisions compute in float32.

    Inputs: `(..., Q)`, finite. Output: of the same shape, ascending. A NaN makes its row NaN.

    Raises:
        ValueError: an argument is out of its range; the last axis has no known size.

    Example:
    >>> keras_zoo.layers.MonotoneQuantiles("center_out")(np.array([[3.0, 2.0, 1.0]]))  # [[2, 2, 2]]

    Reference: arXiv:2103.00083, section 4; github.com/amazon-research/quantile-aggregation.
    """

    def __init__(self, method="sort", strength=0.1, **kwargs):
        super().__init__(**kwargs)
        self.method = check_choice("method", method, METHODS)
        self.strength = check_number("strength", strength, positive=True)

    def call(self, inputs):
        """The quantiles in order."""
        return monotone_quantiles(inputs, self.method, self.strength)

    def compute_output_shape(self, input_shape):
        """As `inputs`."""
        return tuple(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "method": self.method, "strength": self.strength}
