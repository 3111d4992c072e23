"""Mann-Whitney loss for dual encoders (Sheikholeslami et al., 2025)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag
from keras_zoo.losses._mann_whitney import BaseMannWhitneyLoss
from keras_zoo.losses._views import check_rows, prepare_views, query_logits
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import nan_if_nan


@component(paper="mw-loss")
class MannWhitneyRetrievalLoss(BaseMannWhitneyLoss):
    """Compares each query's positive with the negatives of all queries of the batch.

    With `s(q, p)` the cosine of a query and a passage, `s+_i` that of query `i` and its positive,
    and `S-_i` those of query `i` with every other passage of the batch (the positives of the
    other queries, and the `H` hard negatives of all queries, its own and the others'):

        S-  = union of all S-_i,   |S-| = B (H B + B - 1)
        l_i = 1 / |S-| * sum_{s in S-} softplus( (s - s+_i) / temperature )

    The mean over queries is at least `log(2) (1 - AUC)`, with AUC the area under the ROC curve of
    the pooled scores. The contrastive loss, `InfoNCELoss(symmetric=False)`, compares each query
    with itself alone, and so says nothing of scores across queries.

    Args:
        temperature: float > 0.
        scope: "batch", or "query" to take `S-_i` in place of `S-` (RankNet), times `B` over the
            number of queries that have negatives; 0 for the others.
        pair_reduction: "mean", or "sum" for the sums over `S-` that the paper's equation 3 prints:
            no `1 / |S-|`. Only the mean bounds the AUC.
        normalize: bool. Whether views are l2-normalised first.
        name: name of the loss.
        chunk_size: int or None. With a number, so many positives are compared with `S-` at a
            time, and again for the gradient: memory grows with `chunk_size * |S-|` in place of
            `B |S-|`, which is 100 million numbers at `B = 256, H = 5`. Values and gradients stay
            the same. Without effect on `scope="query"`, which holds `B (B + H B)` numbers.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` ids `(B,)` or `(B, 1)` of the positive passages: the positive of another query
    that has the same id is neither positive nor negative. Give each its own, `arange(B)`, for
    the paper's loss. Keras casts ids to the loss's dtype: beyond 2**24 they may collide in float32.
    `y_pred` `(B, 2 + H, D)`: view 0 the query, 1 its positive, 2 and up its hard negatives, which
    are always negatives.

    Output before reduction: `(B,)`. Without any negative it is 0 with a gradient of 0. A
    `sample_weight` weighs the positives. NaN in an embedding gives NaN for all.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_pred` is no batch of views; `y_true` holds
            no id for each.

    Example:
    >>> loss = keras_zoo.losses.MannWhitneyRetrievalLoss(temperature=0.1)
    >>> pairs = keras.ops.stack([keras.ops.eye(4), keras.ops.eye(4)], axis=1)
    >>> round(float(loss(keras.ops.arange(4), pairs)), 6)  # log(1 + e^-10)
    4.5e-05

    Reference: arXiv:2510.00137, equations 2 and 3 and lemma 2, which prints the mean, the
    temperature and the sum in one place each. No official code was found; what one passage to two
    queries shall mean is our choice.
    """

    def __init__(
        self,
        temperature=0.01,
        scope="batch",
        pair_reduction="mean",
        normalize=True,
        name="mann_whitney_retrieval_loss",
        *,
        chunk_size=None,
        **kwargs,
    ):
        super().__init__(temperature, scope, pair_reduction, name, chunk_size, **kwargs)
        self.normalize = check_flag("normalize", normalize)

    def call(self, y_true, y_pred):
        """Loss of each query, `(B,)`."""
        views = prepare_views(y_pred, self.normalize)
        ids = ops.convert_to_tensor(y_true)
        if len(ids.shape) == 2 and ids.shape[1] == 1:
            ids = ids[:, 0]
        check_rows(ids, views, 1, "(B,)")
        if views.shape[0] == 0:
            return ops.zeros((0,), dtype=views.dtype)
        scores = query_logits(views, self.temperature)
        pos, negative = ops.diagonal(scores), _negatives(ids, ops.shape(scores)[1])
        neg = ops.where(negative, scores, LOWEST)
        neg_count = ops.sum(ops.cast(negative, scores.dtype), axis=-1)
        if self.scope == "batch":
            neg, neg_count = ops.reshape(neg, (1, -1)), ops.sum(neg_count, keepdims=True)
            losses = self._against_negatives(pos[None, :], neg, neg_count)[0]
        else:
            losses = self._against_negatives(pos[:, None], neg, neg_count)[:, 0]
            share = ops.mean(ops.cast(neg_count > 0, scores.dtype))
            losses = losses / ops.where(share > 0, share, ops.ones_like(share))
        return losses + nan_if_nan(views)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "normalize": self.normalize}


def _negatives(ids, columns):
    """Bool `(B, columns)`: not the passage of a query's id; hard negatives in any case."""
    rows = ops.shape(ids)[0]
    other = ops.not_equal(ids[:, None], ids[None, :])
    # By position too: an id that is NaN does not equal itself.
    other = ops.logical_and(other, ops.logical_not(ops.eye(rows, dtype="bool")))
    hard = ops.ones((rows, columns - rows), dtype="bool")
    return ops.concatenate([other, hard], axis=1)
