"""What the weighted convolutions of one, two and three axes share."""

import math
import numbers

import keras
import numpy as np
from keras import ops

from keras_zoo._checks import check_count

# The authors' choices, outermost ring first; their README tunes further ones by hand.
DEFAULT_DENSITIES = {1: (), 3: (0.8,), 5: (0.2, 0.8), 7: (0.25, 0.15, 0.55)}

_PLAIN = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


def default_density(kernel_size):
    """The density that a weighted convolution of this size takes where none is given."""
    if kernel_size in DEFAULT_DENSITIES:
        return DEFAULT_DENSITIES[kernel_size]
    return tuple(float(d) for d in np.linspace(0.2, 0.8, (kernel_size - 1) // 2))


def check_density(density, kernel_size):
    """A density as a tuple of floats, checked against the size of the kernel."""
    rings = (kernel_size - 1) // 2
    try:
        values = np.asarray(density, "float64")
    except (TypeError, ValueError):
        values = None
    if values is None or values.shape != (rings,) or not np.all(np.isfinite(values)):
        raise ValueError(
            f"`density` must hold {rings} finite numbers for `kernel_size={kernel_size}`, one for "
            f"each ring around the centre, outermost first. Received: density={density!r}"
        )
    return tuple(float(d) for d in values)


class BaseWeightedConv(keras.layers.Layer):
    """A convolution whose kernel is weighted by a density of the distance to its centre."""

    rank: int

    def __init__(
        self,
        filters,
        kernel_size,
        density=None,
        density_trainable=False,
        density_lr_multiplier=1.0,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=False,
        kernel_initializer=None,
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        filters = check_count("filters", filters)
        groups = check_count("groups", groups)
        if filters % groups:
            raise ValueError(
                "`filters` must be a multiple of `groups`. "
                f"Received: filters={filters}, groups={groups}"
            )
        sizes = _tuple_of(kernel_size, self.rank, "kernel_size")
        if len(set(sizes)) > 1 or sizes[0] % 2 == 0:
            raise ValueError(
                "`kernel_size` must be odd and the same along every axis, since the density is "
                f"that of the distance to the centre. Received: kernel_size={kernel_size!r}"
            )
        strides = _tuple_of(strides, self.rank, "strides")
        dilation_rate = _tuple_of(dilation_rate, self.rank, "dilation_rate")
        if max(strides) > 1 and max(dilation_rate) > 1:
            raise ValueError(
                "`strides` above 1 do not go with a `dilation_rate` above 1. "
                f"Received: strides={strides}, dilation_rate={dilation_rate}"
            )
        paddings = ("valid", "same", "causal") if self.rank == 1 else ("valid", "same")
        if not isinstance(padding, str) or padding.lower() not in paddings:
            raise ValueError(f"`padding` must be one of {paddings}. Received: padding={padding!r}")
        if data_format not in (None, "channels_first", "channels_last"):
            raise ValueError(
                "`data_format` must be None, 'channels_first' or 'channels_last'. "
                f"Received: data_format={data_format!r}"
            )
        if not isinstance(density_trainable, (bool, np.bool_)):
            raise ValueError(
                "`density_trainable` must be a bool. "
                f"Received: density_trainable={density_trainable!r}"
            )
        if (
            isinstance(density_lr_multiplier, bool)
            or not isinstance(density_lr_multiplier, numbers.Real)
            or not 0 < density_lr_multiplier < math.inf
        ):
            raise ValueError(
                "`density_lr_multiplier` must be a positive finite number. "
                f"Received: density_lr_multiplier={density_lr_multiplier!r}"
            )
        given = None if density is None else check_density(density, sizes[0])

        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = filters
        self.kernel_size = sizes
        self.density_trainable = bool(density_trainable)
        self.density_lr_multiplier = float(density_lr_multiplier)
        self.strides = strides
        self.padding = padding.lower()
        self.data_format = data_format or keras.config.image_data_format()
        self.dilation_rate = dilation_rate
        self.groups = groups
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.VarianceScaling(
                2.0, "fan_out", "untruncated_normal"
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_spec = keras.InputSpec(ndim=self.rank + 2)
        self._given_density = given
        self._start_density = default_density(sizes[0]) if given is None else given
        self._scaled_density = None

    def build(self, input_shape):
        """Makes the weights."""
        axis = -1 if self.data_format == "channels_last" else 1
        channels = input_shape[axis]
        if channels is None or channels % self.groups:
            raise ValueError(
                "The number of input channels must be known, and a multiple of `groups`. "
                f"Received: input_shape={tuple(input_shape)}, groups={self.groups}"
            )
        self.compute_output_shape(input_shape)
        self.input_spec = keras.InputSpec(ndim=self.rank + 2, axes={axis: channels})
        # The product with the density is taken at the precision of the variables, before the one
        # cast to the compute dtype; so float16 rounds the weighted kernel, not its factors.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels // self.groups, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            autocast=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        if self._start_density:
            start = np.asarray(self._start_density) / self.density_lr_multiplier
            self._scaled_density = self.add_weight(
                name="density",
                shape=start.shape,
                initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype),
                trainable=self.density_trainable,
                autocast=False,
            )

    def call(self, inputs):
        """Convolves with the weighted kernel."""
        kernel = ops.cast(self._weighted_kernel(), self.compute_dtype)
        padding = self.padding
        if padding == "causal":
            axis = 1 if self.data_format == "channels_last" else 2
            shape = list(ops.shape(inputs))
            shape[axis] = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            inputs = ops.concatenate([ops.zeros(shape, dtype=inputs.dtype), inputs], axis=axis)
            padding = "valid"
        outputs = ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        if self.use_bias:
            last = self.data_format == "channels_last"
            shape = (1, self.filters) + (1,) * self.rank
            outputs = outputs + (self.bias if last else ops.reshape(self.bias, shape))
        return outputs if self.activation is None else self.activation(outputs)

    def _weighted_kernel(self):
        """`W * Phi`, in the dtype of the variables."""
        if self._scaled_density is None:
            return ops.convert_to_tensor(self.kernel)
        density = ops.convert_to_tensor(self._scaled_density)
        if self.density_lr_multiplier != 1.0:
            density = density * self.density_lr_multiplier
        alpha = ops.concatenate([density, ops.ones((1,), density.dtype), ops.flip(density)])
        phi = alpha
        for _ in range(self.rank - 1):
            phi = ops.expand_dims(phi, -1) * alpha
        return self.kernel * ops.reshape(phi, (*self.kernel_size, 1, 1))

    @property
    def density(self):
        """The density that acts now, outermost ring first, as an array."""
        if self._scaled_density is None:
            return np.asarray(self._start_density, "float64")
        stored = ops.convert_to_numpy(self._scaled_density).astype("float64")
        return stored * self.density_lr_multiplier

    @property
    def phi(self):
        """What the taps of the kernel are multiplied with, as an array of `rank` axes."""
        density = self.density
        alpha = np.concatenate([density, [1.0], density[::-1]])
        phi = alpha
        for _ in range(self.rank - 1):
            phi = phi[..., None] * alpha
        return phi

    def to_conv(self):
        """Makes the plain Keras convolution that computes the same.

        The density is multiplied into the kernel once, so that inference pays nothing for it.
        Regularizers and constraints are left behind: they speak of the raw kernel.

        Returns:
            A built `keras.layers.Conv1D`, `Conv2D` or `Conv3D` of the same name and dtype, whose
            outputs are equal to the bit.

        Raises:
            ValueError: the layer is not built.

        Example:
        >>> layer = keras_zoo.layers.WeightedConv2D(8, 7)
        >>> layer.build((None, 32, 32, 3))
        >>> layer.to_conv()
        <Conv2D name=weighted_conv2d, built=True>
        """
        if not self.built:
            raise ValueError(f"Only a built layer has a kernel to fold. Received: {self.name!r}")
        conv = _PLAIN[self.rank](
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            activation=self.activation,
            use_bias=self.use_bias,
            name=self.name,
            trainable=self.trainable,
            dtype=self.dtype_policy,
        )
        axis = -1 if self.data_format == "channels_last" else 1
        shape = [None] * (self.rank + 2)
        shape[axis] = self.kernel.shape[-2] * self.groups
        conv.build(tuple(shape))
        conv.kernel.assign(ops.stop_gradient(self._weighted_kernel()))
        if self.use_bias:
            conv.bias.assign(self.bias)
        return conv

    def compute_output_shape(self, input_shape):
        """Shape of the output, as that of Keras's own convolutions."""
        last = self.data_format == "channels_last"
        spatial = input_shape[1:-1] if last else input_shape[2:]
        spatial = tuple(
            self._output_length(n, s, d)
            for n, s, d in zip(spatial, self.strides, self.dilation_rate, strict=True)
        )
        if any(n is not None and n < 1 for n in spatial):
            raise ValueError(
                "The input is smaller than the kernel, and there is no padding. "
                f"Received: input_shape={tuple(input_shape)}, kernel_size={self.kernel_size}"
            )
        if last:
            return (input_shape[0], *spatial, self.filters)
        return (input_shape[0], self.filters, *spatial)

    def _output_length(self, length, stride, dilation):
        if length is None:
            return None
        if self.padding == "valid":
            length -= dilation * (self.kernel_size[0] - 1)
        return -(-length // stride)

    def get_config(self):
        """The constructor's arguments; the density as it was given, not as it was trained."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "density": None if self._given_density is None else list(self._given_density),
            "density_trainable": self.density_trainable,
            "density_lr_multiplier": self.density_lr_multiplier,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


def _tuple_of(value, rank, name):
    values = list(value) if isinstance(value, (list, tuple)) else [value] * rank
    if len(values) != rank or any(
        isinstance(v, bool) or not isinstance(v, numbers.Integral) or v < 1 for v in values
    ):
        raise ValueError(
            f"`{name}` must be a positive int or {rank} of them. Received: {name}={value!r}"
        )
    return tuple(int(v) for v in values)
