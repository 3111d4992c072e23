"""Equal error rate of a detector."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, is_vector, sizes_agree
from keras_zoo.ops.scatter import added

# Rates are quotients of float32: below this, differences of them are equal.
TIE = 1e-6


@component(paper="hyp-oc")
class EqualErrorRate(keras.metrics.Metric):
    """The rate of errors at the threshold where both kinds of them are as frequent.

    With scores `s` in [0, 1], labels 1 (an attack, an anomaly) and 0 (genuine), thresholds
    `t_j = j / (n - 1)`, `j = 0 .. n - 1`, `n = num_thresholds`, and one that no score reaches:

        FRR(t) = share of the examples of label 1 with s < t
        FAR(t) = share of the examples of label 0 with s >= t
        result = (FRR(t) + FAR(t)) / 2   at the last t with the smallest |FRR(t) - FAR(t)|

    It is also the half total error rate at this threshold.

    Args:
        num_thresholds: int > 1. `n`. Scores in one of the `n` bins are not told apart.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: labels `(N,)` or `(N, 1)`; scores `(N,)`,
    `(N, 1)` or `(N, 2)`, whose last column counts, such as probabilities; weights `(N,)` or
    `(N, 1)`. Any number of batches is two histograms, and the result that of all their examples.

    Scores outside of [0, 1] count as the nearer of both. Where a kind is absent its rate is 1 at
    all thresholds; so is the result, then, and before any example. A NaN among the scores, or a
    label that is neither 0 nor 1, gives NaN.

    Raises:
        ValueError: `num_thresholds` is not an int above 1; shapes do not fit.

    Example:
    >>> metric = keras_zoo.metrics.EqualErrorRate()
    >>> metric.update_state([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.7, 0.6, 0.8, 0.9])
    >>> round(float(metric.result()), 4)
    0.3333

    Reference: arXiv:2404.14406, section 4; github.com/Kartik-3004/hyp-oc, `statistics.py`.
    """

    def __init__(self, num_thresholds=10001, name="equal_error_rate", dtype=None):
        num_thresholds = check_count("num_thresholds", num_thresholds)
        if num_thresholds < 2:
            raise ValueError(f"`num_thresholds` must be at least 2. Received: {num_thresholds=}")
        super().__init__(name=name, dtype=dtype)
        self.num_thresholds = num_thresholds
        # Counts, which half precision could not hold.
        self.histograms = self.add_variable(
            shape=(2, num_thresholds), initializer="zeros", dtype="float32", name="histograms"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts the examples of one batch by label and by score."""
        labels, scores = _checked(y_true, y_pred)
        is_one, is_zero = ops.equal(labels, 1), ops.equal(labels, 0)
        known = ops.logical_and(ops.logical_or(is_one, is_zero), ops.equal(scores, scores))
        weights = ops.where(known, 1.0, float("nan"))
        if sample_weight is not None:
            weights = weights * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        scores = ops.clip(ops.where(known, scores, 0.0), 0.0, 1.0)
        bins = ops.cast(ops.floor(scores * (self.num_thresholds - 1) + 1e-6), "int32")
        places = bins + self.num_thresholds * ops.cast(is_one, "int32")
        counts = added(weights, places, ops.zeros((2 * self.num_thresholds,), "float32"))
        self.histograms.assign_add(ops.reshape(counts, (2, self.num_thresholds)))

    def result(self):
        """The equal error rate of all examples."""
        # Below t_j lie the bins up to j - 1; below the last threshold, all of them.
        below = ops.cumsum(self.histograms, axis=1)
        below = ops.concatenate([ops.zeros((2, 1), "float32"), below], axis=1)
        totals = below[:, -1:]
        shares = below / ops.where(ops.equal(totals, 0), 1.0, totals)
        absent = ops.equal(totals, 0)
        rejected = ops.where(absent[1], 1.0, shares[1])
        accepted = ops.where(absent[0], 1.0, 1 - shares[0])
        gaps = ops.abs(rejected - accepted)
        smallest = ops.cast(gaps <= ops.amin(gaps) + TIE, "int32")
        last = self.num_thresholds - ops.argmax(ops.flip(smallest))
        return (ops.take(rejected, last) + ops.take(accepted, last)) / 2

    def reset_state(self):
        """Forgets all examples."""
        self.histograms.assign(ops.zeros((2, self.num_thresholds), "float32"))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_thresholds": self.num_thresholds}


def _checked(y_true, y_pred):
    """Labels and scores, float32 `(N,)`."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    labels, scores = tuple(y_true.shape), tuple(y_pred.shape)
    is_score = len(scores) == 1 or (len(scores) == 2 and scores[1] in (1, 2))
    if not is_vector(labels) or not is_score or not sizes_agree(labels[:1], scores):
        raise ValueError(
            "`y_pred` must hold scores `(N,)`, `(N, 1)` or `(N, 2)`, and `y_true` labels `(N,)` or "
            f"`(N, 1)`. Received: y_true of shape {labels}, y_pred of shape {scores}"
        )
    if len(scores) == 2:
        y_pred = y_pred[:, -1]
    return ops.reshape(ops.cast(y_true, "float32"), (-1,)), ops.cast(y_pred, "float32")
