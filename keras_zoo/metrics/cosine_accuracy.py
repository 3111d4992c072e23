"""Accuracy of cosines that stand in front of features."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_batch, check_count
from keras_zoo.ops.pairs import nan_if_nan


@component(paper="unpg")
class CosineAccuracy(keras.metrics.Mean):
    """Share of examples whose own class has the greatest of the first `C` columns.

        result = mean_i [ argmax_{c < C} y_pred_ic = y_i ]

    for the outputs `(N, C + D)` of `CosineClassifier(C, append_features=True)`, whose last `D`
    columns are no scores.

    Args:
        num_classes: int > 0. `C`.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: class ids `(N,)` or `(N, 1)`, predictions
    `(N, C)` or wider, weights `(N,)` or `(N, 1)`.

    Of equal scores the first class wins. A class id outside of `[0, C)` is never met. The result
    is 0 before any example, and NaN once a score was NaN.

    Raises:
        ValueError: `num_classes` is not a positive int; shapes do not fit.

    Example:
    >>> model.compile("adam", keras_zoo.losses.UNPGLoss(1000),
    ...               metrics=[keras_zoo.metrics.CosineAccuracy(1000)])

    Reference: arXiv:2203.11593.
    """

    def __init__(self, num_classes, name="cosine_accuracy", dtype=None):
        num_classes = check_count("num_classes", num_classes)
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts the examples of one batch, and those that are right."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_batch(y_true, y_pred)
        if y_pred.shape[1] is not None and y_pred.shape[1] < self.num_classes:
            raise ValueError(
                "`y_pred` must have `num_classes` columns at least. Received: y_pred of shape "
                f"{tuple(y_pred.shape)}, num_classes={self.num_classes}"
            )
        scores = ops.cast(y_pred[:, : self.num_classes], "float32")
        best = ops.cast(ops.argmax(scores, axis=-1), "int32")
        hits = ops.equal(best, ops.cast(ops.reshape(y_true, (-1,)), "int32"))
        hits = ops.cast(hits, self.dtype) + ops.cast(nan_if_nan(scores), self.dtype)
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
        super().update_state(hits, sample_weight=sample_weight)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}
