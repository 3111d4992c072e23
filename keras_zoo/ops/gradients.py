"""Gradients with respect to inputs, right inside a training step on each backend."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_zoo import _backend

Tensor = Any
Function = Callable[[Tensor], Tensor]


def value_and_grad(fn: Function, x: Tensor, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """Values of a function, and their gradients with respect to its input, example by example.

    Examples must not meet inside `fn`: row `n` of its output may depend on row `n` of `x` alone.
    (Where they do meet, as in batch normalisation with `training=True`, the gradient of the sum
    over the batch comes out.) `fn` may call layers. It reads their variables as the surrounding
    training step sees them; what it would write to them (batch statistics, seeds) is dropped, so
    a later ordinary pass draws the same dropout masks and counts the batch once.

    Args:
        fn: function from `(N, ...)` to `(N,)` or `(N, K)`.
        x: float tensor `(N, ...)`.
        create_graph: whether the gradient shall itself be differentiable, as a gradient penalty
            needs. Otherwise it is a constant.

    Returns:
        `(values, gradients)`: the output of `fn`, and a tensor of the shape of `x` for `(N,)`, or
        `(N, K, ...)` for `(N, K)`. Both are constants unless `create_graph` is true.

    Raises:
        ValueError: the output of `fn` has another rank.
    """
    value, vjp = _backend.value_and_vjp(fn, x, create_graph)
    if len(value.shape) == 1:
        gradient = vjp(ops.ones_like(value))
    elif len(value.shape) == 2:
        k = value.shape[1]
        basis = ops.eye(k, dtype=value.dtype)
        columns = [vjp(ops.ones_like(value) * basis[i]) for i in range(k)]
        gradient = ops.stack(columns, axis=1)
    else:
        raise ValueError(
            "`fn` must return one number per example, `(N,)`, or one row per example, `(N, K)`. "
            f"Received: output shape {tuple(value.shape)}"
        )
    if create_graph:
        return value, gradient
    return ops.stop_gradient(value), ops.stop_gradient(gradient)


def input_gradient(fn: Function, x: Tensor, create_graph: bool = False) -> Tensor:
    """Gradient of a function with respect to its input, example by example.

    As `value_and_grad`, without the values. Works inside `compute_loss` of a compiled model, in
    evaluation (where torch records no gradients otherwise), and in plain eager code.

    Args:
        fn: function from `(N, ...)` to `(N,)` or `(N, K)`.
        x: float tensor `(N, ...)`.
        create_graph: whether the gradient shall itself be differentiable.

    Returns:
        Tensor of the shape of `x` for an output of `(N,)`, or `(N, K, ...)` for `(N, K)`.

    Raises:
        ValueError: the output of `fn` has another rank.

    Example:
    >>> x = keras.ops.convert_to_tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> keras_zoo.ops.input_gradient(lambda x: keras.ops.sum(x**2, axis=-1), x)  # 2 x
    """
    return value_and_grad(fn, x, create_graph)[1]
