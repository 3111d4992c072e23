"""Refusals that several rooms share: each names the argument and says what was received."""

import math
from typing import Any

import keras
import numpy as np


def check_number(name: str, value: Any, positive: bool = False) -> float:
    """`value`, if it is a finite number, and above zero where that is asked for."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or (positive and value <= 0):
        wanted = "a positive number" if positive else "a finite number"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return value


def check_not_negative(name: str, value: Any) -> float:
    """`value`, if it is a finite number of at least 0."""
    if check_number(name, value) < 0:
        raise ValueError(f"`{name}` must be at least 0. Received: {name}={value!r}")
    return value


def check_share(name: str, value: Any) -> float:
    """`value`, if it is a number from 0 to 1."""
    if not 0 <= check_number(name, value) <= 1:
        raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={value!r}")
    return value


def check_rate(name: str, value: Any) -> float:
    """`value`, if it is a number from 0 to below 1, as rates of dropout are."""
    if not 0 <= check_number(name, value) < 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value!r}")
    return value


def is_vector(shape: tuple) -> bool:
    """Whether a shape is `(N,)` or `(N, 1)`, as far as it is known."""
    return len(shape) == 1 or (len(shape) == 2 and shape[1] in (1, None))


def sizes_agree(one: tuple, other: tuple) -> bool:
    """Whether two shapes are equal where both are known, axis by axis as far as both go."""
    return all(None in (a, b) or a == b for a, b in zip(one, other, strict=False))


def check_batch(y_true: Any, y_pred: Any) -> None:
    """Raises unless there is one label for each row of embeddings."""
    labels, embeddings = tuple(y_true.shape), tuple(y_pred.shape)
    if len(embeddings) != 2 or not is_vector(labels) or not sizes_agree(labels[:1], embeddings):
        raise ValueError(
            "`y_pred` must hold embeddings `(N, D)` and `y_true` labels `(N,)` or `(N, 1)`. "
            f"Received: y_true of shape {labels}, y_pred of shape {embeddings}"
        )


def check_binary_batch(y_true: Any, y_pred: Any) -> None:
    """Raises unless there is one logit for each label."""
    labels, logits = tuple(y_true.shape), tuple(y_pred.shape)
    vectors = is_vector(labels) and is_vector(logits)
    if not vectors or not sizes_agree(labels[:1], logits):
        raise ValueError(
            "`y_pred` must hold one logit for each example, and `y_true` its label, `(N,)` or "
            f"`(N, 1)`. Received: y_true of shape {labels}, y_pred of shape {logits}"
        )


def check_labels(name: str, labels: Any) -> np.ndarray:
    """Class ids as an integer vector."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"`{name}` must be `(N,)` or `(N, 1)`. Received: shape {labels.shape}")
    whole = labels.dtype.kind in "iub" or (
        labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels % 1 == 0).all()
    )
    if not whole:
        raise ValueError(
            f"`{name}` must hold integer class ids. Received: {labels.dtype} {labels[:5]}"
        )
    return labels.astype("int64")


def check_ranks(k: Any) -> list[int]:
    """`k` as a list of positive ints."""
    ranks = np.atleast_1d(np.asarray(k))
    if ranks.ndim != 1 or not len(ranks) or ranks.dtype.kind not in "iu" or (ranks < 1).any():
        raise ValueError(f"`k` must be a positive integer, or a list of such. Received: k={k!r}")
    return [int(rank) for rank in ranks]


def check_count(name: str, value: Any, least: int = 1) -> int:
    """`value` as an int of at least 1, or of another least."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return int(value)


def check_flag(name: str, value: Any) -> bool:
    """`value`, if it is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value`, if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def check_layer(name: str, value: Any) -> keras.layers.Layer:
    """`value`, if it is a layer or a model."""
    if not isinstance(value, keras.layers.Layer):
        raise ValueError(f"`{name}` must be a Keras layer or model. Received: {name}={value!r}")
    return value


def check_fields(y_true: Any, y_pred: Any) -> None:
    """Raises unless both hold fields of one size, `(N, D, H, W)` or `(N, D, H, W, 1)`."""
    shapes = [tuple(y_true.shape), tuple(y_pred.shape)]
    fields = all(len(s) == 4 or (len(s) == 5 and s[4] in (1, None)) for s in shapes)
    if not fields or not sizes_agree(shapes[0][:4], shapes[1][:4]):
        raise ValueError(
            "`y_true` and `y_pred` must be fields of one size, `(N, D, H, W)` or "
            f"`(N, D, H, W, 1)`. Received: y_true of shape {shapes[0]}, y_pred of shape {shapes[1]}"
        )
