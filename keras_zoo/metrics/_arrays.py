"""What the metrics on numpy arrays share."""

import numpy as np


def unit_rows(x):
    """Rows of unit length; rows of zeros stay zeros."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1.0)


def check_rankings(relevance, scores):
    """`(relevance, scores)` as float64 arrays `(Q, M)`."""
    relevance, scores = np.asarray(relevance, "float64"), np.asarray(scores, "float64")
    if relevance.ndim != 2 or relevance.shape != scores.shape:
        raise ValueError(
            "`relevance` and `scores` must be `(Q, M)` both. "
            f"Received: relevance of shape {relevance.shape}, scores of shape {scores.shape}"
        )
    return relevance, scores


def ranked(relevance, scores, k):
    """The relevances of the `k` best scores of each row, best first; ties stay in their order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(relevance, order, axis=1)
