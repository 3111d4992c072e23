"""Binomial deviance loss on similarities (as in Wang et al., 2019)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses import _pairs
from keras_zoo.losses.pair_based_loss import PairBasedLoss


@component(paper="multi-similarity")
class BinomialDevianceLoss(PairBasedLoss):
    """Pulls and pushes each pair by how far it lies on the wrong side of a threshold, smoothly.

    With `S` `(N, N)` the cosines, `P_i` and `N_i` as in `PairBasedLoss`:

        l_i = mean_{p in P_i} log(1 + exp(alpha (base - S_ip)))
            + mean_{n in N_i} log(1 + exp(beta (S_in - base)))

    The mean over an empty set is 0.

    Args:
        alpha: float > 0. Sharpness for positives.
        beta: float > 0. Sharpness for negatives.
        base: float. The threshold.
        normalize: bool. Whether embeddings are l2-normalised first.
        name: name of the loss.
        chunk_size: int or None. Rows of `S` held at a time; see `PairBasedLoss`.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (as float32: integers beyond 2**24 may collide);
    `y_pred` `(N, D)` embeddings.

    Output before reduction: `(N,)`.

    Example:
    >>> model.compile("adam", loss=keras_zoo.losses.BinomialDevianceLoss())

    Reference: arXiv:1904.06627, section 3.1.
    """

    def __init__(
        self,
        alpha=2.0,
        beta=50.0,
        base=0.5,
        normalize=True,
        name="binomial_deviance_loss",
        *,
        chunk_size=None,
        **kwargs,
    ):
        super().__init__(normalize, name, chunk_size=chunk_size, **kwargs)
        self.alpha = check_number("alpha", alpha, positive=True)
        self.beta = check_number("beta", beta, positive=True)
        self.base = check_number("base", base)

    def pair_loss(self, S, pos, neg):
        """Loss of each anchor, `(R,)`, from `(R, N)` similarities and selected pairs."""
        S = ops.convert_to_tensor(S)
        pull = _pairs.masked_sum(ops.softplus(self.alpha * (self.base - S)), pos)
        push = _pairs.masked_sum(ops.softplus(self.beta * (S - self.base)), neg)
        return pull / _pairs.count(pos, S.dtype) + push / _pairs.count(neg, S.dtype)

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair in closed form, `(R, N)`; see `PairBasedLoss`."""
        S = ops.convert_to_tensor(S)
        pull = self.alpha * ops.sigmoid(self.alpha * (self.base - S))
        push = self.beta * ops.sigmoid(self.beta * (S - self.base))
        pull = pull / _pairs.count(pos, S.dtype)[:, None]
        push = push / _pairs.count(neg, S.dtype)[:, None]
        return _pairs.join_weights(pos, neg, pull, push)

    def soft_pair_loss(self, S, label, mask=None):
        """Mean of `y log(1 + e^{alpha (base - S)}) + (1 - y) log(1 + e^{beta (S - base)})`.

        Args:
            S: similarities `(A, V)`.
            label: `(A, V)`, y, from 0 (negative) to 1 (positive), or one number for all.
            mask: bool `(A, V)`, which examples an anchor looks at. None for all.

        Returns:
            `(A,)`; 0 for an anchor that looks at nothing.
        """
        S, label, mask = _pairs.check_soft(S, label, mask)
        pull = label * ops.softplus(self.alpha * (self.base - S))
        push = (1 - label) * ops.softplus(self.beta * (S - self.base))
        return _pairs.masked_sum(pull + push, mask) / _pairs.count(mask, S.dtype)

    def get_config(self):
        """The constructor's arguments."""
        own = {"alpha": self.alpha, "beta": self.beta, "base": self.base}
        return {**super().get_config(), **own}
