"""Fusion of feature maps with weights that depend on the image (Zheng et al., 2025)."""

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_flag, check_number
from keras_zoo.layers._composite import CompositeLayer
from keras_zoo.layers._group_norm import group_norm

WEIGHTINGS = ("dynamic", "static", "sum")
SMALLEST_NORM = 1e-6
SMALLEST_TEMPERATURE = 1e-6
SMALLEST_WEIGHT = 1e-8


@component(paper="dwff-net")
class DynamicWeightedFusion(CompositeLayer):
    """Mixes equally sized feature maps, each weighed anew for every image.

    With `L` maps `x_l` `(H, W, C_l)`, `F = filters`, `h = hidden_units`, GN group normalisation:

        p_l   = relu(GN(conv1x1_l(x_l)))                                  (H, W, F)
        u_l   = g_l / (|g_l| + 1e-6),     g_l = mean of p_l over H, W     (F,)
        s     = W2 relu(W1 [u_1; ..; u_L]) + b2,   W1 (L F, h), W2 (h, L)
        tau   = softplus(temperature) + 1e-6
        w     = softmax(s / tau)                                          (L,)
        fused = sum_l w_l p_l                                             (H, W, F)

    Args:
        filters: int, channels `F` of the result.
        hidden_units: int `h`; None for `max(32, filters // 2)`.
        initial_temperature: float, start of the weight `temperature`, before the softplus: 1.0 is
            a `tau` of 1.3133.
        entropy_weight: float >= 0. How much the entropy of the weights, `-sum_l w_l log(w_l +
            1e-8)`, averaged over the batch, lowers the loss of the model: it keeps several levels
            in use. Dynamic weights alone have one.
        return_weights: bool. Whether to return `(fused, w)`.
        data_format: "channels_last" or "channels_first"; None for Keras's setting.
        weighting: "dynamic"; "static" for one learnt number a level, unconstrained, starting at
            `l / (1 + .. + L)` (.1, .2, .3, .4 for four levels); "sum" for weights of 1. The last
            two are what the dynamic weights are to be compared with.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. Norms and weights are
            computed in float32 at least.

    Inputs: list of `L >= 1` maps `(N, H, W, C_l)`, or `(N, C_l, H, W)`, of one size.
    Output: `(N, H, W, F)`, or `(N, F, H, W)`, and with `return_weights=True` weights `(N, L)` too.

    Weights: `projection_l/kernel` `(1, 1, C_l, F)`, `projection_norm_l/gamma` and `beta`, then
    `weight_hidden/kernel`, `weight_output/kernel`, `weight_output/bias` and `temperature`, or for
    static weights `level_weights` `(L,)`.

    A map whose ReLUs are all dead has `u_l = 0` and a finite gradient. One level has weight 1. NaN
    in a map gives NaN for its image alone.

    Raises:
        ValueError: an argument is out of its range; an entropy is asked of weights that are not
            dynamic; the inputs are not a list of maps of one size.

    Example:
    >>> maps = [keras.random.normal((2, 8, 8, channels)) for channels in (16, 32, 64)]
    >>> layer = keras_zoo.layers.DynamicWeightedFusion(64, return_weights=True)
    >>> [tuple(x.shape) for x in layer(maps)]
    [(2, 8, 8, 64), (2, 3)]

    Reference: arXiv:2511.11659; github.com/sysau/DWFF-Net. Differs from the official code, which
    has no groups for fewer than 32 filters: here there is one.
    """

    def __init__(
        self,
        filters=512,
        hidden_units=None,
        initial_temperature=1.0,
        entropy_weight=0.0,
        return_weights=False,
        data_format=None,
        weighting="dynamic",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = check_count("filters", filters)
        self.hidden_units = (
            None if hidden_units is None else check_count("hidden_units", hidden_units)
        )
        self.initial_temperature = check_number("initial_temperature", initial_temperature)
        self.weighting = check_choice("weighting", weighting, WEIGHTINGS)
        self.entropy_weight = check_entropy_weight(entropy_weight, weighting)
        self.return_weights = check_flag("return_weights", return_weights)
        formats = ("channels_last", "channels_first")
        if data_format is None:
            data_format = keras.config.image_data_format()
        self.data_format = check_choice("data_format", data_format, formats)

    def build(self, input_shape):
        """Makes the projections, and what the weights come from."""
        self._check_maps(input_shape)
        levels, policy = len(input_shape), {"dtype": self.sublayer_dtype}
        self._projections, self._norms = [], []
        for level, shape in enumerate(input_shape):
            # Channels last within: on a CPU, TensorFlow has no convolution of the other format.
            shape = (shape[0], None, None, shape[self._channels])
            conv = keras.layers.Conv2D(
                self.filters,
                1,
                use_bias=False,
                data_format="channels_last",
                name=f"projection_{level}",
                **policy,
            )
            conv.build(shape)
            norm = group_norm(self.filters, name=f"projection_norm_{level}", **policy)
            norm.build(conv.compute_output_shape(shape))
            self._projections.append(conv)
            self._norms.append(norm)
        if self.weighting == "dynamic":
            hidden = self.hidden_units or max(32, self.filters // 2)
            self.weight_hidden = keras.layers.Dense(
                hidden, "relu", use_bias=False, name="weight_hidden", **policy
            )
            self.weight_output = keras.layers.Dense(levels, name="weight_output", **policy)
            self.weight_hidden.build((None, levels * self.filters))
            self.weight_output.build((None, hidden))
            start = keras.initializers.Constant(self.initial_temperature)
            self.temperature = self.add_weight((), start, name="temperature")
        elif self.weighting == "static":
            start = np.arange(1, levels + 1) / (levels * (levels + 1) / 2)
            self.level_weights = self.add_weight(
                (levels,), lambda shape, dtype: ops.cast(start, dtype), name="level_weights"
            )

    def call(self, inputs):
        """The mixture, and the weights if they are wanted."""
        if self.data_format == "channels_first":
            inputs = [ops.transpose(x, (0, 2, 3, 1)) for x in inputs]
        steps = zip(inputs, self._projections, self._norms, strict=True)
        maps = [ops.relu(norm(project(x))) for x, project, norm in steps]
        weights = self._level_weights(maps)
        if self.entropy_weight:
            logs = ops.log(weights + SMALLEST_WEIGHT)
            self.add_loss(self.entropy_weight * ops.mean(ops.sum(weights * logs, axis=-1)))
        weights = ops.cast(weights, self.compute_dtype)
        factors = ops.reshape(weights, (-1, len(maps), 1, 1, 1))
        fused = sum(factors[:, level] * x for level, x in enumerate(maps))
        if self.data_format == "channels_first":
            fused = ops.transpose(fused, (0, 3, 1, 2))
        return (fused, weights) if self.return_weights else fused

    def _level_weights(self, maps):
        """The weights of the levels in full precision, `(N, L)`."""
        means = [ops.mean(self._full_precision(x), axis=(1, 2)) for x in maps]
        if self.weighting != "dynamic":
            ones = ops.ones_like(ops.stack([mean[:, 0] for mean in means], axis=1))
            return ones * self.level_weights if self.weighting == "static" else ones
        directions = ops.concatenate([_direction(mean) for mean in means], axis=-1)
        scores = self._full_precision(self.weight_output(self.weight_hidden(directions)))
        temperature = ops.softplus(self._full_precision(self.temperature)) + SMALLEST_TEMPERATURE
        return ops.softmax(scores / temperature, axis=-1)

    def _full_precision(self, x):
        return x if self.compute_dtype == "float64" else ops.cast(x, "float32")

    @property
    def _channels(self):
        return -1 if self.data_format == "channels_last" else 1

    def _check_maps(self, shapes):
        """Raises unless these are the shapes of maps that fit together."""
        maps = isinstance(shapes, (list, tuple)) and all(
            isinstance(shape, (list, tuple)) and len(shape) == 4 for shape in shapes
        )
        known = maps and all(shape[self._channels] is not None for shape in shapes)
        places = slice(1, 3) if self.data_format == "channels_last" else slice(2, 4)
        sizes = [tuple(shape[places]) for shape in shapes] if known else []
        equal = all(len({s[axis] for s in sizes} - {None}) <= 1 for axis in (0, 1))
        if not sizes or not equal:
            raise ValueError(
                "`inputs` must be a list of maps of one height and width, each with a known number "
                f"of channels ({self.data_format}). Received: shapes {shapes}"
            )

    def compute_output_shape(self, input_shape):
        """`(N, H, W, F)` or `(N, F, H, W)`; with `return_weights` `(N, L)` too."""
        fused = list(input_shape[0])
        fused[self._channels] = self.filters
        weights = (input_shape[0][0], len(input_shape))
        return (tuple(fused), weights) if self.return_weights else tuple(fused)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "filters": self.filters,
            "hidden_units": self.hidden_units,
            "initial_temperature": self.initial_temperature,
            "entropy_weight": self.entropy_weight,
            "return_weights": self.return_weights,
            "data_format": self.data_format,
            "weighting": self.weighting,
        }
        return {**super().get_config(), **own}


def check_entropy_weight(entropy_weight, weighting):
    """`entropy_weight`, if it is a number that these weights have a use for."""
    check_number("entropy_weight", entropy_weight)
    if entropy_weight < 0 or (entropy_weight and weighting != "dynamic"):
        raise ValueError(
            "`entropy_weight` must be at least 0, and 0 for weights that are not dynamic. "
            f"Received: entropy_weight={entropy_weight}, weighting={weighting!r}"
        )
    return entropy_weight


def _direction(x):
    """Rows `(N, F)` over their length; 0 with a finite gradient where that is nothing."""
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    nothing = squares <= 0
    root = ops.sqrt(ops.where(nothing, ops.ones_like(squares), squares))
    return x / (ops.where(nothing, ops.zeros_like(root), root) + SMALLEST_NORM)
