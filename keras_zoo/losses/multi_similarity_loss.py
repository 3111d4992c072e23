"""Multi-similarity loss (Wang et al., 2019)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses import _pairs
from keras_zoo.losses.pair_based_loss import PairBasedLoss
from keras_zoo.ops import masked_logsumexp
from keras_zoo.ops.masked import LOWEST

# A positive at least this similar counts as the anchor itself or a copy of it.
DUPLICATE = 1 - 1e-5


@component(paper="multi-similarity")
class MultiSimilarityLoss(PairBasedLoss):
    """Weights each pair by its own similarity and by that of the anchor's other pairs.

    With `S` `(N, N)` the cosines, `P_i` and `N_i` as in `PairBasedLoss`, and `P_i` without pairs
    of `S_ij >= 1 - 1e-5` (copies of the anchor):

        P' = {p in P_i : S_ip - epsilon < max_{n in N_i} S_in}
        N' = {n in N_i : S_in + epsilon > min_{p in P_i} S_ip}
        l_i = log(1 + sum_{p in P'} exp(-alpha (S_ip - base))) / alpha
            + log(1 + sum_{n in N'} exp( beta  (S_in - base))) / beta

    and `l_i = 0` where `P'` or `N'` is empty, so also for an anchor without a positive or without
    a negative. `P'` and `N'` are constants to the gradient.

    Args:
        alpha: float > 0. Sharpness for positives.
        beta: float > 0. Sharpness for negatives.
        base: float. Similarity at which a pair counts as much as the constant term.
        epsilon: float >= 0, the mining margin, or None for no mining: then `P' = P_i`, `N' = N_i`,
            and a side that is empty adds 0.
        normalize: bool. Whether embeddings are l2-normalised first. Without it, give unit vectors:
            the rule for copies of the anchor drops all products of 1 and more.
        name: name of the loss.
        chunk_size: int or None. Rows of `S` held at a time; see `PairBasedLoss`.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (as float32: integers beyond 2**24 may collide);
    `y_pred` `(N, D)` embeddings.

    Output before reduction: `(N,)`.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Example:
    >>> model.compile("adam", loss=keras_zoo.losses.MultiSimilarityLoss())

    Reference: arXiv:1904.06627, section 4. The defaults are those of the official code; the paper
    has `beta=50, base=1.0`. A class with one example in the batch gives 0, where the official code
    fails; an example is excluded from its own positives by position, too.
    """

    def __init__(
        self,
        alpha=2.0,
        beta=40.0,
        base=0.5,
        epsilon=0.1,
        normalize=True,
        name="multi_similarity_loss",
        *,
        chunk_size=None,
        **kwargs,
    ):
        super().__init__(normalize, name, chunk_size=chunk_size, **kwargs)
        self.alpha = check_number("alpha", alpha, positive=True)
        self.beta = check_number("beta", beta, positive=True)
        self.base = check_number("base", base)
        if epsilon is not None and check_number("epsilon", epsilon) < 0:
            raise ValueError(f"`epsilon` must be at least 0, or None. Received: epsilon={epsilon}")
        self.epsilon = epsilon

    def select_pairs(self, S, pos, neg):
        """The positives and negatives that mining keeps; see the class."""
        S = ops.stop_gradient(ops.convert_to_tensor(S))
        return self._mined(S, pos, neg)[:2]

    def pair_loss(self, S, pos, neg):
        """Loss of each anchor, `(R,)`, from `(R, N)` similarities and selected pairs."""
        S = ops.convert_to_tensor(S)
        return self._log_sums(S, pos, neg, *_extremes(ops.stop_gradient(S), pos, neg))

    def _row_loss(self, S, pos, neg):
        if type(self) is not MultiSimilarityLoss:  # A subclass may mine or sum otherwise.
            return super()._row_loss(S, pos, neg)
        # The same, but the extremes that mining found serve the sums as well.
        return self._log_sums(S, *self._mined(ops.stop_gradient(S), pos, neg))

    def _mined(self, S, pos, neg):
        """The pairs that mining keeps, and the extremes among them, as `_extremes` gives them."""
        if self.epsilon is None:
            pos = ops.logical_and(pos, S < DUPLICATE)
            return pos, neg, *_extremes(S, pos, neg)
        lowest, highest = _extremes(S, pos, neg)
        # Where the least similar positive is a copy of the anchor, all are.
        lowest = ops.where(lowest < DUPLICATE, lowest, -LOWEST)
        below, above = highest + self.epsilon, lowest - self.epsilon
        # A side keeps its hardest pair if it keeps any; rounding must not part the two sides.
        both = ops.logical_and(lowest < below, highest > above)
        below = ops.where(both, ops.minimum(below, DUPLICATE), LOWEST)
        above = ops.where(both, above, -LOWEST)
        return (
            ops.logical_and(pos, ops.less(S, below)),
            ops.logical_and(neg, ops.greater(S, above)),
            ops.where(both, lowest, -LOWEST),
            ops.where(both, highest, LOWEST),
        )

    def _log_sums(self, S, pos, neg, lowest, highest):
        """The two logarithms of sums over the selected pairs, whose extremes are given."""
        # The greatest exponent of each side is taken out of its sum, 0 being that of the 1.
        pull_top = ops.maximum(-self.alpha * (lowest - self.base), 0.0)
        push_top = ops.maximum(self.beta * (highest - self.base), 0.0)
        # No pair is in both sums, so that one exponential serves both; the rest becomes exp(0).
        zero = ops.zeros_like(lowest)
        scale = ops.where(pos, zero - self.alpha, ops.where(neg, zero + self.beta, zero))
        pull_shift = self.alpha * self.base - pull_top
        push_shift = -self.beta * self.base - push_top
        shift = ops.where(pos, pull_shift, ops.where(neg, push_shift, zero))
        e = ops.exp(scale * S + shift)
        pull = _log_sum(_pairs.masked_sum(e, pos), pull_top)
        push = _log_sum(_pairs.masked_sum(e, neg), push_top)
        return pull / self.alpha + push / self.beta

    def weights_from_similarities(self, S, pos, neg):
        """Weight of each pair in closed form, `(R, N)`; see `PairBasedLoss`."""
        S = ops.convert_to_tensor(S)
        weights = []
        for scale, mask in ((-self.alpha, pos), (self.beta, neg)):
            x = ops.where(mask, scale * (S - self.base), LOWEST)
            total = masked_logsumexp(x, mask, floor=0.0)
            weights.append(ops.exp(x - total[:, None]))
        return weights[0] + weights[1]

    def soft_pair_loss(self, S, label, mask=None):
        """Loss of each anchor towards examples that are positive to a degree.

            log(1 + sum y e^{-alpha (S - base)}) / alpha
                + log(1 + sum (1 - y) e^{beta (S - base)}) / beta

        Args:
            S: similarities `(A, V)`.
            label: `(A, V)`, y, from 0 (negative) to 1 (positive), or one number for all.
            mask: bool `(A, V)`, which examples an anchor looks at. None for all. Nothing is mined.

        Returns:
            `(A,)`; 0 for an anchor that looks at nothing.
        """
        S, label, mask = _pairs.check_soft(S, label, mask)
        pull = _pairs.soft_logsumexp(-self.alpha * (S - self.base), label, mask, floor=0.0)
        push = _pairs.soft_logsumexp(self.beta * (S - self.base), 1 - label, mask, floor=0.0)
        return pull / self.alpha + push / self.beta

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "alpha": self.alpha,
            "beta": self.beta,
            "base": self.base,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **own}


def _extremes(S, pos, neg):
    """Least similar positive and most similar negative of each row; 1e30, -1e30 for none."""
    lowest = ops.amin(ops.where(pos, S, -LOWEST), axis=-1, keepdims=True)
    highest = ops.amax(ops.where(neg, S, LOWEST), axis=-1, keepdims=True)
    return lowest, highest


def _log_sum(total, top):
    """`log(1 + e^top total)`, `total` `(R,)` and `top` `(R, 1)`."""
    top = ops.squeeze(top, -1)
    return ops.log(ops.exp(-top) + total) + top
