"""What everything that knows the levels of quantiles shares."""

from typing import Any

import numpy as np
from keras import ops

from keras_zoo._checks import is_vector, sizes_agree
from keras_zoo.ops._precision import full_precision

Tensor = Any


def check_quantiles(quantiles: Any) -> tuple[float, ...]:
    """The levels as floats, if they increase inside of (0, 1)."""
    try:
        levels = np.asarray(quantiles)
    except ValueError:  # Lists of several lengths.
        levels = np.zeros(0)
    sound = levels.ndim == 1 and levels.size and levels.dtype.kind in "if"
    if not sound or not (np.diff(levels, prepend=0.0, append=1.0) > 0).all():
        raise ValueError(
            "`quantiles` must be levels between 0 and 1, each above the one before. "
            f"Received: quantiles={quantiles!r}"
        )
    return tuple(float(level) for level in levels)


def check_quantile_batch(y_true: Tensor, y_pred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Targets `(N, 1)` and predictions `(N, count)` in full precision, if they fit together."""
    y_pred = full_precision(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    targets, predictions = tuple(y_true.shape), tuple(y_pred.shape)
    agree = is_vector(targets) and sizes_agree(targets[:1], predictions)
    if not agree or len(predictions) != 2 or predictions[1] != count:
        raise ValueError(
            f"`y_pred` must hold {count} quantiles of each example, `(N, {count})`, and `y_true` "
            "its target, `(N,)` or `(N, 1)`. "
            f"Received: y_true of shape {targets}, y_pred of shape {predictions}"
        )
    return ops.reshape(y_true, (-1, 1)), y_pred


def pinball(errors: Tensor, quantiles: tuple[float, ...]) -> Tensor:
    """`max(tau e, (tau - 1) e)` of errors `e = y - p`, `(..., Q)`."""
    levels = ops.convert_to_tensor(quantiles, dtype=errors.dtype)
    return ops.where(errors < 0, levels - 1, levels) * errors
