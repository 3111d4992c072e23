"""What replicas of one training step exchange."""

from typing import Any

from keras_zoo import _backend


def all_gather(x: Any) -> Any:
    """Concatenates the tensors of all replicas along the first axis; differentiable.

    For losses that look at the whole batch under data parallelism. TensorFlow's
    `tf.distribute` replicas and torch's process groups see their own part of the batch each; JAX
    sees the whole batch in any case. Outside of replicas `x` comes back as it is.

    Args:
        x: tensor `(N, ...)`, of the same shape on every replica.

    Returns:
        Tensor `(replicas * N, ...)`.
    """
    return _backend.all_gather(x)
