"""Accuracy of the nearest prototype in few-shot episodes."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_batch, check_count
from keras_zoo.ops.episodes import episode, nearness
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import nan_if_nan


@component(paper="susana-distancia")
class PrototypicalAccuracy(keras.metrics.Mean):
    """Share of queries whose nearest prototype is that of their own class, over all episodes.

    Each batch is an episode: in each class the first `shots` rows, in the order of the batch, are
    support, `c_w` `(D,)` is their mean, and all other rows are queries `x_q` of class `y_q`:

        result = mean_q [ argmin_w |x_q - c_w|^2 = y_q ]

    Args:
        shots: int > 0. Support rows of a class.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: labels `(N,)` or `(N, 1)`, embeddings
    `(N, D)`, weights `(N,)` or `(N, 1)` of the queries; those of support rows do nothing.

    Of prototypes equally near, that of the class which comes first wins, as far as rounding allows.
    The result is 0 before any query, and NaN once an embedding held NaN.

    Raises:
        ValueError: `shots` is not a positive int; shapes do not fit.

    Example:
    >>> model.compile("adam", keras_zoo.losses.PrototypicalLoss(shots=5),
    ...               metrics=[keras_zoo.metrics.PrototypicalAccuracy(shots=5)])

    Reference: arXiv:2305.09062, evaluation.
    """

    def __init__(self, shots, name="prototypical_accuracy", dtype=None):
        shots = check_count("shots", shots)
        super().__init__(name=name, dtype=dtype)
        self.shots = shots

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts the queries of one episode, and those that are right."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.cast(y_pred, "float32")
        check_batch(y_true, y_pred)
        if y_pred.shape[0] == 0:
            return
        labels = ops.reshape(y_true, (-1,))
        rows = episode(labels, y_pred, self.shots)
        scores = ops.where(rows.first[None, :], nearness(rows.features, rows.prototypes), LOWEST)
        hits = ops.equal(ops.take(labels, ops.argmax(scores, axis=-1)), labels)
        weight = ops.cast(rows.queries, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
            weight = weight * ops.cast(sample_weight, self.dtype)
        hits = ops.cast(hits, self.dtype) + ops.cast(nan_if_nan(y_pred), self.dtype)
        super().update_state(hits, sample_weight=weight)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "shots": self.shots}
