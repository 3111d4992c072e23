"""Which rows of a few-shot episode are support, their prototypes, and what is near to what."""

import dataclasses
from typing import Any

from keras import ops

Tensor = Any


@dataclasses.dataclass
class Episode:
    """A batch of labelled rows, of which the first few of each class are its support.

    Attributes:
        features: `(N, D)`, moved by one vector for all, which changes no distance.
        prototypes: `(N, D)`, row `i` the mean of the support of the class of row `i`.
        queries: bool `(N,)`, the rows that are no support.
        same: bool `(N, N)`, which rows are of one class.
        first: bool `(N,)`, one row of each class, to count each prototype once.
    """

    features: Tensor
    prototypes: Tensor
    queries: Tensor
    same: Tensor
    first: Tensor


def episode(labels: Tensor, features: Tensor, shots: int) -> Episode:
    """Splits rows into support and queries, by their order within each class.

    Args:
        labels: `(N,)`.
        features: float `(N, D)`.
        shots: how many rows of each class are support, at most.
    """
    features = centered(features)
    same = ops.equal(labels[:, None], labels[None, :])
    index = ops.arange(ops.shape(labels)[0])
    earlier = ops.logical_and(same, index[None, :] < index[:, None])
    rank = ops.sum(ops.cast(earlier, "int32"), axis=-1)
    support = ops.cast(ops.logical_and(same, (rank < shots)[None, :]), features.dtype)
    prototypes = ops.matmul(support, features) / ops.sum(support, axis=-1, keepdims=True)
    return Episode(features, prototypes, rank >= shots, same, ops.equal(rank, 0))


def centered(features: Tensor) -> Tensor:
    """Rows less their mean, a constant: differences of distances then lose fewer digits."""
    return features - ops.stop_gradient(ops.mean(features, axis=0, keepdims=True))


def nearness(x: Tensor, points: Tensor) -> Tensor:
    """`|x_i|^2 - |x_i - p_j|^2`, `(N, M)`: in each row greatest where the distance is least."""
    return 2 * ops.matmul(x, ops.transpose(points)) - ops.sum(ops.square(points), axis=-1)


def smooth_distances(a: Tensor, b: Tensor) -> Tensor:
    """`sqrt(|a - b|^2 + 1e-6)` over the last axis: a distance with a gradient also at 0."""
    return ops.sqrt(ops.sum(ops.square(a - b), axis=-1) + 1e-6)
