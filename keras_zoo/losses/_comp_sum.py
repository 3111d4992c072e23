"""What the comp-sum losses, and the trainer that attacks one of them, share."""

from keras import ops


def comp_sum(labels, logits, tau):
    """`Phi^tau( sum_{k != y} exp(h_k - h_y) )`, `(N,)`.

    Args:
        labels: int32 `(N,)`, all of them classes.
        logits: `(N, K)`.
        tau: float >= 0.
    """
    # log(1 + sum) = -log p_y. It takes the largest logit out first, and cannot round below 0.
    v = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    # expm1, since near tau = 1 the difference of a power and 1 would lose its digits.
    return v if tau == 1 else ops.expm1((1 - tau) * v) / (1 - tau)


def margin_distance(labels, logits, others):
    """Length of the difference of two vectors of margins `h_y - h_k`, `(N,)`.

    Args:
        labels: int32 `(N,)`, all of them classes.
        logits: `(N, K)`.
        others: `(N, K)`.
    """
    moved = others - logits
    difference = ops.take_along_axis(moved, labels[:, None], axis=1) - moved
    # Where the two agree a bare root would have no derivative.
    return ops.sqrt(ops.sum(ops.square(difference), axis=-1) + 1e-12)
