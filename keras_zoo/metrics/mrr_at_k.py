"""Mean reciprocal rank."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_count
from keras_zoo.metrics._arrays import check_rankings, ranked


@component(paper="mw-loss")
def mrr_at_k(relevance, scores, k=10):
    """Mean over queries of one over the rank of the first relevant item, 0 beyond rank `k`.

    Items are ranked by descending score; equal scores keep the order in which they stand.

    Args:
        relevance: array `(Q, M)`, relevant above 0.5.
        scores: array `(Q, M)`.
        k: positive int. It may exceed `M`.

    Returns:
        A float. Queries without relevant items count 0. NaN if a score or relevance is NaN, or
        for no queries.

    Raises:
        ValueError: shapes do not fit, or `k` is not positive.

    Example:
    >>> keras_zoo.metrics.mrr_at_k([[0, 1, 0], [1, 0, 0]], [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    0.75

    Reference: arXiv:2510.00137, section 5.
    """
    k = check_count("k", k)
    relevance, scores = check_rankings(relevance, scores)
    if len(scores) == 0 or np.isnan(relevance).any() or np.isnan(scores).any():
        return float("nan")
    hits = ranked(relevance, scores, k) > 0.5
    reciprocal = hits / np.arange(1, hits.shape[1] + 1)
    return float(np.mean(np.max(reciprocal, axis=1, initial=0.0)))
