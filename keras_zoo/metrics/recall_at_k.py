"""Recall@K of a retrieval among embeddings, as a function and as a streaming metric."""

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_batch, check_labels, check_ranks
from keras_zoo.metrics._arrays import unit_rows
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import l2_normalize, nan_if_nan, pair_masks

# Numbers of one block of similarities: 32 MiB in float64.
BLOCK = 2**22


def _check_set(name, embeddings, labels):
    embeddings = np.asarray(embeddings, dtype="float64")
    labels = check_labels(f"{name}_labels", labels)
    if embeddings.ndim != 2 or len(embeddings) != len(labels):
        raise ValueError(
            f"`{name}_embeddings` must be `(N, D)`, with a label for each row in "
            f"`{name}_labels`. Received: shapes {embeddings.shape} and {labels.shape}"
        )
    return embeddings, labels


@component(paper="multi-similarity")
def recall_at_k(
    query_embeddings,
    query_labels,
    gallery_embeddings=None,
    gallery_labels=None,
    k=1,
    normalize=True,
):
    """Fraction of queries with an example of their class among the `k` nearest of a gallery.

    A query is a hit if fewer than `k` gallery examples of other classes are strictly more similar
    to it than its most similar positive; ties, at float32 precision, are in its favour. The work
    goes block by block: the similarities of all queries are never held together.

    Args:
        query_embeddings: array `(Q, D)`.
        query_labels: array of integers `(Q,)` or `(Q, 1)`.
        gallery_embeddings: array `(G, D)`. None for self-retrieval: the queries are the gallery,
            and each query is left out of its own.
        gallery_labels: array of integers `(G,)` or `(G, 1)`; given with `gallery_embeddings`.
        k: int, or list of ints.
        normalize: bool. Whether similarities are cosines; otherwise inner products.

    Returns:
        A float for an int `k`, else an array with one value for each `k`. Queries without any
        positive in the gallery are left out of the mean; it is 0.0 if none is left. NaN if an
        embedding holds NaN.

    Raises:
        ValueError: shapes do not fit, labels are not integers, or `k` is not positive.

    Example:
    >>> keras_zoo.metrics.recall_at_k([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [0, 0, 1])
    1.0

    Reference: arXiv:1904.06627, evaluation. The official code takes the second largest positive
    for self-retrieval, relying on the query to be the largest; here it is left out by position.
    """
    ranks = check_ranks(k)
    queries, query_labels = _check_set("query", query_embeddings, query_labels)
    if (gallery_embeddings is None) != (gallery_labels is None):
        raise ValueError(
            "`gallery_embeddings` and `gallery_labels` go together. Received: "
            f"gallery_embeddings={'None' if gallery_embeddings is None else 'given'}, "
            f"gallery_labels={'None' if gallery_labels is None else 'given'}"
        )
    own = gallery_embeddings is None
    gallery, labels = queries, query_labels
    if not own:
        gallery, labels = _check_set("gallery", gallery_embeddings, gallery_labels)
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            "Queries and gallery must have the same number of dimensions. "
            f"Received: query_embeddings {queries.shape}, gallery_embeddings {gallery.shape}"
        )
    if np.isnan(queries).any() or np.isnan(gallery).any():
        recall = np.full(len(ranks), np.nan)
        return float(recall[0]) if np.ndim(k) == 0 else recall
    if normalize:
        gallery = unit_rows(gallery)
        queries = gallery if own else unit_rows(queries)

    hits, valid = np.zeros(len(ranks)), 0
    rows = max(1, BLOCK // max(1, len(gallery)))
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        # Equal embeddings shall tie whatever the last bit of their products.
        similarities = (queries[block] @ gallery.T).astype("float32")
        same = query_labels[block, None] == labels[None, :]
        other = ~same
        if own:
            index = np.arange(len(same))
            same[index, start + index] = False
        best = np.max(similarities, axis=1, where=same, initial=-np.inf, keepdims=True)
        ahead = np.sum(other & (similarities > best), axis=1)
        has_positive = same.any(axis=1)
        hits += [np.sum(has_positive & (ahead < rank)) for rank in ranks]
        valid += np.sum(has_positive)
    recall = hits / max(valid, 1)
    return float(recall[0]) if np.ndim(k) == 0 else recall


@component(paper="multi-similarity")
class RecallAtK(keras.metrics.Metric):
    """Recall@K within each batch, over all batches: a quick look while training.

    In each batch `(N, D)` every example is a query among the others. It is a hit if fewer than `k`
    examples of other classes are strictly more similar to it than its most similar positive.

        result = number of hits / number of queries that have a positive in their batch

    It depends on how batches are made up. For a figure to report see `recall_at_k`.

    Args:
        k: int > 0.
        normalize: bool. Whether similarities are cosines; otherwise inner products.
        name: name of the metric, `"recall_at_{k}"` by default.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: labels `(N,)` or `(N, 1)`, embeddings
    `(N, D)`, weights `(N,)` or `(N, 1)` of the queries. An example of weight 0 is no query, yet
    others may still find it.

    The result is 0 before any query with a positive, and NaN once an embedding held NaN.

    Raises:
        ValueError: `k` is not a positive integer; shapes do not fit.

    Example:
    >>> model.compile("adam", keras_zoo.losses.MultiSimilarityLoss(),
    ...               metrics=[keras_zoo.metrics.RecallAtK(1)])

    Reference: arXiv:1904.06627, evaluation.
    """

    def __init__(self, k=1, normalize=True, name=None, dtype=None):
        if np.ndim(k) != 0:
            raise ValueError(f"`k` must be one positive integer. Received: k={k!r}")
        check_ranks(k)
        super().__init__(name=name or f"recall_at_{k}", dtype=dtype)
        self.k = int(k)
        self.normalize = normalize
        self.hits = self.add_variable(shape=(), initializer="zeros", name="hits")
        self.queries = self.add_variable(shape=(), initializer="zeros", name="queries")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts the queries of one batch and their hits."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.cast(y_pred, "float32")
        check_batch(y_true, y_pred)
        if y_pred.shape[0] == 0:
            return
        features = l2_normalize(y_pred) if self.normalize else y_pred
        labels = ops.reshape(y_true, (-1,))
        similarities = ops.matmul(features, ops.transpose(features))
        pos, neg = pair_masks(labels, ops.arange(ops.shape(labels)[0]), labels)
        best = ops.amax(ops.where(pos, similarities, LOWEST), axis=-1, keepdims=True)
        ahead = ops.sum(ops.cast(ops.logical_and(neg, similarities > best), "int32"), axis=-1)
        weight = ops.cast(ops.any(pos, axis=-1), self.dtype)
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
            weight = weight * ops.cast(sample_weight, self.dtype)
        hits = ops.sum(weight * ops.cast(ahead < self.k, self.dtype))
        self.hits.assign_add(hits + ops.cast(nan_if_nan(features), self.dtype))
        self.queries.assign_add(ops.sum(weight))

    def result(self):
        """Hits over queries."""
        # Not divide_no_nan alone: it would turn the NaN of a batch without pairs into 0.
        queries = ops.convert_to_tensor(self.queries)
        return self.hits / ops.where(queries == 0, ops.ones_like(queries), queries)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "k": self.k, "normalize": self.normalize}
