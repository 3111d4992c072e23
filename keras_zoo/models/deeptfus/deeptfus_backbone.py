"""The network of DeepTFUS: a 3-D U-Net that knows where the transducer is."""

import keras
from keras_hub.models import Backbone

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag
from keras_zoo.layers import (
    DynamicDepthwiseConv3D,
    FeatureWiseModulation,
    GlobalTokenCrossAttention3D,
    PointSetEncoder,
)
from keras_zoo.models._presets import PresetMixin
from keras_zoo.models.deeptfus.deeptfus_layers import Conv3D, TrilinearUpsampling3D

LARGEST_GROUPS = (8, 4, 2, 1)


@component(paper="deeptfus")
class DeepTFUSBackbone(PresetMixin, Backbone):
    """U-Net of volumes, every level of which is told where the points of a transducer are.

    With `z` the token of the points by a `PointSetEncoder`, level `i` of `L` has `filters[i]`
    channels and sides `2^i` times smaller; GN is group normalisation (8, 4, 2 or 1 groups, the
    most that divide the channels):

        block(x)   = gelu(GN(conv3x3x3(x)))
        encoder_i  = dynamic(block(dynamic(block(x)))), then attention if i in attention_levels
        decoder_i  = film(block(block([up(x), skip_i])))          i = L - 2 .. 0

    `dynamic` is a `DynamicDepthwiseConv3D`, `attention` a `GlobalTokenCrossAttention3D`, `film` a
    `FeatureWiseModulation`, all led by `z`; they start as the identity. Levels are joined by
    average pooling, and by trilinear doubling on the way back.

    Args:
        image_shape: `(depth, height, width, channels)`. Sides are multiples of `2^(L - 1)`, or
            None for any such.
        filters: positive ints, one a level.
        units: int, width of `z`.
        num_frequencies: int; see `FourierPositionEncoding`.
        kernel_size: odd int; see `DynamicDepthwiseConv3D`.
        num_heads: int; halved until it divides a level's channels.
        attention_levels: ints from 0 to `L - 1`, each once; may be empty.
        use_dynamic_convolution: bool.
        use_film: bool. Without any of these three the points do nothing: a plain U-Net.
        bidirectional: bool; see `GlobalTokenCrossAttention3D`.
        dtype: dtype or policy of all layers.
        **kwargs: `name`, `trainable` of `keras.Model`.

    Inputs: dict of `images` `(B, D, H, W, channels)`, such as CT scaled to [0, 1], and
    `transducer_points` `(B, N, 3)`, voxel indices scaled to [-1, 1] along each axis, any `N >= 1`.
    Output: `(B, D, H, W, filters[0])`.

    `from_preset(name, image_shape=(64, 64, 96, 1))` loads a preset for images of another size.

    Raises:
        ValueError: an argument is out of its range; an image has a side that the levels cannot
            halve.

    Example:
    >>> backbone = keras_zoo.models.DeepTFUSBackbone(
    ...     (16, 16, 16, 1), filters=(8, 16), units=32, attention_levels=(1,))
    >>> points = np.random.uniform(-1, 1, (2, 128, 3))
    >>> x = {"images": np.zeros((2, 16, 16, 16, 1)), "transducer_points": points}
    >>> tuple(backbone(x).shape)
    (2, 16, 16, 16, 8)

    Reference: arXiv:2505.12998, section 3.2. No official code of the network is public; what the
    paper leaves open is ours: filters, kernel size, heads, frequencies.
    """

    def __init__(
        self,
        image_shape=(64, 64, 64, 1),
        filters=(16, 32, 64, 128),
        units=128,
        num_frequencies=8,
        kernel_size=3,
        num_heads=4,
        attention_levels=(1, 2, 3),
        use_dynamic_convolution=True,
        use_film=True,
        bidirectional=True,
        dtype=None,
        **kwargs,
    ):
        filters = _checked_filters(filters)
        image_shape = _checked_image_shape(image_shape, 2 ** (len(filters) - 1))
        attention_levels = _checked_levels(attention_levels, len(filters))
        num_heads = check_count("num_heads", num_heads)
        use_dynamic_convolution = check_flag("use_dynamic_convolution", use_dynamic_convolution)
        use_film = check_flag("use_film", use_film)
        bidirectional = check_flag("bidirectional", bidirectional)
        # Check their arguments before anything is made.
        encoder = PointSetEncoder(units, num_frequencies, dtype=dtype, name="point_encoder")
        kernel_size = DynamicDepthwiseConv3D(kernel_size).kernel_size

        # === Functional model ===
        images = keras.Input(image_shape, name="images")
        points = keras.Input((None, 3), name="transducer_points")
        led = use_dynamic_convolution or use_film or attention_levels
        token = encoder(points) if led else None
        # On CPUs torch does not pool volumes of half precision.
        double = keras.dtype_policies.get(dtype).compute_dtype == "float64"
        full_precision = "float64" if double else "float32"
        x, skips = images, []
        for level, width in enumerate(filters):
            if level:
                skips.append(x)
                pool = keras.layers.AveragePooling3D(
                    2, data_format="channels_last", dtype=full_precision, name=f"pool_{level}"
                )
                x = pool(x)
            for step in (1, 2):
                x = _block(x, width, dtype, f"encoder_{level}", step)
                if use_dynamic_convolution:
                    dynamic = DynamicDepthwiseConv3D(
                        kernel_size, dtype=dtype, name=f"encoder_{level}_dynamic_{step}"
                    )
                    x = dynamic([x, token])
            if level in attention_levels:
                attention = GlobalTokenCrossAttention3D(
                    _heads(num_heads, width),
                    bidirectional,
                    dtype=dtype,
                    name=f"encoder_{level}_attention",
                )
                x = attention([x, token])
        for level in reversed(range(len(filters) - 1)):
            x = TrilinearUpsampling3D(dtype=dtype, name=f"decoder_{level}_up")(x)
            join = keras.layers.Concatenate(dtype=dtype, name=f"decoder_{level}_join")
            x = join([x, skips[level]])
            for step in (1, 2):
                x = _block(x, filters[level], dtype, f"decoder_{level}", step)
            if use_film:
                film = FeatureWiseModulation(dtype=dtype, name=f"decoder_{level}_film")
                x = film([x, token])
        inputs = {"images": images, "transducer_points": points}
        super().__init__(inputs, x, dtype=dtype, **kwargs)

        # === Config ===
        self.image_shape = image_shape
        self.filters = filters
        self.units = encoder.units
        self.num_frequencies = encoder.num_frequencies
        self.kernel_size = kernel_size
        self.num_heads = num_heads
        self.attention_levels = attention_levels
        self.use_dynamic_convolution = use_dynamic_convolution
        self.use_film = use_film
        self.bidirectional = bidirectional

    def call(self, inputs, training=None, mask=None):
        """The features of each voxel."""
        if isinstance(inputs, dict) and "images" in inputs:
            check_sides("images", inputs["images"].shape[1:4], self.stride)
        return super().call(inputs, training=training, mask=mask)

    @property
    def stride(self):
        """What the sides of images must be multiples of."""
        return 2 ** (len(self.filters) - 1)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "image_shape": list(self.image_shape),
            "filters": list(self.filters),
            "units": self.units,
            "num_frequencies": self.num_frequencies,
            "kernel_size": self.kernel_size,
            "num_heads": self.num_heads,
            "attention_levels": list(self.attention_levels),
            "use_dynamic_convolution": self.use_dynamic_convolution,
            "use_film": self.use_film,
            "bidirectional": self.bidirectional,
        }


