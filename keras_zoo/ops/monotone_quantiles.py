"""Putting predicted quantiles in order."""

from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_number
from keras_zoo.ops._precision import full_precision

Tensor = Any

METHODS = ("sort", "isotonic", "center_out", "soft_sort")


@component(paper="quantile-aggregation")
def monotone_quantiles(x: Tensor, method: str = "sort", strength: float = 0.1) -> Tensor:
    """Makes quantiles increase along the last axis.

    With a row `x` `(Q,)`, `c = Q // 2`:

        sort         the entries in ascending order
        isotonic     out_i = max_{a <= i} min_{b >= i} mean(x_a .. x_b), the nearest ascending row
        center_out   out_i = max(x_c .. x_i) from c on, min(x_i .. x_c) before c
        soft_sort    v - w,   w = (Q, Q - 1, .., 1) / strength,
                     v the nearest descending row to sort(x) + w

    Sorting and isotonic regression never raise the mean pinball loss of a row, whatever the target.
    `center_out` leaves the middle as it is. A soft sort is the sort where neighbours in it are less
    than `1 / strength` apart; farther ones are drawn together, to gaps of `1 / strength`, and the
    mean of the row stays.

    Args:
        x: `(..., Q)`, finite.
        method: "sort", "isotonic", "center_out" or "soft_sort".
        strength: float > 0, of the soft sort alone.

    Returns:
        A tensor of the shape and dtype of `x` (float32 for integers), ascending to the last bit. An
        ascending row comes back unchanged, by soft sort if its gaps are that small. A NaN makes its
        whole row NaN.

    The gradient of isotonic regression is the mean inside of each pooled block; equal neighbours
    are one block. All but `sort` take memory for `Q * Q` numbers a row.

    Raises:
        ValueError: an argument is out of its range; `x` has no last axis of a known size.

    Example:
    >>> keras_zoo.ops.monotone_quantiles([1.0, 3.0, 2.0], "isotonic")  # [1.0, 2.5, 2.5]

    Reference: arXiv:2103.00083, section 4; github.com/amazon-research/quantile-aggregation. Differs
    from the official code, where "sort" means the soft sort.
    """
    check_choice("method", method, METHODS)
    check_number("strength", strength, positive=True)
    x = ops.convert_to_tensor(x)
    if not len(x.shape) or x.shape[-1] is None:
        raise ValueError(f"`x` must be `(..., Q)`, Q known. Received: x of shape {tuple(x.shape)}")
    dtype = keras.backend.standardize_dtype(x.dtype)
    dtype = dtype if "float" in dtype else "float32"
    rows = full_precision(x)
    if x.shape[-1] < 2:
        return ops.cast(rows, dtype)
    if method == "sort":
        out = ops.sort(rows, axis=-1)
    elif method == "isotonic":
        out = _isotonic(rows)
    elif method == "center_out":
        out = _center_out(rows)
    else:
        out = _soft_sort(rows, strength)
    # Frameworks do not agree on where a sort puts NaN.
    known = ops.logical_not(ops.any(ops.isnan(rows), axis=-1, keepdims=True))
    return ops.cast(ops.where(known, out, float("nan")), dtype)


def _isotonic(x: Tensor) -> Tensor:
    """The nearest ascending rows."""
    differences = _differences(x)
    return _ascending(x + ops.sum(_ascending_blocks(differences) * differences, axis=-1))


def _soft_sort(x: Tensor, strength: float) -> Tensor:
    """`v - w` of the docstring above, without a difference of large numbers."""
    x = ops.sort(x, axis=-1)
    row, column = _places(x)
    differences = _differences(x) + ops.cast(row - column, x.dtype) / strength
    # Descending blocks of a row are the ascending ones of its opposite.
    blocks = _ascending_blocks(-differences)
    return _ascending(x + ops.sum(blocks * differences, axis=-1))


def _center_out(x: Tensor) -> Tensor:
    """Running maxima to the right of the middle, minima to the left."""
    centre = x.shape[-1] // 2
    row, column = _places(x)
    between = ops.logical_and(
        column >= ops.minimum(row, centre), column <= ops.maximum(row, centre)
    )
    sign = ops.cast(ops.where(row[:, 0] >= centre, 1.0, -1.0), x.dtype)
    spread = ops.where(between, x[..., None, :], x[..., centre : centre + 1, None])
    return sign * ops.amax(sign[:, None] * spread, axis=-1)


def _places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the last axis, as a column `(Q, 1)` and as a row `(1, Q)`."""
    places = ops.arange(x.shape[-1], dtype="int32")
    return places[:, None], places[None, :]


def _differences(x: Tensor) -> Tensor:
    """`x_j - x_i` at `[..., i, j]`: centred, so that large entries keep their digits."""
    return x[..., None, :] - x[..., :, None]


def _ascending_blocks(differences: Tensor) -> Tensor:
    """The blocks that isotonic regression pools, `(..., Q, Q)`, as a matrix that averages.

    A block ends after `i` where all means that end at `i` are below all that start after it.
    """
    d = ops.stop_gradient(differences)
    row, column = _places(d)
    count = ops.cast(ops.abs(row - column) + 1, d.dtype)
    # Relative to x_i: means of x_a .. x_i, greatest over a, and of x_i .. x_b, least over b.
    before = ops.flip(ops.cumsum(ops.flip(ops.where(column <= row, d, 0.0), -1), axis=-1), -1)
    after = ops.cumsum(ops.where(column >= row, d, 0.0), axis=-1)
    greatest, least = ops.amax(before / count, axis=-1), ops.amin(after / count, axis=-1)
    step = ops.diagonal(d, offset=1, axis1=-2, axis2=-1)
    ends = ops.cast(greatest[..., :-1] < step + least[..., 1:], "int32")
    block = ops.concatenate([ops.zeros_like(ends[..., :1]), ops.cumsum(ends, axis=-1)], axis=-1)
    same = ops.cast(ops.equal(block[..., None, :], block[..., :, None]), d.dtype)
    return same / ops.sum(same, axis=-1, keepdims=True)


def _ascending(x: Tensor) -> Tensor:
    """Rows that ascend but for rounding, without it; the gradient passes as it is."""
    row, column = _places(x)
    spread = ops.where(column <= row, x[..., None, :], x[..., :, None])
    return x + ops.stop_gradient(ops.amax(spread, axis=-1) - x)
