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

    and 0 for an anchor without a positive or without a negative. Time and memory are `O(N^3)`;
    with `chunk_size`, memory is `O(chunk_size N^2)`.

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
        violations = ops.relu(self._violations(S, pos, neg))
        return ops.sum(violations, axis=(1, 2)) / self._triplets(pos, neg, violations.dtype)

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair in closed form, `(R, N)`; see `PairBasedLoss`."""
        violations = self._violations(S, pos, neg)
        active = ops.cast(violations > 0, violations.dtype)
        triplets = self._triplets(pos, neg, violations.dtype)[:, None]
        # An excluded pair takes part in no active triplet.
        return (ops.sum(active, axis=2) + ops.sum(active, axis=1)) / triplets

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}

    def _violations(self, S, pos, neg):
        """`S_in - S_ip + margin` as `(R, p, n)`, far below 0 where p or n is no pair."""
        S = ops.convert_to_tensor(S)
        positives = ops.where(pos, S, -LOWEST)
        negatives = ops.where(neg, S, LOWEST)
        return (negatives + self.margin)[:, None, :] - positives[:, :, None]

    def _triplets(self, pos, neg, dtype):
        return _pairs.count(pos, dtype) * _pairs.count(neg, dtype)
