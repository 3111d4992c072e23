"""The features of DWFF-Net: a frozen vision transformer, seen at several depths."""

import keras
from keras import ops
from keras_hub.models import Backbone

from keras_zoo._catalog import PACKAGE, component
from keras_zoo._checks import check_choice, check_count, check_flag
from keras_zoo.layers.dynamic_weighted_fusion import (
    WEIGHTINGS,
    DynamicWeightedFusion,
    check_entropy_weight,
)
from keras_zoo.models._presets import PresetMixin

ENCODER_ATTRIBUTES = (
    "pyramid_outputs",
    "num_layers",
    "num_register_tokens",
    "patch_size",
    "image_shape",
)


@component(paper="dwff-net")
class DWFFNetBackbone(PresetMixin, Backbone):
    """Mixes features of several depths of a DINOv3 encoder, weighed anew for every image.

    With `P` the encoder's patch size, `h_0` its embeddings, `h_i` what its block `i` of `n` gives:

        x_l   = h_l as a map, without the class and register tokens     (H / P, W / P, hidden_dim)
        fused = DynamicWeightedFusion([x_l for l in feature_layers])    (H / P, W / P, F)

    The last level, `-1` or `n`, is taken behind the encoder's final norm, the others before it.

    Args:
        image_encoder: a `keras_hub.models.DINOV3Backbone`, such as
            `DINOV3Backbone.from_preset("dinov3_vit_large_lvd1689m", image_shape=(512, 512, 3))`, or
            another backbone with its attributes. Its `image_shape` must be fixed, with sides that
            are multiples of its patches; they need not be equal.
        feature_layers: ints: 0 for the embeddings, `i` for what block `i` gives, negative ones
            counted from the end. `(1, 8, 16, -1)` is the paper's choice for 24 blocks; one level
            alone is an ablation.
        fusion_filters: int `F`.
        entropy_weight: float >= 0; see `DynamicWeightedFusion`.
        freeze_encoder: bool. Whether the encoder is set to be not trainable, and always run as at
            inference. False leaves it as it is.
        fusion_weighting: "dynamic", "static" or "sum"; see `weighting` there.
        dtype: dtype or policy of the fusion. The encoder has its own; `from_preset(name,
            dtype="mixed_bfloat16")` sets both.
        **kwargs: `name`, `trainable` of `keras.Model`.

    Inputs: `(N, H, W, 3)`, or `(N, 3, H, W)` if the encoder reads such.
    Output: `(N, H / P, W / P, F)`.

    `image_encoder` is the encoder, `level_weights` the symbolic weights `(N, L)`: a
    `keras.Model(backbone.input, backbone.level_weights)` shows what an image makes of them.
    `from_preset(name, image_shape=(256, 384, 3))` loads a preset for images of another size.

    Raises:
        ValueError: an argument is out of its range; the encoder lacks what is needed, its image
            size is not fixed or no multiple of its patches; it has no such level.

    Example:
    >>> encoder = keras_hub.models.DINOV3Backbone(
    ...     patch_size=16, num_layers=4, hidden_dim=64, num_heads=4, intermediate_dim=128,
    ...     image_shape=(64, 96, 3))
    >>> backbone = keras_zoo.models.DWFFNetBackbone(encoder, (1, 3, -1), fusion_filters=32)
    >>> tuple(backbone(np.zeros((2, 64, 96, 3))).shape)
    (2, 4, 6, 32)

    Reference: arXiv:2511.11659; github.com/sysau/DWFF-Net. Differs from the official code: none.
    """

    def __init__(
        self,
        image_encoder,
        feature_layers=(1, 8, 16, -1),
        fusion_filters=512,
        entropy_weight=0.01,
        freeze_encoder=True,
        fusion_weighting="dynamic",
        dtype=None,
        **kwargs,
    ):
        grid, data_format = _checked_grid(image_encoder)
        levels = _checked_levels(feature_layers, image_encoder.num_layers)
        fusion_filters = check_count("fusion_filters", fusion_filters)
        freeze_encoder = check_flag("freeze_encoder", freeze_encoder)
        check_choice("fusion_weighting", fusion_weighting, WEIGHTINGS)
        check_entropy_weight(entropy_weight, fusion_weighting)
        if freeze_encoder:
            image_encoder.trainable = False
        # A model is trainable anyway; to be told so would thaw the encoder.
        if kwargs.get("trainable"):
            kwargs.pop("trainable")

        # === Layers ===
        feature_extractor = FeatureExtractor(
            image_encoder.input,
            [_level_output(image_encoder, level) for level in levels],
            name="feature_extractor",
        )
        feature_extractor.frozen = freeze_encoder
        to_map = TokensToMap(grid, dtype=dtype, name="tokens_to_map")
        fusion = DynamicWeightedFusion(
            fusion_filters,
            entropy_weight=entropy_weight,
            return_weights=True,
            data_format="channels_last",
            weighting=fusion_weighting,
            dtype=dtype,
            name="fusion",
        )

        # === Functional model ===
        images = keras.Input(image_encoder.image_shape, name="images")
        inputs = image_encoder.input
        inputs = dict.fromkeys(inputs, images) if isinstance(inputs, dict) else images
        tokens = keras.tree.flatten(feature_extractor(inputs))
        fused, level_weights = fusion([to_map(x) for x in tokens])
        super().__init__(images, fused, dtype=dtype, **kwargs)

        # === Config ===
        self.image_encoder = image_encoder
        self.feature_layers = tuple(int(level) for level in feature_layers)
        self.fusion_filters = fusion_filters
        self.entropy_weight = entropy_weight
        self.freeze_encoder = freeze_encoder
        self.fusion_weighting = fusion_weighting
        self.patch_size = image_encoder.patch_size
        self.image_shape = tuple(image_encoder.image_shape)
        self.data_format = data_format
        self.level_weights = level_weights

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "image_encoder": keras.saving.serialize_keras_object(self.image_encoder),
            "feature_layers": list(self.feature_layers),
            "fusion_filters": self.fusion_filters,
            "entropy_weight": self.entropy_weight,
            "freeze_encoder": self.freeze_encoder,
            "fusion_weighting": self.fusion_weighting,
        }

    @classmethod
    def from_config(cls, config):
        """Makes the backbone from `get_config`, or of another `image_shape` or `dtype`.

        keras-hub hands on what `from_preset` is given: an `image_shape`, and a `dtype` that is not
        the dict that `get_config` writes. Both are then for the encoder too.
        """
        config = dict(config)
        image_shape, dtype = config.pop("image_shape", None), config.get("dtype")
        encoder = config["image_encoder"]
        if isinstance(encoder, dict):
            inner = dict(encoder["config"])
            if image_shape is not None:
                inner["image_shape"] = list(image_shape)
            if dtype is not None and not isinstance(dtype, dict):
                inner["dtype"] = keras.dtype_policies.get(dtype).name
            encoder = keras.saving.deserialize_keras_object({**encoder, "config": inner})
        return super().from_config({**config, "image_encoder": encoder})


