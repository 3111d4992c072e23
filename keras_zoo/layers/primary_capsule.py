"""The first capsules of a network, from a convolution (Sabour et al., 2017)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_number
from keras_zoo.layers._composite import CompositeLayer
from keras_zoo.ops.squash import squash


@component(paper="weighted-capsnet")
class PrimaryCapsule(CompositeLayer):
    """Cuts what a convolution finds at each position into short vectors, squashed.

    A convolution without activation has `num_channels capsule_dim` filters, of which filter
    `channel capsule_dim + d` gives component `d` of a channel's capsule. Capsules are in the order
    of positions, row by row, and at each of them in that of the channels:

        u[position num_channels + channel] = squash(conv(x)[position, channel])

    Args:
        num_channels: int. Capsules at each position.
        capsule_dim: int. Components of each.
        kernel_size: int, or one int for each dimension of the positions.
        strides: likewise.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for
            `keras.config.image_data_format()`. The order of the capsules is the same.
        kernel_initializer: initializer of the convolution's kernel.
        epsilon: float > 0; see `keras_zoo.ops.squash`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. Lengths are worked out in
            float32 at least.

    Inputs: sequences `(B, T, F)` or images `(B, H, W, F)`; `(B, F, T)` or `(B, F, H, W)` where
    channels come first. TensorFlow has no such convolutions on a CPU outside of XLA.
    Output: `(B, positions num_channels, capsule_dim)`. A sequence's mask goes on, each position's
    to all of its capsules, where `padding="same"` and `strides=1`; otherwise there is none.

    Weights: `conv/kernel` and `conv/bias`.

    Raises:
        ValueError: an argument is out of its range; the inputs are of another rank, or have an
            unknown number of features.

    Example:
    >>> layer = keras_zoo.layers.PrimaryCapsule(8, capsule_dim=4, kernel_size=3, padding="same")
    >>> tuple(layer(keras.random.normal((2, 10, 16))).shape)
    (2, 80, 4)

    Reference: arXiv:1710.09829, section 4. Differs from the authors' code: sequences, padding and
    masks; the bias is in the convolution, as it is there.
    """

    def __init__(
        self,
        num_channels,
        capsule_dim,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        kernel_initializer="glorot_uniform",
        epsilon=1e-7,
        **kwargs,
    ):
        num_channels = check_count("num_channels", num_channels)
        capsule_dim = check_count("capsule_dim", capsule_dim)
        kernel_size = _checked_sizes("kernel_size", kernel_size)
        strides = _checked_sizes("strides", strides)
        check_choice("padding", padding, ("valid", "same"))
        if data_format is None:
            data_format = keras.config.image_data_format()
        check_choice("data_format", data_format, ("channels_last", "channels_first"))
        check_number("epsilon", epsilon, positive=True)
        super().__init__(**kwargs)
        self.num_channels = num_channels
        self.capsule_dim = capsule_dim
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.data_format = data_format
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape):
        """Makes the convolution."""
        if len(input_shape) not in (3, 4) or input_shape[self._features_axis] is None:
            raise ValueError(
                "The inputs must be sequences `(B, T, F)` or images `(B, H, W, F)` with a known F, "
                f"which comes second where channels come first. Received: shape {input_shape}"
            )
        conv = keras.layers.Conv1D if len(input_shape) == 3 else keras.layers.Conv2D
        self._conv = conv(
            self.num_channels * self.capsule_dim,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            kernel_initializer=self.kernel_initializer,
            dtype=self.sublayer_dtype,
            name="conv",
        )
        self._conv.build(input_shape)

    @property
    def _features_axis(self):
        return 1 if self.data_format == "channels_first" else -1

    def call(self, inputs):
        """The capsules."""
        x = self._conv(inputs)
        if self.data_format == "channels_first":
            x = ops.moveaxis(x, 1, -1)
        capsules = ops.reshape(x, (ops.shape(x)[0], -1, self.capsule_dim))
        return squash(capsules, epsilon=self.epsilon)

    def compute_mask(self, inputs, previous_mask):
        """That of the positions, for each of their capsules."""
        one_each = self.padding == "same" and self.strides in (1, (1,))
        if previous_mask is None or len(inputs.shape) != 3 or not one_each:
            return None
        return ops.repeat(previous_mask, self.num_channels, axis=1)

    def compute_output_shape(self, input_shape):
        """`(B, positions num_channels, capsule_dim)`."""
        shape = list(input_shape)
        sides = shape[2:] if self.data_format == "channels_first" else shape[1:-1]
        capsules = self.num_channels
        for i, side in enumerate(sides):
            size, stride = (
                value if isinstance(value, int) else value[i]
                for value in (self.kernel_size, self.strides)
            )
            if side is None:
                capsules = None
                break
            room = side if self.padding == "same" else side - size + 1
            capsules *= -(-room // stride)
        return (input_shape[0], capsules, self.capsule_dim)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "num_channels": self.num_channels,
            "capsule_dim": self.capsule_dim,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **own}


def _checked_sizes(name, value):
    """A positive int, or a tuple of one or two."""
    if isinstance(value, (list, tuple)):
        if len(value) not in (1, 2):
            raise ValueError(
                f"`{name}` must be a positive integer, or one or two of them. "
                f"Received: {name}={value!r}"
            )
        return tuple(check_count(name, size) for size in value)
    return check_count(name, value)
