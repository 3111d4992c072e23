"""Normalised discounted cumulative gain."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_count
from keras_zoo.metrics._arrays import check_rankings, ranked


@component(paper="mw-loss")
def ndcg_at_k(relevance, scores, k=10):
    """Mean over queries of the discounted gain of the `k` best items, over the best there is.

        DCG  = sum_{rank = 1..k} (2^relevance - 1) / log2(rank + 1)
        nDCG = DCG of the ranking by score / DCG of the ranking by relevance

    Items are ranked by descending score; equal scores keep the order in which they stand.

    Args:
        relevance: array `(Q, M)`, at least 0, graded or 0 and 1.
        scores: array `(Q, M)`.
        k: positive int. It may exceed `M`.

    Returns:
        A float. Queries without relevant items count 0. NaN if a score or relevance is NaN, or
        for no queries.

    Raises:
        ValueError: shapes do not fit, a relevance is negative or above 1000, or `k` is not
            positive.

    Example:
    >>> round(keras_zoo.metrics.ndcg_at_k([[0, 1, 0]], [[3.0, 2.0, 1.0]]), 4)
    0.6309

    Reference: arXiv:2510.00137, section 5. scikit-learn's `ndcg_score` takes relevances as gains
    and averages over ties.
    """
    k = check_count("k", k)
    relevance, scores = check_rankings(relevance, scores)
    if ((relevance < 0) | (relevance > 1000)).any():
        raise ValueError(
            "`relevance` must be between 0 and 1000. "
            f"Received: values from {relevance.min()} to {relevance.max()}"
        )
    if len(scores) == 0 or np.isnan(relevance).any() or np.isnan(scores).any():
        return float("nan")
    found, best = (_discounted_gain(ranked(relevance, by, k)) for by in (scores, relevance))
    return float(np.mean(found / np.where(best > 0, best, 1.0)))


def _discounted_gain(relevance):
    ranks = np.arange(1, relevance.shape[1] + 1)
    return np.sum((2.0**relevance - 1) / np.log2(ranks + 1), axis=1)
