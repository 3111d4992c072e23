"""What the losses over pairs of examples share: masked sums, soft labels, loops over rows."""

from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo.ops import input_gradient, masked_logsumexp
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import pair_masks


def masked_sum(x, mask):
    """Sum of the selected entries of each row."""
    return ops.sum(ops.where(mask, x, 0.0), axis=-1)


def count(mask, dtype):
    """How many entries each row selects, 1 for none, as something to divide by."""
    return ops.maximum(ops.sum(ops.cast(mask, dtype), axis=-1), 1.0)


def masked_softmax(x, mask):
    """Softmax over the selected entries of each row; 0 elsewhere and in rows that select none."""
    x = ops.where(mask, x, LOWEST)
    e = ops.where(mask, ops.exp(x - ops.amax(x, axis=-1, keepdims=True)), ops.zeros_like(x))
    return e / ops.maximum(ops.sum(e, axis=-1, keepdims=True), 1.0)


def join_weights(pos, neg, pos_weight, neg_weight):
    """One matrix of the weights of positive and of negative pairs, 0 elsewhere."""
    zero = ops.zeros((), dtype=pos_weight.dtype)
    return ops.where(pos, pos_weight, ops.where(neg, neg_weight, zero))


def check_soft(S, label, mask):
    """`(S, label, mask)` as tensors: float `(A, V)`, float that broadcasts to it, bool `(A, V)`."""
    S = ops.convert_to_tensor(S)
    label = ops.cast(label, S.dtype)
    if mask is None:
        return S, label, ops.ones_like(S, dtype="bool")
    return S, label, ops.broadcast_to(ops.cast(mask, "bool"), ops.shape(S))


def soft_logsumexp(x, weight, mask, floor=None):
    """`log(exp(floor) + sum weight exp(x))` over the selected entries with a weight above 0."""
    # A weight of NaN counts, so that it shows.
    counts = ops.logical_not(weight <= 0)
    x = x + ops.log(ops.where(counts, weight, ops.ones_like(weight)))
    return masked_logsumexp(x, ops.logical_and(mask, counts), floor=floor)


def losses_in_chunks(block_loss, x, chunk_size):
    """`block_loss` of all rows of `x`, where no more than some of them are worked on at a time.

    Each block is worked out again when its gradient is asked for, and nothing of it is kept.

    Args:
        block_loss: function `(x, rows)` to `(R,)`, the losses of the rows whose numbers `rows` are
            int32 `(R,)`. It may use all of `x`; whatever else it uses is a constant.
        x: float tensor `(N, ...)`, what the gradient is taken of.
        chunk_size: function of `N` to the rows in a block, either an int or a scalar int tensor.

    Returns:
        `(N,)`.
    """

    def sizes(x):
        """Rows, rows in a block, blocks: anew for the gradient, since XLA wants to see them."""
        n = ops.shape(x)[0]
        size = chunk_size(n)
        return n, size, (n + size - 1) // size

    def forward(x):
        n, size, steps = sizes(x)

        def body(k, losses):
            # The last block repeats the last row where rows run out.
            rows = ops.minimum(k * size + ops.arange(size), n - 1)
            return ops.slice_update(losses, (k * size,), block_loss(x, rows))

        return ops.fori_loop(0, steps, body, ops.zeros((steps * size,), dtype=x.dtype))[:n]

    def backward(x, upstream):
        n, size, steps = sizes(x)
        rest = ops.zeros((steps * size - n,), dtype=upstream.dtype)
        upstream = ops.concatenate([upstream, rest])

        def body(k, grad):
            index = k * size + ops.arange(size)
            rows, real = ops.minimum(index, n - 1), index < n
            u = ops.slice(upstream, (k * size,), (size,))
            u = ops.where(real, u, ops.zeros_like(u))
            return grad + input_gradient(lambda x: u * block_loss(x, rows), x, create_graph=True)

        return ops.fori_loop(0, steps, body, ops.zeros_like(x))

    @custom_gradient
    def losses_of(x):
        # Nothing in here may be recorded for a gradient: that would keep every block.
        return forward(ops.stop_gradient(x)), lambda upstream: backward(x, upstream)

    return losses_of(x)


def row_losses_in_chunks(row_loss, features, labels, chunk_size):
    """`row_loss` of each row of `S = F F^T`, where no more than some rows of S exist at a time.

    Args:
        row_loss: function `(S, pos, neg)` to `(R,)`, for blocks `(R, N)`.
        features: `(N, D)`.
        labels: `(N,)`.
        chunk_size: int, rows in a block.

    Returns:
        `(N,)`.
    """

    def block_loss(features, rows):
        similarities = ops.matmul(ops.take(features, rows, axis=0), ops.transpose(features))
        return row_loss(similarities, *pair_masks(ops.take(labels, rows, axis=0), rows, labels))

    return losses_in_chunks(block_loss, features, lambda n: chunk_size)
