"""Pair-based losses as weights on pairs (Wang et al., 2019)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_batch
from keras_zoo.losses import _pairs
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops import input_gradient
from keras_zoo.ops.pairs import inner_products, l2_normalize, nan_if_nan, pair_masks


@component(paper="multi-similarity")
class PairBasedLoss(ZooLoss):
    """Base of the losses that are a function of the similarities of all pairs of a batch.

    With embeddings `F` `(N, D)`, l2-normalised, `S = F F^T` `(N, N)`, and for each anchor `i`

        P_i = {j != i : y_j = y_i},   N_i = {j : y_j != y_i}

    a subclass gives the loss `l_i` of an anchor from row `i` of `S` in `pair_loss`; what may be a
    pair at all, in `select_pairs`. General pair weighting looks at such a loss through

        w_ij = | d sum_i l_i / d S_ij |

    (`S_ij` and `S_ji` are different variables): holding `w` constant, the loss has the gradient of
    `sum_i ( sum_{j in N_i} w_ij S_ij - sum_{j in P_i} w_ij S_ij )`. `pair_weights` returns them.

    Args:
        normalize: bool. Whether embeddings are l2-normalised first.
        name: name of the loss.
        reduction: as in `keras.losses.Loss`; the default divides by all `N` anchors, also by those
            that contribute 0.
        dtype: as in `keras.losses.Loss`. Half precisions compute in float32.
        chunk_size: int or None. With a number, at most so many rows of `S` are held at a time, and
            they are worked out again for the gradient: memory grows with `chunk_size * N` in place
            of `N * N`, for about twice the time. Values and gradients stay the same.

    Inputs: `y_true` `(N,)` or `(N, 1)`, labels, compared by equality. Keras casts labels to the
    loss's dtype: integers beyond 2**24 may collide in float32. `y_pred` `(N, D)`, embeddings.

    Output before reduction: `(N,)`, one loss per anchor.

    A row of zeros keeps similarity 0 to all. NaN in an embedding gives NaN for all anchors, since
    all meet it. An empty batch gives an empty vector, which Keras leaves as it is.

    A subclass needs `pair_loss` alone. It must use each row of its `(R, N)` arguments by itself,
    since rows may come in blocks. Its weights are then found by automatic differentiation, as
    absolute values; `weights_from_similarities` may give them in closed form.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together.

    Example:
    >>> class Repulsion(keras_zoo.losses.PairBasedLoss):
    ...     def pair_loss(self, S, pos, neg):
    ...         return keras.ops.sum(keras.ops.where(neg, S, 0.0), axis=-1)
    >>> model.compile("adam", loss=Repulsion())

    Reference: arXiv:1904.06627, section 3.
    """

    def __init__(
        self,
        normalize=True,
        name=None,
        reduction="sum_over_batch_size",
        dtype=None,
        *,
        chunk_size=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not isinstance(normalize, bool):
            raise ValueError(
                f"`normalize` must be True or False. Received: normalize={normalize!r}"
            )
        is_size = isinstance(chunk_size, int) and not isinstance(chunk_size, bool)
        if chunk_size is not None and not (is_size and chunk_size > 0):
            raise ValueError(
                "`chunk_size` must be a positive integer or None. "
                f"Received: chunk_size={chunk_size!r}"
            )
        self.normalize = normalize
        self.chunk_size = chunk_size

    def call(self, y_true, y_pred):
        """Loss of each anchor, `(N,)`."""
        labels, features = self._prepare(y_true, y_pred)
        n = features.shape[0]
        if n == 0:
            return ops.zeros((0,), dtype=features.dtype)
        if self.chunk_size is None or (n is not None and n <= self.chunk_size):
            losses = self._row_loss(*self._all_pairs(labels, features))
        else:
            losses = _pairs.row_losses_in_chunks(self._row_loss, features, labels, self.chunk_size)
        return losses + nan_if_nan(features)

    def similarities(self, y_true, y_pred):
        """Similarities of all pairs, and which of them are positive and negative.

        Args:
            y_true: labels `(N,)` or `(N, 1)`.
            y_pred: embeddings `(N, D)`.

        Returns:
            `(S, pos, neg)`: float `(N, N)` and two bool `(N, N)`; an example is not its own pair.
        """
        return self._all_pairs(*self._prepare(y_true, y_pred))

    def select_pairs(self, S, pos, neg):
        """The pairs that enter the loss: here all of them.

        Args:
            S: similarities `(R, N)` of `R` anchors.
            pos: bool `(R, N)`, the positives.
            neg: bool `(R, N)`, the negatives.

        Returns:
            `(pos, neg)`, bool `(R, N)`. They are constants: no gradient passes.
        """
        return pos, neg

    def pair_loss(self, S, pos, neg):
        """Loss of each anchor from its similarities and its selected pairs.

        Args:
            S: similarities `(R, N)`.
            pos: bool `(R, N)`, the selected positives.
            neg: bool `(R, N)`, the selected negatives.

        Returns:
            `(R,)`.
        """
        raise TypeError(
            "`PairBasedLoss` is a base: a subclass defines `pair_loss(S, pos, neg)`. "
            f"Received: {type(self).__name__}, which does not"
        )

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair, `|d sum_i l_i / d S_ij|`, from similarities and selected pairs.

        Args:
            S: similarities `(R, N)`.
            pos: bool `(R, N)`, the selected positives.
            neg: bool `(R, N)`, the selected negatives.

        Returns:
            `(R, N)`, zero outside of the selected pairs.
        """
        return ops.abs(input_gradient(lambda S: self.pair_loss(S, pos, neg), S))

    def pair_weights(self, y_true, y_pred):
        """Weight that the loss gives to each pair of a batch.

        Args:
            y_true: labels `(N,)` or `(N, 1)`.
            y_pred: embeddings `(N, D)`.

        Returns:
            `(N, N)`: row `i` holds the weights of anchor `i`, zero where no pair was selected.
        """
        S, pos, neg = self.similarities(y_true, y_pred)
        return self.weights_from_similarities(S, *self.select_pairs(S, pos, neg))

    def soft_pair_loss(self, S, label, mask=None):
        """Loss of each anchor towards examples that are positive to a degree.

        The base, `TripletLoss` and `NPairLoss` have no such form: their terms join a positive and
        a negative.

        Args:
            S: similarities `(A, V)`.
            label: `(A, V)`, from 0 (negative) to 1 (positive), or one number for all.
            mask: bool `(A, V)`, which examples an anchor looks at. None for all.

        Returns:
            `(A,)`.

        Raises:
            TypeError: the loss has no such form.
        """
        raise TypeError(
            "`soft_pair_loss` exists for ContrastiveLoss, BinomialDevianceLoss, "
            f"LiftedStructureLoss and MultiSimilarityLoss. Received: {type(self).__name__}"
        )

    def get_config(self):
        """The constructor's arguments."""
        own = {"normalize": self.normalize, "chunk_size": self.chunk_size}
        return {**super().get_config(), **own}

    def _prepare(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_batch(y_true, y_pred)
        if keras.backend.standardize_dtype(y_pred.dtype) != "float64":
            y_pred = ops.cast(y_pred, "float32")
        if self.normalize and y_pred.shape[0] != 0:
            y_pred = l2_normalize(y_pred)
        return ops.reshape(y_true, (-1,)), y_pred

    def _all_pairs(self, labels, features):
        S = inner_products(features)
        index = ops.arange(ops.shape(labels)[0])
        return S, *pair_masks(labels, index, labels)

    def _row_loss(self, S, pos, neg):
        return self.pair_loss(S, *self.select_pairs(S, pos, neg))
