"""Capsules that others agree on (Sabour et al., 2017)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag, check_number
from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.squash import squash


@component(paper="weighted-capsnet")
class Capsule(keras.layers.Layer):
    """Routes input capsules to output capsules, each to those that the others agree on with it.

    Input capsule `u_n` `(I,)` votes for output capsule `j` by `w_jn = u_n W_jn` `(O,)`:

        b_jn = 0
        routings times:
            c_n = softmax_j(b_jn)                     what input n gives to each output
            v_j = squash(sum_n c_jn w_jn + bias_j)    over the inputs that the mask lets in
            b_jn <- b_jn + v_j . w_jn                 not after the last

    The gradient passes through all of it. `routings=1` gives each output the same share.

    Args:
        num_capsules: int, the outputs.
        capsule_dim: int `O`.
        routings: int.
        share_weights: bool. Whether all inputs have one `W_j`: for any number of inputs.
        use_bias: bool.
        kernel_initializer: initializer of `W`.
        epsilon: float > 0; see `keras_zoo.ops.squash`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. Routing is worked out in
            float32 at least.

    Call: `layer(u, mask=None)`, `u` `(B, N, I)` and `mask` bool `(B, N)`, True for what counts.
    What a masked capsule holds does not matter; where all are masked the outputs are 0 without a
    bias.
    Output: `(B, num_capsules, capsule_dim)`.

    Weights: `kernel` `(num_capsules, N, I, O)`, or `(num_capsules, I, O)` if shared; `bias`
    `(num_capsules, O)`.

    Raises:
        ValueError: an argument is out of its range; the inputs are no `(B, N, I)` with a known I,
            and a known N unless weights are shared; the mask is not `(B, N)`.

    Example:
    >>> layer = keras_zoo.layers.Capsule(num_capsules=10, capsule_dim=16)
    >>> tuple(layer(keras.random.normal((2, 32, 8))).shape)
    (2, 10, 16)

    Reference: arXiv:1710.09829, procedure 1. Differs from the authors' code: none with `use_bias`
    and a truncated normal initializer of deviation 0.1; masks and shared weights are added.
    """

    def __init__(
        self,
        num_capsules,
        capsule_dim,
        routings=3,
        share_weights=False,
        use_bias=False,
        kernel_initializer="glorot_uniform",
        epsilon=1e-7,
        **kwargs,
    ):
        num_capsules = check_count("num_capsules", num_capsules)
        capsule_dim = check_count("capsule_dim", capsule_dim)
        routings = check_count("routings", routings)
        check_flag("share_weights", share_weights)
        check_flag("use_bias", use_bias)
        check_number("epsilon", epsilon, positive=True)
        super().__init__(**kwargs)
        self.num_capsules = num_capsules
        self.capsule_dim = capsule_dim
        self.routings = routings
        self.share_weights = share_weights
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape):
        """Makes kernel and bias."""
        shape = tuple(input_shape)
        if len(shape) != 3 or shape[2] is None or (shape[1] is None and not self.share_weights):
            raise ValueError(
                "The inputs must be capsules `(B, N, I)` with a known I, and a known N unless "
                f"`share_weights`. Received: shape {shape}"
            )
        inputs = shape[2:] if self.share_weights else shape[1:]
        self.kernel = self.add_weight(
            (self.num_capsules, *inputs, self.capsule_dim), self.kernel_initializer, name="kernel"
        )
        if self.use_bias:
            outputs = (self.num_capsules, self.capsule_dim)
            self.bias = self.add_weight(outputs, "zeros", name="bias")

    def call(self, u, mask=None):
        """The output capsules."""
        votes = "bni,jio->bjno" if self.share_weights else "bni,jnio->bjno"
        votes = full_precision(ops.einsum(votes, u, self.kernel))
        if mask is not None:
            # A vote of nothing neither counts nor agrees with anything.
            votes = ops.where(_checked_mask(mask, u)[:, None, :, None], votes, 0.0)
        bias = full_precision(self.bias) if self.use_bias else 0.0
        # The first round, of equal shares.
        v = squash(ops.sum(votes, axis=2) / self.num_capsules + bias, epsilon=self.epsilon)
        agreement = 0.0
        for _ in range(self.routings - 1):
            agreement = agreement + ops.einsum("bjo,bjno->bjn", v, votes)
            shares = ops.softmax(agreement, axis=1)
            v = squash(ops.einsum("bjn,bjno->bjo", shares, votes) + bias, epsilon=self.epsilon)
        return ops.cast(v, self.compute_dtype)

    def compute_mask(self, inputs, previous_mask):
        """None: the outputs all count."""
        return None

    def compute_output_shape(self, input_shape):
        """`(B, num_capsules, capsule_dim)`."""
        return (input_shape[0], self.num_capsules, self.capsule_dim)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "num_capsules": self.num_capsules,
            "capsule_dim": self.capsule_dim,
            "routings": self.routings,
            "share_weights": self.share_weights,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **own}


def _checked_mask(mask, u):
    mask = ops.cast(mask, "bool")
    if len(mask.shape) != 2 or (
        None not in (mask.shape[1], u.shape[1]) and mask.shape[1] != u.shape[1]
    ):
        raise ValueError(
            "`mask` must be `(B, N)`, as the capsules are `(B, N, I)`. "
            f"Received: mask of shape {tuple(mask.shape)}, capsules of shape {tuple(u.shape)}"
        )
    return mask
