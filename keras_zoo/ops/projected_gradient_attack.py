"""Projected gradient ascent over a ball around each input."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_not_negative, check_number
from keras_zoo.ops.gradients import input_gradient

Tensor = Any

NORMS = ("linf", "l2")
DIRECTIONS = ("steepest", "gradient")
# Keeps a division by a length of 0 finite, whose numerator is 0 too.
SMALLEST = 1e-30


@component(paper="comp-sum")
def projected_gradient_attack(
    loss_fn: Callable[[Tensor], Tensor],
    x: Tensor,
    epsilon: float,
    step_size: float,
    num_steps: int,
    x_start: Tensor | None = None,
    value_range: tuple[Any, Any] | None = (0.0, 1.0),
    norm: str = "linf",
    direction: str = "steepest",
) -> Tensor:
    """Inputs near the given ones at which a loss is large.

    From `x' = x_start`, with `g` the gradient of `loss_fn` at `x'`, `num_steps` times

        x' <- x' + step_size s(g),   s(g) = sign(g) for "linf", g / ||g|| for "l2"
        x' <- the nearest point with ||x' - x|| <= epsilon
        x' <- clip(x', *value_range)

    Each example has its own ball: `||.||` goes over all axes but the first.

    Args:
        loss_fn: function from `(N, ...)` to `(N,)`, what is to be maximised. Examples must not meet
            in it. It may call a model, and should do so with `training=False`; what the model
            would write to its variables is dropped. It reads them as the surrounding training step
            sees them.
        x: float tensor `(N, ...)`, of two axes and more.
        epsilon: float >= 0, the radius.
        step_size: float > 0.
        num_steps: int >= 0. None gives `x_start` back as it is.
        x_start: tensor of the shape of `x`; None for `x`. A loss that is least at `x` has no
            gradient there: start it at random, from a draw of your own.
        value_range: pair `(low, high)` of what inputs can be: floats, or tensors that broadcast
            against `x`. None for no bounds.
        norm: "linf" or "l2".
        direction: "steepest" for the `s(g)` above; "gradient" for `s(g) = g`.

    Returns:
        Tensor of the shape and dtype of `x`, a constant without gradient. It lies in the ball, up
        to rounding, wherever `x` is in the range; in the range it lies always. A gradient of zeros
        does not move an example. NaN in an example, or in its gradient, gives NaN in it.

    It runs in `compute_loss` of compiled models, in evaluation, and in plain eager code. There JAX
    compiles it anew in each call, so call it once for many examples.

    Raises:
        ValueError: an argument is out of its range or of another kind; `loss_fn` does not return
            one number per example.

    Example:
    >>> w = keras.ops.convert_to_tensor([1.0, -2.0])
    >>> x = keras.ops.convert_to_tensor([[0.5, 0.5]])
    >>> attack = keras_zoo.ops.projected_gradient_attack
    >>> attack(lambda x: keras.ops.sum(w * x, axis=-1), x, 0.1, 0.05, 3)  # [[0.6, 0.4]]

    Reference: arXiv:1706.06083, as arXiv:2304.07288 uses it.
    """
    x, start, bounds = _prepare(x, x_start, value_range)
    check_not_negative("epsilon", epsilon)
    check_number("step_size", step_size, positive=True)
    num_steps = check_count("num_steps", num_steps, least=0)
    check_choice("norm", norm, NORMS)
    check_choice("direction", direction, DIRECTIONS)

    def step(_: Tensor, moved: Tensor) -> Tensor:
        gradient = input_gradient(lambda x: _one_per_example(loss_fn(x)), moved)
        moved = moved + step_size * _ascent(gradient, norm, direction)
        moved = _clip(_project(moved, x, epsilon, norm), *bounds)
        return ops.cast(moved, x.dtype)  # torch's maximum makes float32 of float64

    return ops.stop_gradient(ops.fori_loop(0, num_steps, step, start))


def _ascent(gradient: Tensor, norm: str, direction: str) -> Tensor:
    """`s(g)` of the docstring."""
    if direction == "gradient":
        return gradient
    if norm == "linf":
        # torch's sign of NaN is 0.
        return ops.where(ops.isnan(gradient), gradient, ops.sign(gradient))
    # By the largest entry first: squares of what a saturated model gives would be 0.
    axes = tuple(range(1, len(gradient.shape)))
    top = ops.amax(ops.abs(gradient), axis=axes, keepdims=True)
    gradient = gradient / ops.maximum(top, SMALLEST)
    return gradient / ops.maximum(_length(gradient), SMALLEST)


def _project(moved: Tensor, x: Tensor, epsilon: float, norm: str) -> Tensor:
    """The point of the ball around `x` that is nearest."""
    if norm == "linf":
        return _clip(moved, x - epsilon, x + epsilon)
    away = moved - x
    return x + away * ops.minimum(epsilon / ops.maximum(_length(away), SMALLEST), 1.0)


def _length(x: Tensor) -> Tensor:
    """Euclidean length of each example, `(N, 1, ...)`."""
    axes = tuple(range(1, len(x.shape)))
    return ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))


def _clip(x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """`x` between the bounds, of which None is none."""
    x = x if low is None else ops.maximum(x, low)
    return x if high is None else ops.minimum(x, high)


def _one_per_example(values: Tensor) -> Tensor:
    """`values`, if they are `(N,)`."""
    if len(values.shape) != 1:
        raise ValueError(
            "`loss_fn` must return one number per example, `(N,)`. "
            f"Received: output of shape {tuple(values.shape)}"
        )
    return values


def _prepare(x: Tensor, x_start: Tensor, value_range: Any) -> tuple[Tensor, Tensor, Any]:
    """`x`, where to start, and the bounds, as constants of one dtype."""
    x = ops.stop_gradient(ops.convert_to_tensor(x))
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "float" not in dtype or len(x.shape) < 2:
        raise ValueError(
            "`x` must be a float tensor `(N, ...)` of two axes and more. "
            f"Received: {dtype} of shape {tuple(x.shape)}"
        )
    start = x if x_start is None else ops.stop_gradient(ops.cast(x_start, dtype))
    if len(start.shape) != len(x.shape) or any(
        None not in (a, b) and a != b for a, b in zip(start.shape, x.shape, strict=True)
    ):
        raise ValueError(
            "`x_start` must have the shape of `x`. "
            f"Received: x_start of shape {tuple(start.shape)}, x of shape {tuple(x.shape)}"
        )
    return x, start, _bounds(value_range, dtype)


def _bounds(value_range: Any, dtype: str) -> tuple[Tensor | None, Tensor | None]:
    """Lowest and highest value as tensors."""
    if value_range is None:
        return None, None
    is_pair = isinstance(value_range, (tuple, list)) and len(value_range) == 2
    if is_pair and all(isinstance(bound, (int, float)) for bound in value_range):
        is_pair = value_range[0] <= value_range[1]
    if not is_pair:
        raise ValueError(
            "`value_range` must be a pair (low, high), or None. "
            f"Received: value_range={value_range!r}"
        )
    low, high = (ops.stop_gradient(ops.cast(bound, dtype)) for bound in value_range)
    return low, high
