"""A temperature that the network learns (Radford et al., 2021; used by LiT and CWCL)."""

import math

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number


@component(paper="cwcl")
class LogitScale(keras.layers.Layer):
    """Multiplies its input by a learned positive number: one over a temperature.

        y = min( exp(t), max_scale ) x

    with one weight `t`, a scalar that starts at `log(1 / initial_temperature)`. After each step of
    an optimizer `t` is brought back to `log(max_scale)` if it is above, as in CLIP, so that its
    gradient never dies.

    With a contrastive loss: l2-normalise both views, scale one of them, stack them, and let the
    loss have `temperature=1.0, normalize=False`. With `CWCLLoss` scale view 0, the trained one.

    Args:
        initial_temperature: float > 0.
        max_scale: float > 0.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: a float tensor of any shape. Output: of that shape. The scale is worked out at the
    precision of the variables. NaN stays NaN.

    `.scale` is the number that acts now, as a float.

    Raises:
        ValueError: an argument is not a positive finite number.

    Example:
    >>> layer = keras_zoo.layers.LogitScale(initial_temperature=0.1)
    >>> float(layer(keras.ops.ones(())))
    10.0

    Reference: arXiv:2309.14580, which trains as LiT does; arXiv:2103.00020, section 2.5.
    """

    def __init__(self, initial_temperature=0.07, max_scale=100.0, **kwargs):
        super().__init__(**kwargs)
        self.initial_temperature = check_number(
            "initial_temperature", initial_temperature, positive=True
        )
        self.max_scale = check_number("max_scale", max_scale, positive=True)
        self.supports_masking = True

    def build(self, input_shape):
        """Makes the weight."""
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(),
            initializer=keras.initializers.Constant(-math.log(self.initial_temperature)),
            constraint=self._within_bounds,
            autocast=False,
        )

    def call(self, inputs):
        """Scales."""
        # The bound goes first: exp() must not overflow where its gradient is dropped.
        scale = ops.exp(ops.minimum(self.log_scale, math.log(self.max_scale)))
        return inputs * ops.cast(scale, inputs.dtype)

    def _within_bounds(self, log_scale):
        # A hair below the bound, where the minimum in `call` still passes the gradient.
        return ops.minimum(log_scale, math.log(self.max_scale) - 1e-5)

    @property
    def scale(self):
        """The number that inputs are multiplied with."""
        if not self.built:
            return min(1 / self.initial_temperature, self.max_scale)
        log_scale = float(ops.convert_to_numpy(self.log_scale))
        return math.exp(min(log_scale, math.log(self.max_scale)))

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "initial_temperature": self.initial_temperature,
            "max_scale": self.max_scale,
        }
