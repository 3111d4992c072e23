"""Derivatives of a random convex, classification-calibrated margin loss (Dai, 2025)."""

from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.ops.pairs import nan_if_nan

Tensor = Any

# Added to each derivative, so that no example is ever without a slope: the loss stays calibrated.
CALIBRATION = 1e-6


@component(paper="ensloss")
def ens_loss_derivatives(margins: Tensor, noise: Tensor, box_cox_lambda: Any = 0.0) -> Tensor:
    """Slopes of a random margin loss at the margins of a batch.

    Gradient descent sees a loss `phi(s)` of margins `s` `(B,)` through `phi'(s)` alone. `phi` is
    convex and calibrated if `phi'` does not decrease and is negative at 0, so that any such numbers
    will do. From noise `z` `(B,)` and the inverse `b` of the Box-Cox transformation

        b(z)  = exp(z)  for lambda = 0,  else  max(1 + lambda z, 0)^(1 / lambda)
        g     = sort( max(-b(z), -1) )                           ascending
        phi'_i = g[rank of s_i] / max(s_i, 1) - 1e-6             (B,)

    the smallest margin gets the steepest slope. Beyond 1 slopes fall off with the margin, so that
    `phi` goes on falling, ever more slowly.

    Args:
        margins: `(B,)`, the logit of each example times its label, -1 or 1.
        noise: `(B,)`, draws from the standard normal distribution.
        box_cox_lambda: finite float, or a scalar tensor. Below 1e-6 in size it counts as 0.

    Returns:
        `(B,)`, in `[-1 - 1e-6, 0)`, a constant without gradient: `mean(phi'_i s_i)` is what to
        minimise. Float64 where an argument is, else float32.

    Equal margins get their slopes in any order. A batch of one is a batch. A margin beyond all
    bounds has a slope of -1e-6, and NaN in a margin or in the noise gives NaN for all.

    Raises:
        ValueError: `margins` and `noise` are not two vectors of one length, or `box_cox_lambda` is
            not one finite number.

    Example:
    >>> margins, noise = [0.5, -1.0, 2.0], [-1.0, 0.3, -0.2]
    >>> keras_zoo.ops.ens_loss_derivatives(margins, noise)  # [-0.818732, -1.000001, -0.183941]

    Reference: arXiv:2409.00908, section 3; github.com/statmlben/ensLoss. Differs from the official
    code: none.
    """
    margins, noise, lam = _prepare(margins, noise, box_cox_lambda)
    slopes = -ops.exp(ops.clip(_log_inverse_box_cox(noise, lam), -80.0, 0.0))
    ranks = ops.argsort(ops.argsort(margins))
    convex = ops.take(ops.sort(slopes), ranks)
    superlinear = convex / ops.maximum(margins, 1.0)
    # A sort puts NaN anywhere, and would let it pass for a slope of another example.
    nan = nan_if_nan(margins) + nan_if_nan(noise)
    return ops.stop_gradient(superlinear - CALIBRATION + nan)


def _log_inverse_box_cox(z: Tensor, lam: Tensor) -> Tensor:
    """`z` for `lam = 0`, else `log(max(1 + lam z, 0)) / lam`, with 80 in place of infinity."""
    exponential = ops.abs(lam) < 1e-6
    lam = ops.where(exponential, ops.ones_like(lam), lam)
    empty = lam * z <= -1.0
    # Not by a power, from which rounding would leave little where lambda is near 0.
    power = ops.log1p(ops.where(empty, ops.zeros_like(z), lam * z)) / lam
    return ops.where(exponential, z, ops.where(empty, -80.0 * ops.sign(lam), power))


def _prepare(margins: Tensor, noise: Tensor, lam: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments as tensors of one dtype, float32 at least."""
    if isinstance(lam, (int, float)):
        check_number("box_cox_lambda", lam)
    margins, noise = ops.convert_to_tensor(margins), ops.convert_to_tensor(noise)
    one, other = tuple(margins.shape), tuple(noise.shape)
    if len(one) != 1 or len(other) != 1 or (None not in one + other and one != other):
        raise ValueError(
            "`margins` and `noise` must be two vectors `(B,)`. "
            f"Received: margins of shape {one}, noise of shape {other}"
        )
    dtypes = (keras.backend.standardize_dtype(x.dtype) for x in (margins, noise))
    dtype = keras.backend.result_type(*dtypes, "float32")
    lam = ops.convert_to_tensor(lam, dtype)
    if tuple(lam.shape) != ():
        raise ValueError(f"`box_cox_lambda` must be a scalar. Received: shape {tuple(lam.shape)}")
    return ops.cast(margins, dtype), ops.cast(noise, dtype), lam
