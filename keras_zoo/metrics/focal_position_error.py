"""Distance between the peaks of fields."""

import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo.metrics._fields import FieldMetric, flat


@component(paper="deeptfus")
class FocalPositionError(FieldMetric):
    """How far a predicted field's peak is from the true one, averaged over fields.

        result = mean_b | spacing * (argmax t_b - argmax p_b) |          places of voxels

    Of equal voxels the first counts, the last axis running fastest: a constant field has its peak
    at voxel (0, 0, 0).

    Args:
        spacing: positive float, or three of them, one an axis: how far neighbouring voxels are
            from one another, in the unit that the result shall have, such as mm.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: fields `(B, D, H, W)` or
    `(B, D, H, W, 1)` each, weights `(B,)`. The result is 0 before any field, and NaN once a field
    held NaN.

    Raises:
        ValueError: `spacing` is not one or three positive numbers; the fields are not of one size.

    Example:
    >>> true, found = np.zeros((2, 1, 8, 8, 8))
    >>> true[0, 4, 4, 4], found[0, 4, 7, 0] = 1.0, 1.0
    >>> metric = keras_zoo.metrics.FocalPositionError(spacing=0.5)
    >>> metric.update_state(true, found)
    >>> float(metric.result())
    2.5

    Reference: arXiv:2505.12998, section 4.
    """

    def __init__(self, spacing=0.5, name="focal_position_error", dtype=None):
        sides = np.asarray(spacing)
        numbers = sides.shape in ((), (3,)) and sides.dtype.kind in "fiu"
        if not numbers or not np.isfinite(sides).all() or (sides <= 0).any():
            raise ValueError(
                "`spacing` must be a positive number, or three of them. "
                f"Received: spacing={spacing!r}"
            )
        super().__init__(name=name, dtype=dtype)
        self.spacing = sides.tolist()
        # Keras's own kind of list, which the one above becomes, cuts torch's graphs.
        self._sides = tuple(np.broadcast_to(sides, (3,)).tolist())

    def measure(self, t, p):
        """The distance between the peaks of each pair of fields."""
        distance = (_peak(t) - _peak(p)) * ops.convert_to_tensor(self._sides, "float32")
        return ops.sqrt(ops.sum(ops.square(distance), axis=-1))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "spacing": self.spacing}


def _peak(x):
    """Place of the peak of each field, `(B, 3)`."""
    height, width = ops.shape(x)[2:]
    place = ops.cast(ops.argmax(flat(x), axis=-1), "int32")
    rows = place // width
    place = ops.stack([rows // height, rows % height, place % width], axis=-1)
    return ops.cast(place, "float32")
