"""The network of DnCNN: from a noisy image to its noise."""

import numbers

import keras
from keras_hub.models import Backbone

from keras_zoo._catalog import component
from keras_zoo.layers import WeightedConv2D
from keras_zoo.models._presets import PresetMixin


@component(paper="weighted-conv")
class DnCNNBackbone(PresetMixin, Backbone):
    """Stack of weighted convolutions that maps a noisy image to an estimate of its noise.

    With `L = num_layers`, `conv` weighted convolutions with "same" padding, `C` channels:

        h_1     = relu(conv(x) + b)                                (H, W, filters)
        h_l     = relu(norm(conv(h_{l-1})))     l = 2 .. L-1       (H, W, filters)
        noise   = conv(h_{L-1}) + b                                (H, W, C)

    The estimate at a pixel depends on the `L (k - 1) / 2` pixels around it on each side,
    `receptive_radius`. `DnCNNDenoiser` subtracts the noise from the image.

    Args:
        num_layers: int, at least 2. Number of convolutions `L`.
        filters: int. Channels between them.
        kernel_size: odd int `k`.
        density: `(k - 1) / 2` numbers, outermost ring first; None for the default of
            `WeightedConv2D`. Ones make all convolutions plain ones.
        density_trainable: bool. Whether each convolution trains its density.
        density_lr_multiplier: positive float; see `WeightedConv2D`.
        use_batch_norm: bool. Whether the middle convolutions are followed by batch normalisation,
            as in DnCNN's own paper, in place of a bias.
        kernel_initializer: start of the raw kernels; None for that of `WeightedConv2D`.
        image_shape: `(height, width, channels)`, None for sides of any length.
        dtype: dtype or policy of all layers.
        **kwargs: `name`, `trainable` of `keras.Model`.

    Inputs: `(batch, height, width, channels)`, floats in [0, 1].
    Output: the noise, of the same shape.

    Raises:
        ValueError: `num_layers` below 2, an `image_shape` that is not three numbers with a known
            last one, and what `WeightedConv2D` raises.

    Example:
    >>> backbone = keras_zoo.models.DnCNNBackbone(num_layers=5, filters=16, kernel_size=7)
    >>> backbone(keras.random.uniform((1, 64, 48, 1))).shape
    (1, 64, 48, 1)

    Reference: arXiv:2505.24558 (weighted convolutions in DnCNN); arXiv:1608.03981 (DnCNN).
    Differs from the latter: `num_layers`, `filters` and `kernel_size` are free (17 or 20 layers of
    64 filters of size 3 there), and the last convolution has a bias.
    """

    def __init__(
        self,
        num_layers=17,
        filters=64,
        kernel_size=3,
        density=None,
        density_trainable=False,
        density_lr_multiplier=1.0,
        use_batch_norm=True,
        kernel_initializer=None,
        image_shape=(None, None, 1),
        dtype=None,
        **kwargs,
    ):
        if (
            isinstance(num_layers, bool)
            or not isinstance(num_layers, numbers.Integral)
            or num_layers < 2
        ):
            raise ValueError(
                f"`num_layers` must be an int of at least 2. Received: num_layers={num_layers!r}"
            )
        if (
            not isinstance(image_shape, (list, tuple))
            or len(image_shape) != 3
            or image_shape[2] is None
        ):
            raise ValueError(
                "`image_shape` must be `(height, width, channels)` with a known number of "
                f"channels. Received: image_shape={image_shape!r}"
            )
        # Checks the arguments before anything is made, and fills in the default density.
        probe = WeightedConv2D(filters, kernel_size, density, density_trainable)
        initializer = keras.initializers.get(kernel_initializer)

        # === Layers ===
        def conv(index, filters, use_bias):
            return WeightedConv2D(
                filters,
                kernel_size,
                density=density,
                density_trainable=density_trainable,
                density_lr_multiplier=density_lr_multiplier,
                padding="same",
                data_format="channels_last",
                use_bias=use_bias,
                # An initializer draws the same numbers whenever it is used again.
                kernel_initializer=None if initializer is None else initializer.clone(),
                dtype=dtype,
                name=f"conv_{index}",
            )

        channels = image_shape[2]
        middle = range(2, num_layers)
        convs = [
            conv(1, filters, True),
            *(conv(i, filters, not use_batch_norm) for i in middle),
            conv(num_layers, channels, True),
        ]
        norms = {
            i: keras.layers.BatchNormalization(axis=-1, dtype=dtype, name=f"norm_{i}")
            for i in middle
            if use_batch_norm
        }

        # === Functional model ===
        inputs = keras.Input(image_shape, name="images")
        x = inputs
        for i, layer in enumerate(convs[:-1], start=1):
            x = layer(x)
            if i in norms:
                x = norms[i](x)
            x = keras.layers.ReLU(dtype=dtype, name=f"relu_{i}")(x)
        super().__init__(inputs, convs[-1](x), dtype=dtype, **kwargs)

        # === Config ===
        self.num_layers = int(num_layers)
        self.filters = probe.filters
        self.kernel_size = probe.kernel_size[0]
        self.density = density if density is None else tuple(float(d) for d in density)
        self.density_trainable = probe.density_trainable
        self.density_lr_multiplier = float(density_lr_multiplier)
        self.use_batch_norm = bool(use_batch_norm)
        self.kernel_initializer = initializer
        self.image_shape = tuple(image_shape)

    @property
    def receptive_radius(self):
        """How many pixels away from an output its farthest input lies."""
        return self.num_layers * (self.kernel_size - 1) // 2

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "density": None if self.density is None else list(self.density),
            "density_trainable": self.density_trainable,
            "density_lr_multiplier": self.density_lr_multiplier,
            "use_batch_norm": self.use_batch_norm,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)
            if self.kernel_initializer
            else None,
            "image_shape": self.image_shape,
        }
