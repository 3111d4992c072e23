"""Hamming loss of sets of labels."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.metrics._multi_label import MultiLabelMetric


@component(paper="arabic-emotion")
class HammingLoss(MultiLabelMetric):
    """The share of labels that are predicted wrongly; less is better.

    With labels `y` `(N, C)` and predictions `h_ic = [p_ic > threshold]`:

        result = mean_ic [ y_ic != h_ic ]

    It is a metric: it has no gradient.

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
    >>> metric = keras_zoo.metrics.HammingLoss()
    >>> metric.update_state([[1, 0], [0, 1]], [[2.0, -1.0], [3.0, 0.5]])
    >>> float(metric.result())
    0.25

    Reference: arXiv:2410.03979.
    """

    def __init__(
        self,
        num_labels=None,
        threshold=0.5,
        from_logits=True,
        name="hamming_loss",
        dtype=None,
    ):
        super().__init__(num_labels, threshold, from_logits, name, dtype)

    def score(self, truth, found):
        """Share of wrong labels of each example."""
        return ops.mean(ops.cast(ops.not_equal(truth, found), "float32"), axis=-1)
