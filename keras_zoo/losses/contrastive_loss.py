"""Contrastive loss on similarities (as in Wang et al., 2019)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses import _pairs
from keras_zoo.losses.pair_based_loss import PairBasedLoss


@component(paper="multi-similarity")
class ContrastiveLoss(PairBasedLoss):
    """Pulls every positive, and pushes the negatives that are more similar than a margin.

    With `S` `(N, N)` the cosines, `P_i` and `N_i` as in `PairBasedLoss`:

        l_i = - mean_{p in P_i} S_ip + mean_{n in N_i} max(0, S_in - margin)

    The mean over an empty set is 0.

    Args:
        margin: float. Negatives less similar than this cost nothing.
        pair_reduction: "mean", or "sum" for the plain sums of the paper.
        normalize: bool. Whether embeddings are l2-normalised first.
        name: name of the loss.
        chunk_size: int or None. Rows of `S` held at a time; see `PairBasedLoss`.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (as float32: integers beyond 2**24 may collide);
    `y_pred` `(N, D)` embeddings.

    Output before reduction: `(N,)`.

    Example:
    >>> model.compile("adam", loss=keras_zoo.losses.ContrastiveLoss(margin=0.5))

    Reference: arXiv:1904.06627, section 3.1, which leaves open how pairs are averaged.
    """

    def __init__(
        self,
        margin=0.5,
        pair_reduction="mean",
        normalize=True,
        name="contrastive_loss",
        *,
        chunk_size=None,
        **kwargs,
    ):
        super().__init__(normalize, name, chunk_size=chunk_size, **kwargs)
        if pair_reduction not in ("mean", "sum"):
            raise ValueError(
                "`pair_reduction` must be 'mean' or 'sum'. "
                f"Received: pair_reduction={pair_reduction!r}"
            )
        self.margin = check_number("margin", margin)
        self.pair_reduction = pair_reduction

    def pair_loss(self, S, pos, neg):
        """Loss of each anchor, `(R,)`, from `(R, N)` similarities and selected pairs."""
        S = ops.convert_to_tensor(S)
        pull = _pairs.masked_sum(-S, pos)
        push = _pairs.masked_sum(ops.relu(S - self.margin), neg)
        return pull / self._divisor(pos, S.dtype) + push / self._divisor(neg, S.dtype)

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair in closed form, `(R, N)`; see `PairBasedLoss`."""
        S = ops.convert_to_tensor(S)
        active = ops.cast(S - self.margin > 0, S.dtype)
        one = ops.ones_like(S)
        pos_weight = one / ops.reshape(self._divisor(pos, S.dtype), (-1, 1))
        neg_weight = active / ops.reshape(self._divisor(neg, S.dtype), (-1, 1))
        return _pairs.join_weights(pos, neg, pos_weight, neg_weight)

    def soft_pair_loss(self, S, label, mask=None):
        """`sum( - y S + (1 - y) max(0, S - margin) )`, divided by the number of terms for "mean".

        Args:
            S: similarities `(A, V)`.
            label: `(A, V)`, y, from 0 (negative) to 1 (positive), or one number for all.
            mask: bool `(A, V)`, which examples an anchor looks at. None for all.

        Returns:
            `(A,)`; 0 for an anchor that looks at nothing.
        """
        S, label, mask = _pairs.check_soft(S, label, mask)
        terms = (1 - label) * ops.relu(S - self.margin) - label * S
        return _pairs.masked_sum(terms, mask) / self._divisor(mask, S.dtype)

    def get_config(self):
        """The constructor's arguments."""
        own = {"margin": self.margin, "pair_reduction": self.pair_reduction}
        return {**super().get_config(), **own}

    def _divisor(self, mask, dtype):
        if self.pair_reduction == "sum":
            return ops.ones((1,), dtype=dtype)
        return _pairs.count(mask, dtype)
