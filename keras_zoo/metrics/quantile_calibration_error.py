"""How often targets lie below predicted quantiles, against how often they should."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo.ops._quantiles import check_quantile_batch, check_quantiles


@component(paper="quantile-aggregation")
class QuantileCalibrationError(keras.metrics.Metric):
    """Mean distance of the levels of quantiles from the shares of targets at or below them.

    With levels `tau` `(Q,)`, targets `y` `(N,)` and predictions `p` `(N, Q)` of all examples:

        result = mean_q | mean_i [y_i <= p_iq] - tau_q |

    Args:
        quantiles: floats in (0, 1), increasing: the levels.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: targets `(N,)` or `(N, 1)`; predictions
    `(N, Q)`; weights `(N,)` or `(N, 1)`. Batches add to counts, and the distance is that of all
    their examples, so it does not matter how they are cut. The result is 0 before any example. NaN
    gives NaN. Even perfect quantiles have an error, of about `sqrt(tau (1 - tau) / N)` a level.

    Raises:
        ValueError: the levels do not increase in (0, 1); shapes do not fit.

    Example:
    >>> metric = keras_zoo.metrics.QuantileCalibrationError([0.25, 0.75])
    >>> metric.update_state([1.0, 2.0], [[1.5, 2.5], [1.5, 2.5]])
    >>> float(metric.result())
    0.25

    Reference: arXiv:2103.00083; github.com/amazon-research/quantile-aggregation.
    """

    def __init__(self, quantiles, name="calibration_error", dtype=None):
        quantiles = check_quantiles(quantiles)
        super().__init__(name=name, dtype=dtype)
        self.quantiles = quantiles
        # Counts, which half precision could not hold.
        self.below = self.add_variable(
            shape=(len(quantiles),), initializer="zeros", dtype="float32", name="below"
        )
        self.total = self.add_variable(shape=(), initializer="zeros", dtype="float32", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts the targets of one batch."""
        y_true, y_pred = check_quantile_batch(y_true, y_pred, len(self.quantiles))
        errors = y_true - y_pred
        below = ops.where(ops.isnan(errors), float("nan"), ops.cast(errors <= 0, "float32"))
        weights = ops.ones_like(below[:, :1])
        if sample_weight is not None:
            weights = ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        self.below.assign_add(ops.sum(weights * below, axis=0))
        self.total.assign_add(ops.sum(weights))

    def result(self):
        """The mean distance."""
        levels = ops.convert_to_tensor(self.quantiles, dtype="float32")
        below, total = map(ops.convert_to_tensor, (self.below, self.total))
        nothing = ops.equal(total, 0)
        error = ops.mean(ops.abs(below / ops.where(nothing, 1.0, total) - levels))
        return ops.where(nothing, 0.0, error)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "quantiles": list(self.quantiles)}
