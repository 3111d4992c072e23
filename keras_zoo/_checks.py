"""Refusals that several rooms share: each names the argument and says what was received."""

import math
from typing import Any

import numpy as np


def check_number(name: str, value: Any, positive: bool = False) -> float:
    """`value`, if it is a finite number, and above zero where that is asked for."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or (positive and value <= 0):
        wanted = "a positive number" if positive else "a finite number"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return value


def check_batch(y_true: Any, y_pred: Any) -> None:
    """Raises unless there is one label for each row of embeddings."""
    labels, embeddings = tuple(y_true.shape), tuple(y_pred.shape)
    rows_agree = None in (labels[:1] + embeddings[:1]) or labels[:1] == embeddings[:1]
    is_vector = len(labels) == 1 or (len(labels) == 2 and labels[1] in (1, None))
    if len(embeddings) != 2 or not is_vector or not rows_agree:
        raise ValueError(
            "`y_pred` must hold embeddings `(N, D)` and `y_true` labels `(N,)` or `(N, 1)`. "
            f"Received: y_true of shape {labels}, y_pred of shape {embeddings}"
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


def check_count(name: str, value: Any) -> int:
    """`value` as a positive int."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
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
