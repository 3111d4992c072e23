"""N-pair loss (Sohn, 2016; as in Wang et al., 2019)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.losses import _pairs
from keras_zoo.losses.pair_based_loss import PairBasedLoss
from keras_zoo.ops import masked_logsumexp


@component(paper="multi-similarity")
class NPairLoss(PairBasedLoss):
    """Compares each positive with all negatives at once, as a softmax would.

    With `S` `(N, N)` the cosines, `P_i` and `N_i` as in `PairBasedLoss`:

        l_i = mean_{p in P_i} log(1 + sum_{n in N_i} exp(S_in - S_ip))

    and 0 for an anchor without a positive or without a negative. Written as
    `log(1 + exp(log sum_n exp(S_in) - S_ip))` it needs no triplets: time and memory are `O(N^2)`.

    Args:
        normalize: bool. Whether embeddings are l2-normalised first; Sohn's own loss has False.
        name: name of the loss.
        chunk_size: int or None. Rows of `S` held at a time; see `PairBasedLoss`.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (as float32: integers beyond 2**24 may collide);
    `y_pred` `(N, D)` embeddings.

    Output before reduction: `(N,)`.

    Example:
    >>> model.compile("adam", loss=keras_zoo.losses.NPairLoss())

    Reference: arXiv:1904.06627, section 3.1.
    """

    def __init__(self, normalize=True, name="n_pair_loss", *, chunk_size=None, **kwargs):
        super().__init__(normalize, name, chunk_size=chunk_size, **kwargs)

    def pair_loss(self, S, pos, neg):
        """Loss of each anchor, `(R,)`, from `(R, N)` similarities and selected pairs."""
        S = ops.convert_to_tensor(S)
        terms = ops.softplus(self._log_odds(S, pos, neg))
        return _pairs.masked_sum(terms, pos) / _pairs.count(pos, S.dtype)

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair in closed form, `(R, N)`; see `PairBasedLoss`."""
        S = ops.convert_to_tensor(S)
        pull = ops.sigmoid(self._log_odds(S, pos, neg)) / _pairs.count(pos, S.dtype)[:, None]
        pull = ops.where(pos, pull, ops.zeros_like(pull))
        push = _pairs.masked_softmax(S, neg) * ops.sum(pull, axis=-1, keepdims=True)
        return pull + push

    def _log_odds(self, S, pos, neg):
        """`log sum_n exp(S_in - S_ip)` where p is a positive, else 0; -1e30 without negatives."""
        hardness = masked_logsumexp(S, neg)[:, None]
        return ops.where(pos, hardness - S, ops.zeros_like(S))
