"""Classification by cosines with one vector a class (as in margin softmax losses)."""

import keras
from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag
from keras_zoo.ops.pairs import l2_normalize

# Numbers of the class matrix that are squared at a time: 16 MiB in float32.
BLOCK = 2**22


@component(paper="unpg")
class CosineClassifier(keras.layers.Layer):
    """Cosines between features and one learnt vector for each class.

    With features `x_i` `(D,)`, rows of the input, and class vectors `w_c` `(D,)`, columns of
    `kernel` `(D, C)`:

        cos_ic = <x_i, w_c> / (|x_i| |w_c|)                          (N, C), in [-1, 1]

    No bias and no scale: the losses for cosines, such as `MarginSoftmaxLoss`, bring their own.

    Made for very many classes: the class matrix is never normalised, which would take a second one.
    Features are normalised instead, and column `c` of their product with `kernel` is divided by
    `|w_c|`, forward and backward. The gradient of the kernel has the size of the kernel, though,
    and frameworks that do not fuse take as much again while they add it up.

    Args:
        units: int > 0. Number of classes `C`.
        append_features: bool. Whether the output also holds the normalised features, behind the
            cosines: one tensor with all that `UNPGLoss` needs.
        kernel_initializer: start of the class vectors.
        kernel_regularizer: of the class vectors as they are stored, not normalised.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `(N, D)`.
    Output: `(N, C)`, or `(N, C + D)` with `append_features=True`.

    Weights: `kernel`, held by a `Dense` sub-layer `projection`, so that int8 and LoRA work as they
    do there. In half precision cosines are rounded to 5e-4, which a scale of 64 makes 0.03:
    `dtype="float32"` keeps the layer out of a mixed policy.

    A feature or a class vector of zeros has cosine 0 to all, and a finite gradient: the class
    vector none at all. (So has one shorter than 1e-12, or 6e-5 in float16.) NaN in a feature gives
    NaN for its row.

    Raises:
        ValueError: `units` is not a positive int, `append_features` not a bool, the input not
            `(N, D)`.

    Example:
    >>> features = keras.random.normal((8, 16))
    >>> keras_zoo.layers.CosineClassifier(10, append_features=True)(features).shape
    (8, 26)

    Reference: arXiv:2203.11593, section 3. Differs from the official code: none; it normalises a
    copy of the class matrix.
    """

    def __init__(
        self,
        units,
        append_features=False,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        dtype=None,
        **kwargs,
    ):
        units = check_count("units", units)
        append_features = check_flag("append_features", append_features)
        policy = None if dtype is None else keras.dtype_policies.get(dtype)
        quantized = getattr(policy, "quantization_mode", None) is not None
        # "int8_from_float32" is for the matrix; what surrounds it is float32.
        super().__init__(dtype=policy.name.split("_from_")[-1] if quantized else policy, **kwargs)
        self.units = units
        self.append_features = append_features
        self.projection = keras.layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            dtype=policy if quantized else self._dtype_policy,
            name="projection",
        )
        self.input_spec = keras.InputSpec(ndim=2)

    @property
    def kernel(self):
        """The class vectors as columns, `(D, C)`, not normalised."""
        return self.projection.kernel

    def build(self, input_shape):
        """Makes the class vectors."""
        if input_shape[-1] is None:
            raise ValueError(
                f"The number of features must be known. Received: input_shape={tuple(input_shape)}"
            )
        self.projection.build(input_shape)
        self.input_spec = keras.InputSpec(ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs):
        """Cosines, and the normalised features if they are wanted."""
        features = inputs
        if self.compute_dtype != "float64":
            features = ops.cast(features, "float32")
        features = ops.cast(l2_normalize(features), self.compute_dtype)
        cosines = self.projection(features) * self._inverse_norms(features.shape[-1])
        if not self.append_features:
            return cosines
        return ops.concatenate([cosines, features], axis=-1)

    def _inverse_norms(self, dimensions):
        """`1 / |w_c|` of each class, or 0 where `w_c` is nothing, `(C,)`."""
        if self.projection.quantization_mode in (None, "float8"):
            kernel = self.projection.kernel
            # As a tensor: a custom gradient has no place for variables.
            squares = _squared_norms(ops.reshape(kernel, kernel.shape))
        else:
            # However the matrix is stored, this is what it multiplies with.
            def rows(start, count):
                at = start + ops.arange(count)
                return self.projection(ops.one_hot(at, dimensions, dtype=self.compute_dtype))

            squares = ops.stop_gradient(_sum_of_squares(rows, dimensions, self.units))
        shortest = 6.2e-5 if self.compute_dtype == "float16" else 1e-12
        known = squares > shortest**2
        inverse = ops.rsqrt(ops.where(known, squares, ops.ones_like(squares)))
        return ops.cast(ops.where(known, inverse, ops.zeros_like(inverse)), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """`(N, C)` or `(N, C + D)`."""
        return (input_shape[0], self.units + (input_shape[-1] if self.append_features else 0))

    def get_config(self):
        """The constructor's arguments."""
        config = {
            **super().get_config(),
            "units": self.units,
            "append_features": self.append_features,
            "kernel_initializer": keras.initializers.serialize(self.projection.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.projection.kernel_regularizer),
        }
        if self.projection.quantization_mode is not None:
            config["dtype"] = keras.dtype_policies.serialize(self.projection.dtype_policy)
        return config


def _squared_norms(kernel):
    """`|w_c|^2`, `(C,)`, of the columns of `(D, C)`, without squaring all of it at once."""

    @custom_gradient
    def squared_norms(kernel):
        def grad(upstream):
            return kernel * ops.cast(2.0 * upstream, kernel.dtype)

        def rows(start, count):
            return ops.slice(kernel, (start, 0), (count, kernel.shape[1]))

        return _sum_of_squares(rows, *kernel.shape), grad

    return squared_norms(kernel)


def _sum_of_squares(rows, dimensions, units):
    """Sum over `dimensions` rows of their squares, `(C,)`, in float32 at least.

    Args:
        rows: function `(start, count)` to some rows `(count, C)`.
        dimensions: int, how many rows there are.
        units: int `C`.
    """
    fitting = [r for r in range(1, dimensions + 1) if dimensions % r == 0 and r * units <= BLOCK]
    count = fitting[-1] if fitting else 1

    def squares(start):
        block = rows(start, count)
        if keras.backend.standardize_dtype(block.dtype) != "float64":
            block = ops.cast(block, "float32")
        return ops.sum(ops.square(block), axis=0)

    if count == dimensions:
        return squares(0)
    return ops.fori_loop(1, dimensions // count, lambda i, s: s + squares(i * count), squares(0))
