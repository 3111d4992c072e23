"""Vectors whose length is a probability (Sabour et al., 2017)."""

from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.ops._precision import full_precision

Tensor = Any


@component(paper="weighted-capsnet")
def squash(x: Tensor, axis: int = -1, epsilon: float = 1e-7) -> Tensor:
    """Shrinks vectors to a length below 1, and keeps their direction.

        squash(s) = s n / ((1 + n) sqrt(n + epsilon)),   n = sum s^2 along the axis

    Short vectors nearly vanish, long ones come near to length 1. At 0 both value and gradient
    are 0.

    Args:
        x: tensor of any shape. Half precisions are worked out in float32.
        axis: int, the axis along which the vectors lie.
        epsilon: float > 0.

    Returns:
        Tensor like `x`.

    Raises:
        ValueError: `epsilon` is not above 0.

    Example:
    >>> keras.ops.convert_to_numpy(keras_zoo.ops.squash([[3.0, 4.0]])).round(4)  # length 25 / 26
    array([[0.5769, 0.7692]], dtype=float32)

    Reference: arXiv:1710.09829, eq. 1, as arXiv:2306.17068 uses it. Differs from the authors'
    code: epsilon stands inside of the root.
    """
    check_number("epsilon", epsilon, positive=True)
    x = ops.convert_to_tensor(x)
    s = full_precision(x)
    n = ops.sum(ops.square(s), axis=axis, keepdims=True)
    return ops.cast(
        s * (n / (1 + n) / ops.sqrt(n + epsilon)), keras.backend.standardize_dtype(x.dtype)
    )
