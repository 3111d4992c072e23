"""Mann-Whitney loss: a smooth bound of 1 - AUC for scores (Sheikholeslami et al., 2025)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.losses._mann_whitney import BaseMannWhitneyLoss
from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import nan_if_nan


@component(paper="mw-loss")
class MannWhitneyLoss(BaseMannWhitneyLoss):
    """Compares every relevant score of the batch with every other one.

    With scores `s` `(B, M)`, of which `n+` are relevant and `n-` are not:

        l_i = B / n+ * sum_{j relevant in row i} 1 / n- * sum_{k not relevant, any row}
                  softplus( (s_k - s_ij) / temperature )

    whose mean over the rows is the mean over all pairs, and at least `log(2) (1 - AUC)`, with
    AUC the area under the ROC curve of the pooled scores. A contrastive or a listwise loss stays
    the same when all scores of one row are shifted; this one does not, so that scores may be
    compared with one threshold.

    Args:
        temperature: float > 0.
        scope: "batch", or "query" to compare only within a row: then `l_i` is the mean over the
            pairs of row `i` (RankNet), times `B` over the number of rows that have pairs; 0 for
            the others.
        pair_reduction: "mean", or "sum" for sums over what is not relevant, as the paper's
            equation 3 prints it: no `1 / n-`. Only the mean bounds the AUC.
        name: name of the loss.
        chunk_size: int or None. With a number, so many scores of each group (the batch, or the
            row) are compared with the others at a time, and again for the gradient: memory grows
            with `chunk_size * B * M` in place of `(B M)^2`. Values and gradients stay the same.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_pred` scores `(B, M)`, or `(B,)` or `(B, 1)` for a classifier with one logit;
    `y_true` as many labels, relevant above 0.5. Labels `(B,)` go with scores `(B, 1)`, and the
    other way round.

    Output before reduction: `(B,)`. Without relevant scores, or without others, it is 0 with a
    gradient of 0. A `sample_weight` weighs the relevant scores of a row. NaN in a score or label
    gives NaN for all.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together;
            `scope="query"` with one score in a row, which leaves nothing to compare.

    Example:
    >>> loss = keras_zoo.losses.MannWhitneyLoss()
    >>> round(float(loss([1.0, 0.0, 0.0], [2.0, 1.0, -1.0])), 4)
    0.1809

    Reference: arXiv:2510.00137, equations 2 and 3 and lemma 2. No official code was found.
    """

    def __init__(
        self,
        temperature=1.0,
        scope="batch",
        pair_reduction="mean",
        name="mann_whitney_loss",
        *,
        chunk_size=None,
        **kwargs,
    ):
        super().__init__(temperature, scope, pair_reduction, name, chunk_size, **kwargs)

    def call(self, y_true, y_pred):
        """Loss of each row, `(B,)`."""
        y_true, y_pred = full_precision(y_true), full_precision(y_pred)
        self._check(tuple(y_true.shape), tuple(y_pred.shape))
        if 0 in y_pred.shape:
            return ops.zeros(y_pred.shape[:1], dtype=y_pred.dtype)
        batch = ops.shape(y_pred)[0]
        # The scores that are compared with one another make a row.
        scores, relevant = y_pred / self.temperature, ops.reshape(y_true, ops.shape(y_pred)) > 0.5
        if self.scope == "batch":
            scores, relevant = ops.reshape(scores, (1, -1)), ops.reshape(relevant, (1, -1))
        pos_count = ops.sum(ops.cast(relevant, scores.dtype), axis=-1)
        neg_count = ops.sum(ops.cast(ops.logical_not(relevant), scores.dtype), axis=-1)
        sums = self._against_negatives(
            ops.where(relevant, scores, -LOWEST),
            ops.where(relevant, LOWEST, scores),
            neg_count,
        )
        sums = sums / ops.maximum(pos_count, 1.0)[:, None]
        losses = ops.sum(ops.reshape(sums, (batch, -1)), axis=-1)
        groups = ops.sum(ops.cast(pos_count * neg_count > 0, scores.dtype))
        losses = losses * ops.cast(batch, scores.dtype) / ops.maximum(groups, 1.0)
        return losses + nan_if_nan(y_pred) + ops.cast(nan_if_nan(y_true), scores.dtype)

    def _check(self, y_true, y_pred):
        def squeezed(shape):
            return shape[:1] if len(shape) == 2 and shape[1] == 1 else shape

        one, other = squeezed(y_true), squeezed(y_pred)
        fits = len(one) == len(other) in (1, 2) and all(
            None in (a, b) or a == b for a, b in zip(one, other, strict=True)
        )
        if not fits:
            raise ValueError(
                "`y_pred` must be scores `(B, M)` or `(B,)`, and `y_true` as many labels. "
                f"Received: y_true of shape {y_true}, y_pred of shape {y_pred}"
            )
        if self.scope == "query" and len(other) == 1:
            raise ValueError(
                "`scope` must be 'batch' for one score in a row: within a row there is nothing to "
                f"compare it with. Received: scope='query', y_pred of shape {y_pred}"
            )
