"""What the losses over pairs of examples share: masked sums, soft labels, loops over rows."""

from keras import ops

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
    """`(S, label, mask)` as tensors of the shape of S: float, float, bool."""
    S = ops.convert_to_tensor(S)
    label = ops.broadcast_to(ops.cast(label, S.dtype), ops.shape(S))
    if mask is None:
        return S, label, ops.ones_like(S, dtype="bool")
    return S, label, ops.broadcast_to(ops.cast(mask, "bool"), ops.shape(S))


def soft_logsumexp(x, weight, mask, floor=None):
    """`log(exp(floor) + sum weight exp(x))` over the selected entries with a weight above 0."""
    mask = ops.logical_and(mask, weight > 0)
    x = x + ops.log(ops.where(mask, weight, ops.ones_like(weight)))
    return masked_logsumexp(x, mask, floor=floor)


def row_losses_in_chunks(row_loss, features, labels, chunk_size):
    """`row_loss` of each row of `S = F F^T`, where no more than some rows of S exist at a time.

    The gradient is worked out row by row again when it is asked for: with `G = dL/dS`,
    `dL/dF = G F + G^T F`, which adds up over rows.

    Args:
        row_loss: function `(S, pos, neg)` to `(R,)`, for blocks `(R, N)`.
        features: `(N, D)`.
        labels: `(N,)`.
        chunk_size: int, rows in a block.

    Returns:
        `(N,)`.
    """
    n = ops.shape(features)[0]
    steps = (n + chunk_size - 1) // chunk_size

    def block(k, features):
        # The last block repeats the last row where rows run out.
        index = k * chunk_size + ops.arange(chunk_size)
        rows = ops.minimum(index, n - 1)
        row_features = ops.take(features, rows, axis=0)
        masks = pair_masks(ops.take(labels, rows, axis=0), rows, labels)
        similarities = ops.matmul(row_features, ops.transpose(features))
        return row_features, similarities, masks, index < n

    def forward(features):
        def body(k, losses):
            _, s, (pos, neg), _ = block(k, features)
            return ops.slice_update(losses, (k * chunk_size,), row_loss(s, pos, neg))

        losses = ops.zeros((steps * chunk_size,), dtype=features.dtype)
        return ops.fori_loop(0, steps, body, losses)[:n]

    def backward(features, upstream):
        upstream = ops.pad(upstream, (0, steps * chunk_size - n))

        def body(k, carry):
            row_grad, grad = carry
            rows, s, (pos, neg), real = block(k, features)
            g = input_gradient(lambda s: row_loss(s, pos, neg), s, create_graph=True)
            u = ops.slice(upstream, (k * chunk_size,), (chunk_size,))
            g = g * ops.where(real, u, ops.zeros_like(u))[:, None]
            row_grad = ops.slice_update(row_grad, (k * chunk_size, 0), ops.matmul(g, features))
            return row_grad, grad + ops.matmul(ops.transpose(g), rows)

        row_grad = ops.zeros((steps * chunk_size, features.shape[1]), dtype=features.dtype)
        row_grad, grad = ops.fori_loop(0, steps, body, (row_grad, ops.zeros_like(features)))
        return row_grad[:n] + grad

    @ops.custom_gradient
    def losses_of(features):
        def grad(*args, upstream=None):
            if upstream is None:
                return backward(features, args[0])
            return backward(args[0], upstream)

        # Nothing in here may be recorded for a gradient: that would keep every block.
        return forward(ops.stop_gradient(features)), grad

    return losses_of(features)
