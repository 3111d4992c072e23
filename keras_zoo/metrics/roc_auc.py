"""Area under the ROC curve."""

import numpy as np

from keras_zoo._catalog import component


@component(paper="mw-loss")
def roc_auc(y_true, y_score):
    """Probability that a relevant score is above another one, ties counting half.

        AUC = ( #{s+ > s-} + #{s+ = s-} / 2 ) / (n+ n-)

    over all pairs of a relevant score `s+` and another `s-`; exact, from mid-ranks, in
    `O(n log n)`. Scores `(Q, M)` of several queries are pooled.

    Args:
        y_true: array of any shape, relevant above 0.5.
        y_score: array of that shape.

    Returns:
        A float. NaN if one kind is missing, or if a score or label is NaN.

    Raises:
        ValueError: shapes do not fit.

    Example:
    >>> keras_zoo.metrics.roc_auc([0, 1, 1, 0], [0.1, 0.4, 0.2, 0.3])
    0.75

    Reference: arXiv:2510.00137, section 3.
    """
    y_true, y_score = np.asarray(y_true, "float64"), np.asarray(y_score, "float64")
    if y_true.shape != y_score.shape and y_true.squeeze().shape != y_score.squeeze().shape:
        raise ValueError(
            "`y_true` and `y_score` must be of one shape. "
            f"Received: y_true of shape {y_true.shape}, y_score of shape {y_score.shape}"
        )
    if np.isnan(y_true).any() or np.isnan(y_score).any():
        return float("nan")
    relevant, scores = y_true.ravel() > 0.5, y_score.ravel()
    n_pos = int(relevant.sum())
    n_neg = len(relevant) - n_pos
    if n_pos == 0 or n_neg == 0:
        return float("nan")
    _, value, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2
    below = mid_rank[value.ravel()][relevant].sum() - n_pos * (n_pos + 1) / 2
    return float(below / n_pos / n_neg)
