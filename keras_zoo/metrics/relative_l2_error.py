"""Relative error of fields."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.metrics._fields import FieldMetric, flat

SMALLEST_NORM = 1e-12


@component(paper="deeptfus")
class RelativeL2Error(FieldMetric):
    """Length of a field's error over that of the field, averaged over fields.

        result = mean_b |p_b - t_b| / (|t_b| + 1e-12)

    A field of zeros in place of every prediction has 1.

    Args:
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: fields `(B, D, H, W)` or
    `(B, D, H, W, 1)` each, weights `(B,)`. The result is 0 before any field, and NaN once a field
    held NaN.

    Raises:
        ValueError: the fields are not of one size.

    Example:
    >>> metric = keras_zoo.metrics.RelativeL2Error()
    >>> metric.update_state(np.ones((2, 8, 8, 8)), np.full((2, 8, 8, 8), 0.75))
    >>> float(metric.result())
    0.25

    Reference: arXiv:2505.12998, section 4.
    """

    def __init__(self, name="relative_l2_error", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def measure(self, t, p):
        """The relative error of each field."""
        error, whole = (ops.sqrt(ops.sum(ops.square(flat(x)), axis=-1)) for x in (p - t, t))
        return error / (whole + SMALLEST_NORM)
