"""Weighted interval score of predicted quantiles."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag
from keras_zoo.ops._quantiles import check_quantile_batch, check_quantiles, pinball


@component(paper="quantile-aggregation")
class WeightedIntervalScore(keras.metrics.Mean):
    """How wide the predicted intervals are and how far targets lie outside: the lower the better.

    With levels `tau` `(Q,)`, a target `y` and predictions `p` `(Q,)`, per example

        score = 2 mean_q max(tau_q (y - p_q), (tau_q - 1) (y - p_q))

    or twice the sum over `q`. For levels that are symmetric around a median `m`, with `K` intervals
    `[l_k, u_k]` of levels `tau_k` and `1 - tau_k`, `alpha_k = 2 tau_k`, it is the same as

        IS_k  = (u_k - l_k) + max(0, l_k - y) / tau_k + max(0, y - u_k) / tau_k
        score = (|y - m| / 2 + sum_k alpha_k / 2 IS_k) / (K + 1 / 2)

    Args:
        quantiles: floats in (0, 1), increasing: the levels.
        normalize: bool. Whether to take the mean over the levels, else the sum.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: targets `(N,)` or `(N, 1)`; predictions
    `(N, Q)`, in whatever order their rows are; weights `(N,)` or `(N, 1)`. The result is the mean
    over all examples, 0 before any, and in units of `y`. NaN gives NaN.

    Raises:
        ValueError: the levels do not increase in (0, 1); shapes do not fit.

    Example:
    >>> metric = keras_zoo.metrics.WeightedIntervalScore([0.1, 0.5, 0.9])
    >>> metric.update_state([2.0], [[1.0, 2.5, 4.0]])
    >>> round(float(metric.result()), 4)
    0.3667

    Reference: arXiv:2103.00083, section 2; github.com/amazon-research/quantile-aggregation.
    """

    def __init__(self, quantiles, normalize=True, name="wis", dtype=None):
        quantiles, normalize = check_quantiles(quantiles), check_flag("normalize", normalize)
        super().__init__(name=name, dtype=dtype)
        self.quantiles = quantiles
        self.normalize = normalize

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in one batch."""
        y_true, y_pred = check_quantile_batch(y_true, y_pred, len(self.quantiles))
        reduce = ops.mean if self.normalize else ops.sum
        scores = 2 * reduce(pinball(y_true - y_pred, self.quantiles), axis=-1)
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
        super().update_state(scores, sample_weight=sample_weight)

    def get_config(self):
        """The constructor's arguments."""
        own = {"quantiles": list(self.quantiles), "normalize": self.normalize}
        return {**super().get_config(), **own}
