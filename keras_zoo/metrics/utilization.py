"""How near test embeddings lie to those of training (Venkataramanan et al., 2022)."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag
from keras_zoo.metrics._arrays import unit_rows
from keras_zoo.metrics.recall_at_k import BLOCK


@component(paper="metrix")
def utilization(queries, references, normalize=True):
    """Mean squared distance of queries to the nearest reference.

        u = mean_q min_r |q - r|^2

    The lower, the nearer test points (the queries) lie to what training saw (the references, the
    embeddings of training examples, mixed ones with them or not). Distances of all queries are
    never held together.

    Args:
        queries: array `(Q, D)`, `Q >= 1`.
        references: array `(R, D)`, `R >= 1`.
        normalize: bool. Whether rows are l2-normalised first: distances then are from 0 to 4. Rows
            of zeros stay zeros.

    Returns:
        A float, 0 or more. NaN if an embedding holds NaN.

    Raises:
        ValueError: shapes do not fit, or there are no rows.

    Example:
    >>> keras_zoo.metrics.utilization([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0]])
    1.0

    Reference: arXiv:2106.04990, section 4.4.
    """
    queries, references = (
        _check_rows(name, x) for name, x in (("queries", queries), ("references", references))
    )
    if queries.shape[1] != references.shape[1]:
        raise ValueError(
            "`queries` and `references` must have the same number of dimensions. "
            f"Received: shapes {queries.shape} and {references.shape}"
        )
    if check_flag("normalize", normalize):
        queries, references = unit_rows(queries), unit_rows(references)
    squares = np.sum(references**2, axis=1)
    rows = max(1, BLOCK // len(references))
    nearest = []
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        # The squares of a query are the same for all references.
        distances = np.min(squares - 2 * (block @ references.T), axis=1)
        nearest.append(np.maximum(np.sum(block**2, axis=1) + distances, 0.0))
    return float(np.mean(np.concatenate(nearest)))


def _check_rows(name, x):
    x = np.asarray(x, dtype="float64")
    if x.ndim != 2 or not len(x):
        raise ValueError(
            f"`{name}` must be `(N, D)` with at least one row. Received: shape {x.shape}"
        )
    return x
