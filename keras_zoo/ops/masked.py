"""Reductions over the entries that a mask selects, finite whatever it selects."""

from typing import Any

from keras import ops

Tensor = Any

# Stands in for minus infinity: exp() of it is 0, and sums and differences of it stay finite.
LOWEST = -1e30


def masked_logsumexp(x: Tensor, mask: Tensor, axis: int = -1, floor: float | None = None) -> Tensor:
    """Logarithm of the sum of exponentials of the selected entries.

        log( exp(floor) + sum_{j: mask_j} exp(x_j) )

    The greatest term is taken out first, so that nothing overflows. Entries outside of the mask
    get a gradient of exactly 0, also where a row selects none; what they hold, be it NaN, does not
    matter. A selected NaN gives NaN.

    Args:
        x: float32 or float64 tensor.
        mask: bool tensor of the shape of `x`.
        axis: the axis that is summed over.
        floor: float. A term that no mask removes: 0.0 gives `log(1 + sum exp)`. None for none.

    Returns:
        Tensor of the shape of `x` without `axis`. Where nothing is selected: `floor`, or -1e30 in
        place of minus infinity if there is none.

    Example:
    >>> x = keras.ops.convert_to_tensor([[1000.0, 3.0]])
    >>> keras_zoo.ops.masked_logsumexp(x, keras.ops.convert_to_tensor([[False, True]]))  # [3.]
    """
    x = ops.where(mask, x, LOWEST)
    top = ops.amax(ops.stop_gradient(x), axis=axis, keepdims=True)
    if floor is not None:
        top = ops.maximum(top, floor)
    # At most 0, also where a compiler computes x once more and rounds it otherwise.
    x = x - top
    x = x - ops.stop_gradient(ops.maximum(x, 0.0))
    # Below e^-80 a term is lost anyway, and exp() of far smaller numbers is many times slower.
    total = ops.sum(ops.exp(ops.maximum(x, -80.0)), axis=axis)
    top = ops.squeeze(top, axis)
    if floor is not None:
        total = total + ops.exp(floor - top)
    return ops.log(total) + top
