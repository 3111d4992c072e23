"""A score of how well the classes of a batch keep apart (Mendez-Ruiz et al., 2023)."""

from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_batch, check_count
from keras_zoo.ops.episodes import centered, nearness, smooth_distances
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import nan_if_nan

Tensor = Any

EPSILON = 1e-7


@component(paper="susana-distancia")
def icnn_score(
    labels: Tensor, embeddings: Tensor, k: int = 4, num_neighbors: int | None = None
) -> Tensor:
    """Inter- and intra-class nearest-neighbour score of labelled embeddings, in (0, 1].

    With `x_i` `(D,)` the rows, `d(a, b) = sqrt(|a - b|^2 + 1e-6)`, `m = num_neighbors`, `e = 1e-7`,
    and `d_ij` the distance of row `i` to its `j`-th nearest other row, which has its class
    (`same_ij`) or another:

        n_i   = least d_ij with another class, j <= m
        r_ij  = d_ij / (n_i + e) for j <= k, 0 if there is no n_i; each row over max(1, its maximum)
        A     = 1 - mean over rows of the mean of r_ij over same class, j <= k
        B     = mean over rows of the mean of d_ij over other classes, j <= k, over the largest such
        gamma = share of same class among all neighbours j <= k, a constant
        score = ((A + B) / 2 + gamma) / 2

    The means over rows leave out rows without such a neighbour (without any, A = B = 1), and have
    `e` added to what they divide by. Which rows are neighbours is a constant to the gradient. A row
    is never its own neighbour, and copies of it are. Among neighbours equally far, on the edge
    of `k` or `m`, any may be taken.

    Args:
        labels: `(N,)` or `(N, 1)`, compared by equality.
        embeddings: `(N, D)`, with `N >= 4`.
        k: int > 0. Neighbours that are scored. With `k + 2 >= N` it becomes `N - 2`, and gamma 1.
        num_neighbors: int >= k, at most `N - 1` of which are looked at. None for `k + 1`. With no
            more than that, classes that keep well apart have no `n_i`, and the score is flat: the
            rows of a class (shots and queries) are a good choice.

    Returns:
        A scalar. NaN if an embedding holds NaN.

    Raises:
        ValueError: shapes do not fit, fewer than 4 rows, `k` or `num_neighbors` out of range.

    Example:
    >>> x = keras.ops.convert_to_tensor([[0.0], [0.1], [5.0], [5.1], [5.2]])
    >>> keras_zoo.ops.icnn_score([0, 0, 1, 1, 1], x, k=1, num_neighbors=3)  # 0.99

    Reference: arXiv:2305.09062, section 3.2; github.com/maumruiz/FSL-Loss. This is the score that
    the official code trains with; the paper's has a penalty for variance and powers besides.
    """
    k, num_neighbors = check_neighbors(k, num_neighbors)
    labels, x = ops.convert_to_tensor(labels), ops.convert_to_tensor(embeddings)
    check_batch(labels, x)
    if keras.backend.standardize_dtype(x.dtype) != "float64":
        x = ops.cast(x, "float32")
    labels, x = ops.reshape(labels, (-1,)), centered(x)
    n = ops.shape(x)[0]
    if isinstance(n, int) and n < 4:
        raise ValueError(
            f"`embeddings` must have at least 4 rows. Received: shape {(n, x.shape[1])}"
        )
    few = k + 2 >= n
    k = _at_most(k, n - 2)
    m = _at_most(k + 1 if num_neighbors is None else num_neighbors, n - 1)

    neighbors = _nearest_others(ops.stop_gradient(x), n, m)
    same = ops.equal(ops.take(labels, neighbors), labels[:, None])
    distance = smooth_distances(x[:, None, :], ops.take(x, neighbors[:, :k], axis=0))
    # The first neighbour of another class; m for none.
    first = ops.amin(ops.where(same, m, ops.arange(m)[None, :]), axis=1)
    nearest = ops.take_along_axis(neighbors, ops.minimum(first, m - 1)[:, None], axis=1)
    other_distance = smooth_distances(x, ops.take(x, nearest[:, 0], axis=0))
    same = ops.cast(same[:, :k], x.dtype)

    ratio = distance / (other_distance[:, None] + EPSILON)
    ratio = ops.where((first < m)[:, None], ratio, ops.zeros_like(ratio))
    ratio = ratio / ops.maximum(ops.amax(ratio, axis=1, keepdims=True), 1.0)
    inner, _ = _mean_of_row_means(ratio, same)
    outer = distance * (1 - same)
    outer, has_outer = _mean_of_row_means(outer / (ops.amax(outer) + EPSILON), 1 - same)
    separation = (1 - inner + ops.where(has_outer, outer, ops.ones_like(outer))) / 2
    gamma = ops.where(few, ops.ones_like(outer), ops.mean(same))
    return (separation + gamma) / 2 + nan_if_nan(x)


def check_neighbors(k: Any, num_neighbors: Any) -> tuple[int, int | None]:
    """`k` and `num_neighbors`, if they are counts that go together."""
    k = check_count("k", k)
    if num_neighbors is None:
        return k, None
    number = check_count("num_neighbors", num_neighbors)
    if number < k:
        raise ValueError(
            "`num_neighbors` must be at least `k`, or None. "
            f"Received: num_neighbors={num_neighbors}, k={k}"
        )
    return k, number


def _at_most(number: Any, limit: Any) -> Any:
    """The lesser one: an int, or a tensor where a graph does not know the batch size."""
    if isinstance(limit, int) and isinstance(number, int):
        return min(number, limit)
    return ops.minimum(number, limit)


def _nearest_others(x: Tensor, n: Any, m: Any) -> Tensor:
    """The `m` nearest other rows of each row, nearest first, int `(N, m)`."""
    index = ops.arange(n)
    itself = ops.equal(index[:, None], index[None, :])
    return ops.top_k(ops.where(itself, LOWEST, nearness(x, x)), m)[1]


def _mean_of_row_means(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over rows of the mean of what a 0-1 mask selects, and whether it selects anything."""
    count = ops.sum(mask, axis=1)
    means = ops.sum(x * mask, axis=1) / (count + EPSILON)
    rows = ops.sum(ops.cast(count > 0, x.dtype))
    return ops.sum(means) / (rows + EPSILON), rows > 0
