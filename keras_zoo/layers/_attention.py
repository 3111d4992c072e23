"""Attention over plain tensors."""

import keras
from keras import ops

MASKED = -1e9


def attention_weights(query, key, scale=1.0, mask=None):
    """`softmax(scale query key^T)` over the keys, `(B, T, S)`, float32 at least.

    Unscaled products leave the range of half precision.

    Args:
        query: `(B, T, D)`.
        key: `(B, S, D)`.
        scale: float.
        mask: bool `(B, S)`, the keys that count; None for all.
    """
    dtype = "float64" if keras.backend.standardize_dtype(query.dtype) == "float64" else "float32"
    query, key = ops.cast(query, dtype), ops.cast(key, dtype)
    scores = scale * ops.matmul(query, ops.swapaxes(key, 1, 2))
    if mask is not None:
        scores = ops.where(mask[:, None, :], scores, MASKED)
    # `ops.softmax` warns of single keys, which are no mistake here.
    weights = ops.exp(scores - ops.stop_gradient(ops.amax(scores, axis=-1, keepdims=True)))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def attend(query, key, value, scale=1.0):
    """`softmax(scale query key^T) value`, `(B, T, D)`, in the dtype of the values."""
    weights = attention_weights(query, key, scale)
    return ops.matmul(ops.cast(weights, value.dtype), value)
