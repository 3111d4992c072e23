"""Unified negative pair generation (Jung et al., 2022)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_not_negative
from keras_zoo.losses.margin_softmax_loss import MarginSoftmaxLoss
from keras_zoo.ops import masked_logsumexp
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import inner_products, l2_normalize, nan_if_nan, pair_masks


@component(paper="unpg")
class UNPGLoss(MarginSoftmaxLoss):
    """Margin softmax whose sum also holds the negative pairs found inside the batch.

    With `z_ic` `(N, C)` as in `MarginSoftmaxLoss`, `f_i` `(D,)` the normalised features, and
    `S_ij = <f_i, f_j>` of the `l` pairs `i < j` with `y_i != y_j`, in ascending order
    `a_0 <= .. <= a_{l-1}`:

        Q1 = a_{l // 4},  Q3 = a_{3 l // 4},  w = whisker (Q3 - Q1)
        K  = pairs with Q1 - w <= S_ij <= Q3 + w
        l_i = log( sum_c exp(s z_ic) + sum_K exp(s S_ij) ) - s z_iy

    so each example is pushed from all classes and, besides, all kept pairs from one another. The
    filter drops pairs that are far too similar, mostly wrong labels, and far too dissimilar, which
    teach nothing. Which pairs are kept is a constant to the gradient; a pair on a bound is kept.

    The pairs cost `N * N` products, and a sort of half as many numbers.

    Args:
        num_classes: int > 0. `C`, the number of columns that are cosines.
        margin_type: `"arcface"`, `"cosface"` or `"none"`.
        margin: float. See `MarginSoftmaxLoss`.
        scale: float > 0. `s`.
        whisker: float >= 0. 0 keeps the middle half of the pairs alone; a great number keeps all.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` `(N,)` or `(N, 1)` class ids in `[0, C)`; `y_pred` `(N, C + D)`, cosines and
    features, as `keras_zoo.layers.CosineClassifier(C, append_features=True)` gives them. The
    features are normalised once more, which does not change them.

    Output before reduction: `(N,)`. Sample weights weigh examples, not pairs. A batch of one class,
    or of one example, has no pair: then this is `MarginSoftmaxLoss`. NaN in a feature gives NaN
    for all.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together;
            there are no columns left for features.

    Example:
    >>> classifier = keras_zoo.layers.CosineClassifier(1000, append_features=True)
    >>> model = keras.Sequential([network, classifier])
    >>> model.compile("adam", loss=keras_zoo.losses.UNPGLoss(1000),
    ...               metrics=[keras_zoo.metrics.CosineAccuracy(1000)])

    Reference: arXiv:2203.11593, section 3; github.com/Jung-Jun-Uk/UNPG. Differs from the official
    code: all pairs of the batch at once, where it filters each replica's by themselves; a batch
    without a negative pair, where it fails; no MagFace head.
    """

    def __init__(
        self,
        num_classes,
        margin_type="arcface",
        margin=0.5,
        scale=64.0,
        whisker=1.5,
        name="unpg_loss",
        **kwargs,
    ):
        super().__init__(margin_type, margin, scale, name=name, **kwargs)
        self.num_classes = check_count("num_classes", num_classes)
        self.whisker = check_not_negative("whisker", whisker)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        labels, y_pred = self._prepare(y_true, y_pred)
        if y_pred.shape[1] is not None and y_pred.shape[1] <= self.num_classes:
            raise ValueError(
                "`y_pred` must hold `num_classes` cosines and then features, as "
                "`CosineClassifier(num_classes, append_features=True)` gives them. "
                f"Received: y_pred of shape {tuple(y_pred.shape)}, num_classes={self.num_classes}"
            )
        if y_pred.shape[0] == 0:
            return ops.zeros((0,), dtype=y_pred.dtype)
        cosines = y_pred[:, : self.num_classes]
        features = l2_normalize(y_pred[:, self.num_classes :])
        losses = self._cross_entropy(labels, cosines, self._pairs(labels, features))
        return losses + nan_if_nan(features)

    def _pairs(self, labels, features):
        """`log sum_K exp(s S)`, a scalar; -1e30 without a pair."""
        similarities = inner_products(features)
        index = ops.arange(ops.shape(labels)[0])
        _, negative = pair_masks(labels, index, labels)
        once = ops.logical_and(negative, index[:, None] < index[None, :])
        lower, upper = self._bounds(ops.stop_gradient(similarities), labels)
        inside = ops.logical_and(similarities >= lower, similarities <= upper)
        kept = ops.reshape(ops.logical_and(once, inside), (-1,))
        return masked_logsumexp(ops.reshape(self.scale * similarities, (-1,)), kept)

    def _bounds(self, similarities, labels):
        """The whiskers of the box plot of the negative pairs."""
        values, negative = _pairs_once(similarities, labels)
        values = ops.reshape(ops.where(negative, values, -LOWEST), (-1,))
        # One more, so that there is a number to look at also where there is no pair.
        values = ops.sort(ops.concatenate([values, ops.full((1,), -LOWEST, dtype=values.dtype)]))
        pairs = ops.sum(ops.cast(negative, "int32"))
        quartiles = ops.take(values, ops.stack([pairs // 4, 3 * pairs // 4]))
        whisker = self.whisker * (quartiles[1] - quartiles[0])
        return quartiles[0] - whisker, quartiles[1] + whisker

    def get_config(self):
        """The constructor's arguments."""
        own = {"num_classes": self.num_classes, "whisker": self.whisker}
        return {**super().get_config(), **own}


def _pairs_once(similarities, labels):
    """The entries above the diagonal as `(N, N // 2)`, and which of them are negative pairs.

    Row `i` holds the pairs of `i` with the `N // 2` that follow it, round the end; so all are there
    once, but for the last column of an even N, where they are there twice.
    """
    n = ops.shape(labels)[0]
    first, step = ops.arange(n)[:, None], ops.arange(1, n // 2 + 1)[None, :]
    other = (first + step) % n
    at = ops.minimum(first, other) * n + ops.maximum(first, other)
    values = ops.take(ops.reshape(similarities, (-1,)), at)
    different = ops.not_equal(labels[:, None], ops.take(labels, other))
    once = ops.logical_or(2 * step < n, first < step)
    return values, ops.logical_and(different, once)
