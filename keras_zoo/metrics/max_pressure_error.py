"""Relative error of the peaks of fields."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.metrics._fields import FieldMetric, flat

SMALLEST_PEAK = 1e-12


@component(paper="deeptfus")
class MaxPressureError(FieldMetric):
    """How far a predicted field's greatest value is from the true one, averaged over fields.

        result = mean_b |max p_b - max t_b| / (|max t_b| + 1e-12)

    Args:
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: fields `(B, D, H, W)` or
    `(B, D, H, W, 1)` each, weights `(B,)`. The peaks may be at different places. The result is 0
    before any field, and NaN once a field held NaN.

    Raises:
        ValueError: the fields are not of one size.

    Example:
    >>> true, found = np.random.rand(1, 8, 8, 8), np.random.rand(1, 8, 8, 8)
    >>> true[0, 4, 4, 4], found[0, 4, 7, 0] = 2.0, 1.5
    >>> metric = keras_zoo.metrics.MaxPressureError()
    >>> metric.update_state(true, found)
    >>> float(metric.result())
    0.25

    Reference: arXiv:2505.12998, section 4.
    """

    def __init__(self, name="max_pressure_error", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def measure(self, t, p):
        """The relative error of each field's peak."""
        true, found = (ops.amax(flat(x), axis=-1) for x in (t, p))
        return ops.abs(found - true) / (ops.abs(true) + SMALLEST_PEAK)
