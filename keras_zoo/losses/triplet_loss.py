"""Triplet loss over all triplets of a batch (as in Wang et al., 2019)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses import _pairs
from keras_zoo.losses.pair_based_loss import PairBasedLoss
from keras_zoo.ops.masked import LOWEST


@component(paper="multi-similarity")
class TripletLoss(PairBasedLoss):
    """Asks of every triplet that the positive be more similar than the negative, by a margin.

    With `S` `(N, N)` the cosines, `P_i` and `N_i` as in `PairBasedLoss`:

        l_i = mean_{p in P_i, n in N_i} max(0, S_in - S_ip + margin)

    and 0 for an anchor without a positive or without a negative. Sorting each anchor's pairs tells
    how many violated triplets each is part of, so no triplet is ever formed: time is
    `O(N^2 log N)`, memory `O(N^2)`, or `O(chunk_size N)` with `chunk_size`.

    Args:
        margin: float. The wanted difference of similarities.
        normalize: bool. Whether embeddings are l2-normalised first.
        name: name of the loss.
        chunk_size: int or None. Anchors worked on at a time; see `PairBasedLoss`.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (as float32: integers beyond 2**24 may collide);
    `y_pred` `(N, D)` embeddings.

    Output before reduction: `(N,)`.

    Example:
    >>> model.compile("adam", loss=keras_zoo.losses.TripletLoss(margin=0.1))

    Reference: arXiv:1904.06627, section 3.1, which looks at one triplet at a time; the mean over
    all triplets of an anchor is ours.
    """

    def __init__(
        self,
        margin=0.1,
        normalize=True,
        name="triplet_loss",
        *,
        chunk_size=None,
        **kwargs,
    ):
        super().__init__(normalize, name, chunk_size=chunk_size, **kwargs)
        self.margin = check_number("margin", margin)

    def pair_loss(self, S, pos, neg):
        """Loss of each anchor, `(R,)`, from `(R, N)` similarities and selected pairs."""
        S = ops.convert_to_tensor(S)
        as_positive, as_negative = self._violated(S, pos, neg)
        pulled = _pairs.masked_sum(as_positive * S, pos)
        pushed = _pairs.masked_sum(as_negative * (S + self.margin), neg)
        return (pushed - pulled) / self._triplets(pos, neg, S.dtype)

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair in closed form, `(R, N)`; see `PairBasedLoss`."""
        S = ops.convert_to_tensor(S)
        triplets = self._triplets(pos, neg, S.dtype)[:, None]
        as_positive, as_negative = self._violated(S, pos, neg)
        return _pairs.join_weights(pos, neg, as_positive / triplets, as_negative / triplets)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}

    def _violated(self, S, pos, neg):
        """Violated triplets that each pair is part of, as a positive and as a negative: `(R, N)`.

        Where a pair is not one of the kind, the number means nothing.
        """
        S = ops.stop_gradient(S)
        n = ops.shape(S)[1]
        # A positive is violated by the negatives that come after it here. A tie is no violation;
        # the sort is stable, and so puts the negative first.
        thresholds = [ops.where(neg, S + self.margin, -LOWEST), ops.where(pos, S, -LOWEST)]
        order = ops.argsort(ops.concatenate(thresholds, axis=1), axis=1)
        kinds = ops.cast(ops.concatenate([neg, pos], axis=1), "int32")
        kinds = ops.take_along_axis(kinds, order, axis=1)
        positives = ops.cumsum(ops.where(order < n, 0, kinds), axis=1)
        negatives = ops.cumsum(ops.where(order < n, kinds, 0), axis=1)
        others = ops.where(order < n, positives, negatives[:, -1:] - negatives)
        others = ops.take_along_axis(others, ops.argsort(order, axis=1), axis=1)
        others = ops.cast(others, S.dtype)
        return others[:, n:], others[:, :n]

    def _triplets(self, pos, neg, dtype):
        return _pairs.count(pos, dtype) * _pairs.count(neg, dtype)