def _block(x, filters, dtype, name, step):
    """Convolution, norm, GELU."""
    kwargs = {"dtype": dtype}
    x = Conv3D(
        filters,
        3,
        padding="same",
        data_format="channels_last",
        name=f"{name}_conv_{step}",
        **kwargs,
    )(x)
    groups = next(g for g in LARGEST_GROUPS if filters % g == 0)
    x = keras.layers.GroupNormalization(
        groups, axis=-1, epsilon=1e-5, name=f"{name}_norm_{step}", **kwargs
    )(x)
    return keras.layers.Activation("gelu", name=f"{name}_gelu_{step}", **kwargs)(x)


def _heads(num_heads, channels):
    """The heads, halved until they divide the channels."""
    while channels % num_heads:
        num_heads //= 2
    return num_heads


def check_sides(name, sides, stride):
    """Raises unless all sides that are known are multiples of `stride`."""
    if any(side is not None and (side < 1 or side % stride) for side in sides):
        raise ValueError(
            f"`{name}` must have sides that are multiples of {stride}, which the levels of "
            f"`filters` halve {stride.bit_length() - 1} times. Received: sides {tuple(sides)}"
        )


def _checked_filters(filters):
    if not isinstance(filters, (list, tuple)) or not filters:
        raise ValueError(f"`filters` must be positive integers. Received: filters={filters!r}")
    return tuple(check_count("filters", width) for width in filters)


def _checked_image_shape(image_shape, stride):
    listed = isinstance(image_shape, (list, tuple)) and len(image_shape) == 4
    if not listed or image_shape[3] is None:
        raise ValueError(
            "`image_shape` must be `(depth, height, width, channels)` with a known number of "
            f"channels. Received: image_shape={image_shape!r}"
        )
    image_shape = tuple(
        None if side is None else check_count("image_shape", side) for side in image_shape
    )
    check_sides("image_shape", image_shape[:3], stride)
    return image_shape


def _checked_levels(levels, count):
    listed = isinstance(levels, (list, tuple)) and all(
        isinstance(level, int) and not isinstance(level, bool) and 0 <= level < count
        for level in levels
    )
    if not listed or len(set(levels)) < len(levels):
        raise ValueError(
            f"`attention_levels` must be ints from 0 to {count - 1}, the levels of `filters`, each "
            f"once. Received: attention_levels={levels!r}"
        )
    return tuple(levels)
