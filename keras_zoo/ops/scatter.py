"""Reading and writing some rows of a large variable, at a cost that does not grow with it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_zoo import _backend


def gather_rows(variable: keras.Variable, indices: Any) -> Any:
    """Rows of a variable, read without touching the others.

    `keras.ops.take` would first make a tensor of the variable, which on TensorFlow copies the whole
    of it as soon as `scatter_add_rows` has written to it.

    Args:
        variable: Keras variable `(D, ...)`, without autocast.
        indices: int tensor `(M,)`, in `[0, D)`.

    Returns:
        `(M, ...)`.
    """
    return _backend.gather_rows(variable, ops.convert_to_tensor(indices))


def placed(x: Any, places: Any, onto: Any | None = None) -> Any:
    """A vector with `x_i` at `places_i`.

    Args:
        x: `(N,)`.
        places: int tensor `(N,)`, no two alike.
        onto: `(M,)`, what stands at all other places. None where there are none.

    Returns:
        `(M,)`, or `(N,)`.
    """
    onto = ops.zeros_like(x) if onto is None else onto
    return ops.scatter_update(onto, places[:, None], x)


def added(x: Any, places: Any, onto: Any) -> Any:
    """A vector with `x_i` added at `places_i`, of which some may be alike.

    `keras.ops.segment_sum` cuts the graph of torch's compiler.

    Args:
        x: `(N,)`.
        places: int tensor `(N,)`, in `[0, M)`.
        onto: `(M,)`, what is added to.

    Returns:
        `(M,)`.
    """
    return ops.scatter_update(onto, places[:, None], x, reduction="add")


def map_rows(
    fn: Callable[[Any], Any], variable: keras.Variable, block_size: int = 2**22
) -> Iterator[Any]:
    """Calls a function on block after block of a variable's rows, which are copied one at a time.

    Args:
        fn: function of rows `(M, ...)`.
        variable: Keras variable `(D, ...)`, without autocast.
        block_size: about how many numbers a block holds.

    Yields:
        Pairs of the place of a block's first row, and what `fn` gives for the block.
    """
    rows = max(1, block_size // math.prod(variable.shape[1:]))
    for start in range(0, variable.shape[0], rows):
        stop = min(start + rows, variable.shape[0])
        yield start, fn(gather_rows(variable, ops.arange(start, stop, dtype="int32")))


def replace_rows(fn: Callable[[Any], Any], variable: keras.Variable) -> None:
    """Puts `fn(rows)` in the place of the rows of a variable, block after block, in place.

    For eager code. Under JAX the variable's former value is given up, as it is by `fit`.

    Args:
        fn: function from rows `(M, ...)` to rows of that shape, each of its own row alone.
        variable: Keras variable `(D, ...)`, without autocast.
    """
    for start, rows in map_rows(fn, variable):
        _backend.write_rows(variable, start, rows)


def scatter_add_rows(variable: keras.Variable, indices: Any, updates: Any) -> None:
    """Adds rows to rows of a variable, at a cost that does not grow with its size.

    `variable[indices[i]] += updates[i]` for each `i`; a row that is named twice gets both. Under
    JAX that holds inside a jitted step, which donates its variables; eagerly, JAX copies.

    Args:
        variable: Keras variable `(D, ...)`.
        indices: int tensor `(M,)`.
        updates: tensor `(M, ...)`.

    Raises:
        ValueError: the shapes do not fit.
    """
    indices, updates = ops.convert_to_tensor(indices), ops.convert_to_tensor(updates)
    if len(indices.shape) != 1 or updates.shape[1:] != tuple(variable.shape[1:]):
        raise ValueError(
            "`indices` must be `(M,)` and `updates` `(M, ...)` with the rows of `variable`. "
            f"Received: variable {tuple(variable.shape)}, indices {tuple(indices.shape)}, "
            f"updates {tuple(updates.shape)}"
        )
    _backend.scatter_add_rows(variable, indices, updates)
