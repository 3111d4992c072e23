"""What the Mann-Whitney losses share: sums of softplus over pairs, whole or in blocks of rows."""

from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo._checks import check_choice, check_count, check_number
from keras_zoo.losses._base import ZooLoss


class BaseMannWhitneyLoss(ZooLoss):
    """Arguments and sums of the losses that compare positive with negative scores."""

    def __init__(self, temperature, scope, pair_reduction, name, chunk_size, **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.scope = check_choice("scope", scope, ("batch", "query"))
        self.pair_reduction = check_choice("pair_reduction", pair_reduction, ("mean", "sum"))
        self.chunk_size = None if chunk_size is None else check_count("chunk_size", chunk_size)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "temperature": self.temperature,
            "scope": self.scope,
            "pair_reduction": self.pair_reduction,
            "chunk_size": self.chunk_size,
        }
        return {**super().get_config(), **own}

    def _against_negatives(self, pos, neg, neg_count):
        """Each positive's mean, or sum, of softplus over the negatives of its group.

        Args:
            pos: scores over the temperature, `(G, P)`; 1e30 for what is no positive.
            neg: scores over the temperature, `(G, K)`; -1e30 for what is no negative.
            neg_count: `(G,)`, how many negatives there are.

        Returns:
            `(G, P)`, 0 for what is no positive and where there are no negatives.
        """
        pos = ops.transpose(pos)
        rows = pos.shape[0]
        if self.chunk_size is None or (rows is not None and rows <= self.chunk_size):
            sums = _softplus_sums(pos, neg)
        else:
            sums = _softplus_sums_in_chunks(pos, neg, self.chunk_size)
        if self.pair_reduction == "mean":
            sums = sums / ops.maximum(neg_count, 1.0)
        return ops.transpose(sums)


def _differences(pos, neg):
    return neg[None, :, :] - pos[:, :, None]


def _softplus_sums(pos, neg):
    """`sum_k softplus(neg_gk - pos_pg)`, `(P, G)`, of `(P, G)` and `(G, K)`."""
    return ops.sum(ops.softplus(_differences(pos, neg)), axis=-1)


def _softplus_sums_in_chunks(pos, neg, chunk_size):
    """As `_softplus_sums`, where no more than `chunk_size` rows of pairs exist at a time.

    The slopes of the pairs are worked out block by block again when the gradient is asked for.
    """
    rows, groups = ops.shape(pos)
    steps = (rows + chunk_size - 1) // chunk_size
    rest = steps * chunk_size - rows

    def block_of(x, k):
        return ops.slice(x, (k * chunk_size, 0), (chunk_size, groups))

    def write(x, k, block):
        # On TensorFlow `slice_update` has no gradient, which second derivatives need.
        return ops.scatter_update(x, (k * chunk_size + ops.arange(chunk_size))[:, None], block)

    def pad(x):
        return ops.concatenate([x, ops.zeros((rest, groups), dtype=x.dtype)])

    def forward(pos, neg):
        pos = pad(pos)

        def body(k, sums):
            return write(sums, k, _softplus_sums(block_of(pos, k), neg))

        return ops.fori_loop(0, steps, body, ops.zeros_like(pos))[:rows]

    def backward(pos, neg, upstream):
        pos, upstream = pad(pos), pad(upstream)

        def body(k, grads):
            pos_grad, neg_grad = grads
            slopes = ops.sigmoid(_differences(block_of(pos, k), neg))
            slopes = slopes * block_of(upstream, k)[:, :, None]
            pos_grad = write(pos_grad, k, -ops.sum(slopes, axis=-1))
            return pos_grad, neg_grad + ops.sum(slopes, axis=0)

        start = ops.zeros_like(pos), ops.zeros_like(neg)
        pos_grad, neg_grad = ops.fori_loop(0, steps, body, start)
        return pos_grad[:rows], neg_grad

    @custom_gradient
    def sums_of(pos, neg):
        # Nothing in here may be recorded for a gradient: that would keep every block.
        sums = forward(ops.stop_gradient(pos), ops.stop_gradient(neg))
        return sums, lambda upstream: backward(pos, neg, upstream)

    return sums_of(pos, neg)