@keras.saving.register_keras_serializable(package=PACKAGE)
class FeatureExtractor(keras.Model):
    """A functional model that runs as at inference where it is `frozen`, whatever it is told."""

    frozen = False

    def call(self, inputs, training=None, mask=None):
        """The outputs."""
        return super().call(inputs, training=False if self.frozen else training, mask=mask)


@keras.saving.register_keras_serializable(package=PACKAGE)
class TokensToMap(keras.layers.Layer):
    """The last `h * w` tokens of a sequence as a map: `(N, T, C)` to `(N, h, w, C)`.

    Args:
        grid: `(h, w)`.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.
    """

    def __init__(self, grid, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    def call(self, inputs):
        """The map."""
        patches = inputs[:, -self.grid[0] * self.grid[1] :, :]
        return ops.reshape(patches, (-1, *self.grid, inputs.shape[-1]))

    # The number of tokens that DINOv3 announces is wrong for images that are not square.
    def compute_output_shape(self, input_shape):
        """`(N, h, w, C)`."""
        return (input_shape[0], *self.grid, input_shape[-1])

    def compute_output_spec(self, inputs):
        """Likewise, without a look at the tokens."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "grid": list(self.grid)}


def _checked_grid(encoder):
    """Patches along height and width, and the encoder's data format."""
    missing = [name for name in ENCODER_ATTRIBUTES if not hasattr(encoder, name)]
    if missing:
        raise ValueError(
            "`image_encoder` must be a DINOV3Backbone, or have its attributes; it lacks "
            f"{missing}. Received: image_encoder={encoder!r}"
        )
    embeddings = getattr(encoder, "embeddings", None)
    data_format = getattr(embeddings, "data_format", keras.config.image_data_format())
    shape, patch = tuple(encoder.image_shape), encoder.patch_size
    sides = shape[:2] if data_format == "channels_last" else shape[1:]
    if any(side is None or side < patch or side % patch for side in sides):
        raise ValueError(
            f"`image_encoder` must have an `image_shape` whose sides are multiples of {patch}, its "
            f"patch size. Received: image_shape={shape}"
        )
    return tuple(side // patch for side in sides), data_format


def _checked_levels(feature_layers, num_layers):
    """The levels as ints from 0 to `num_layers`."""
    listed = isinstance(feature_layers, (list, tuple)) and len(feature_layers) > 0
    if not listed or any(
        isinstance(level, bool) or not isinstance(level, int) or not -num_layers <= level + 1
        or level > num_layers
        for level in feature_layers
    ):  # fmt: skip
        raise ValueError(
            f"`feature_layers` must be ints from {-num_layers - 1} to {num_layers}, for an encoder "
            f"of {num_layers} blocks. Received: feature_layers={feature_layers!r}"
        )
    return [level if level >= 0 else level + num_layers + 1 for level in feature_layers]


def _level_output(encoder, level):
    """The tokens of a level from 0 to `num_layers`."""
    if level == encoder.num_layers:
        return encoder.output
    return encoder.pyramid_outputs[f"stage{level}" if level else "stem"]
