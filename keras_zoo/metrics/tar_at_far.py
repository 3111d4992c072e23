"""True-accept rate of a verification at a given false-accept rate."""

import numpy as np

from keras_zoo._catalog import component


@component(paper="unpg")
def tar_at_far(similarity, is_same, far=1e-3):
    """Share of true pairs that are accepted where no more than `far` of the false ones are.

    A pair is accepted if its similarity is above a threshold `t`:

        TAR(t) = share of pairs of one identity with similarity > t
        FAR(t) = share of pairs of two identities with similarity > t
        result = max { TAR(t) : FAR(t) <= far }

    Args:
        similarity: array of any shape, one number a pair.
        is_same: array of that shape, whether the pair is of one identity: bool, or 0 and 1.
        far: number in [0, 1], or an array of such. With fewer than `1 / far` false pairs none of
            them may be accepted.

    Returns:
        A float for a number, else an array of the shape of `far`. Of pairs with equal similarity
        all or none are accepted. NaN if a similarity is NaN.

    Raises:
        ValueError: shapes do not fit, `is_same` is not boolean or lacks one of the two kinds, `far`
            is out of its range.

    Example:
    >>> keras_zoo.metrics.tar_at_far([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0], far=0.5)
    1.0

    Reference: arXiv:2203.11593, section 4 (verification on IJB-B and IJB-C).
    """
    similarity, is_same = np.ravel(similarity), np.asarray(is_same)
    same = np.ravel(is_same)
    if similarity.shape != same.shape or similarity.dtype.kind not in "fiu":
        raise ValueError(
            "`similarity` must hold one number for each entry of `is_same`. Received: "
            f"{similarity.dtype} of {similarity.size} and {same.dtype} of {same.size} entries"
        )
    if same.dtype.kind not in "biuf" or not np.isin(same, (0, 1)).all():
        raise ValueError(f"`is_same` must be bool, or 0 and 1. Received: {same.dtype} {same[:5]}")
    same = same.astype(bool)
    if same.all() or not same.any():
        raise ValueError(
            "`is_same` must hold pairs of one identity and pairs of two. "
            f"Received: {same.sum()} and {(~same).sum()} of them"
        )
    rates = np.asarray(far, dtype="float64")
    if not np.all((rates >= 0) & (rates <= 1)):
        raise ValueError(f"`far` must lie in [0, 1]. Received: far={far!r}")
    if np.isnan(similarity).any():
        result = np.full(rates.shape, np.nan)
        return float(result) if rates.ndim == 0 else result

    false = similarity[~same]
    # The most false pairs that may be accepted: rounding shall not shift a rate such as 3 / 10.
    allowed = np.floor(rates * len(false)).astype("int64")
    allowed += (allowed + 1) / len(false) <= rates
    # The least threshold that accepts no more is the greatest false pair to be turned down.
    place = np.maximum(len(false) - 1 - allowed, 0)
    threshold = np.partition(false, np.unique(place))[place]
    true = np.sort(similarity[same])
    accepted = len(true) - np.searchsorted(true, threshold, side="right")
    result = np.where(allowed >= len(false), 1.0, accepted / len(true))
    return float(result) if rates.ndim == 0 else result
