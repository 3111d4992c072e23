"""Which examples of a batch make a pair, and how their features are prepared."""

from typing import Any

from keras import ops

Tensor = Any


def l2_normalize(x: Tensor) -> Tensor:
    """Rows of unit length; rows of zeros stay zeros, with a finite gradient.

    Rows are brought near 1 first, so that squares of large or small numbers stay in range.
    """
    scale = ops.stop_gradient(ops.amax(ops.abs(x), axis=-1, keepdims=True))
    x = x / ops.where(scale > 0, scale, ops.ones_like(scale))
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))


def inner_products(features: Tensor) -> Tensor:
    """`S = F F^T`, `(N, N)`, of features `(N, D)`."""
    return ops.matmul(features, ops.transpose(features))


def pair_masks(row_labels: Tensor, row_index: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which columns are another example of a row's class, and which are of another class.

    Args:
        row_labels: `(R,)`, the labels of the anchors.
        row_index: int32 `(R,)`, the column at which each anchor itself stands.
        labels: `(N,)`.

    Returns:
        `(pos, neg)`: bool `(R, N)`.
    """
    same = ops.equal(row_labels[:, None], labels[None, :])
    other_row = ops.not_equal(row_index[:, None], ops.arange(ops.shape(labels)[0])[None, :])
    return ops.logical_and(same, other_row), ops.logical_not(same)


def nan_if_nan(x: Tensor) -> Tensor:
    """A scalar to add: NaN if `x` holds a NaN, else 0. Comparisons would swallow it."""
    nan = ops.convert_to_tensor(float("nan"), dtype=x.dtype)
    return ops.where(ops.any(ops.isnan(x)), nan, ops.zeros_like(nan))
