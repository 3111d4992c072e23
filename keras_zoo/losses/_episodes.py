"""What the losses over few-shot episodes share: roles of rows, and the mean over queries."""

import keras
from keras import ops

from keras_zoo._checks import check_batch, check_count
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops.episodes import episode
from keras_zoo.ops.pairs import nan_if_nan


class EpisodeLoss(ZooLoss):
    """Base of losses whose support is the first `shots` rows of each class in a batch."""

    def __init__(self, shots, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.shots = check_count("shots", shots)

    def call(self, y_true, y_pred):
        """Loss of each row, `(N,)`: scaled so that the mean over rows is that over queries."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_batch(y_true, y_pred)
        if keras.backend.standardize_dtype(y_pred.dtype) != "float64":
            y_pred = ops.cast(y_pred, "float32")
        if y_pred.shape[0] == 0:
            return ops.zeros((0,), dtype=y_pred.dtype)
        rows = episode(ops.reshape(y_true, (-1,)), y_pred, self.shots)
        queries = ops.cast(rows.queries, y_pred.dtype)
        factor = queries / ops.maximum(ops.mean(queries), 1e-30)
        return self.row_losses(rows) * factor + nan_if_nan(y_pred)

    def row_losses(self, rows):
        """Loss of each row as if it were a query, `(N,)`, from an `Episode`."""
        raise TypeError(
            f"A subclass defines `row_losses(rows)`. Received: {type(self).__name__}, "
            "which does not"
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "shots": self.shots}
