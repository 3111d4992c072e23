"""Lifted structure loss on similarities (as in Wang et al., 2019)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses import _pairs
from keras_zoo.losses.pair_based_loss import PairBasedLoss
from keras_zoo.ops import masked_logsumexp


@component(paper="multi-similarity")
class LiftedStructureLoss(PairBasedLoss):
    """Compares soft extremes: the least similar positives with the most similar negatives.

    With `S` `(N, N)` the cosines, `P_i` and `N_i` as in `PairBasedLoss`:

        l_i = max(0, log sum_{p in P_i} exp(margin - S_ip) + log sum_{n in N_i} exp(S_in))

    and 0 for an anchor without a positive or without a negative.

    Args:
        margin: float. The wanted difference of the soft extremes.
        normalize: bool. Whether embeddings are l2-normalised first.
        name: name of the loss.
        chunk_size: int or None. Rows of `S` held at a time; see `PairBasedLoss`.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (as float32: integers beyond 2**24 may collide);
    `y_pred` `(N, D)` embeddings.

    Output before reduction: `(N,)`.

    Example:
    >>> model.compile("adam", loss=keras_zoo.losses.LiftedStructureLoss(margin=1.0))

    Reference: arXiv:1904.06627, section 3.1.
    """

    def __init__(
        self,
        margin=1.0,
        normalize=True,
        name="lifted_structure_loss",
        *,
        chunk_size=None,
        **kwargs,
    ):
        super().__init__(normalize, name, chunk_size=chunk_size, **kwargs)
        self.margin = check_number("margin", margin)

    def pair_loss(self, S, pos, neg):
        """Loss of each anchor, `(R,)`, from `(R, N)` similarities and selected pairs."""
        # An empty side is -1e30, far below the hinge.
        return ops.relu(self._soft_extremes(ops.convert_to_tensor(S), pos, neg))

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair in closed form, `(R, N)`; see `PairBasedLoss`."""
        S = ops.convert_to_tensor(S)
        active = ops.cast(self._soft_extremes(S, pos, neg) > 0, S.dtype)
        weights = _pairs.masked_softmax(-S, pos) + _pairs.masked_softmax(S, neg)
        return active[:, None] * weights

    def soft_pair_loss(self, S, label, mask=None):
        """`max(0, log sum y exp(margin - S) + log sum (1 - y) exp(S))`.

        Args:
            S: similarities `(A, V)`.
            label: `(A, V)`, y, from 0 (negative) to 1 (positive), or one number for all.
            mask: bool `(A, V)`, which examples an anchor looks at. None for all.

        Returns:
            `(A,)`; 0 where all y, or all 1 - y, are 0.
        """
        S, label, mask = _pairs.check_soft(S, label, mask)
        pull = _pairs.soft_logsumexp(self.margin - S, label, mask)
        return ops.relu(pull + _pairs.soft_logsumexp(S, 1 - label, mask))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}

    def _soft_extremes(self, S, pos, neg):
        return masked_logsumexp(self.margin - S, pos) + masked_logsumexp(S, neg)
