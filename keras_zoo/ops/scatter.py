"""Writing into some rows of a large variable."""

from typing import Any

import keras
from keras import ops

from keras_zoo import _backend


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
