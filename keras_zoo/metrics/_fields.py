"""What the metrics of fields share."""

import keras
from keras import ops

from keras_zoo._checks import check_fields


class FieldMetric(keras.metrics.Mean):
    """Mean over fields of a number that a subclass's `measure` makes of each.

    `measure(t, p)` takes targets and predictions `(B, D, H, W)` in float32, and gives `(B,)`.
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the fields of one batch, with weights `(B,)` if they are given."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_fields(y_true, y_pred)
        t, p = (
            ops.cast(ops.squeeze(x, axis=-1) if len(x.shape) == 5 else x, "float32")
            for x in (y_true, y_pred)
        )
        values = self.measure(t, p)
        # Comparisons would swallow a NaN.
        values = values + 0 * ops.sum(t + p, axis=(1, 2, 3))
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
        super().update_state(values, sample_weight=sample_weight)


def flat(x):
    """Fields as rows of voxels in C order, `(B, V)`."""
    return ops.reshape(x, (ops.shape(x)[0], -1))
