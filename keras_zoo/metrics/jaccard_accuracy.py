"""Jaccard accuracy of sets of labels."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.metrics._multi_label import MultiLabelMetric


@component(paper="arabic-emotion")
class JaccardAccuracy(MultiLabelMetric):
    """The share of labels that truth and prediction have in common, of those that either has.

    With the true labels `Y_i` and the predicted ones `H_i = {c: p_ic > threshold}`:

        result = mean_i |Y_i and H_i| / |Y_i or H_i|,   1 where both are empty

    Args:
        num_labels: int, to use only so many first columns of `y_pred`, where embeddings follow the
            logits. None for all of them.
        threshold: float in [0, 1].
        from_logits: bool. Whether `y_pred` goes through a sigmoid first.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: labels `(N, C)` of 0 and 1; scores `(N, C)`,
    or `(N, C + D)` with `num_labels`; weights `(N,)` or `(N, 1)`. The result is 0 before any
    example, and NaN once a label or a score was NaN.

    Raises:
        ValueError: an argument is out of its range; shapes do not fit.

    Example:
    >>> metric = keras_zoo.metrics.JaccardAccuracy(from_logits=False)
    >>> metric.update_state([[1, 1, 0], [0, 0, 0]], [[0.9, 0.2, 0.1], [0.3, 0.1, 0.2]])
    >>> float(metric.result())
    0.75

    Reference: arXiv:2410.03979; the "accuracy" of SemEval-2018, task 1 E-c.
    """

    def __init__(
        self,
        num_labels=None,
        threshold=0.5,
        from_logits=True,
        name="jaccard_accuracy",
        dtype=None,
    ):
        super().__init__(num_labels, threshold, from_logits, name, dtype)

    def score(self, truth, found):
        """Jaccard index of each example."""
        common = ops.sum(ops.cast(ops.logical_and(truth, found), "float32"), axis=-1)
        either = ops.sum(ops.cast(ops.logical_or(truth, found), "float32"), axis=-1)
        return ops.where(either > 0, common / ops.maximum(either, 1.0), 1.0)
