"""What DeepTFUS is made of besides the layers of the zoo and of Keras."""

import keras
from keras import ops

from keras_zoo._catalog import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class TrilinearUpsampling3D(keras.layers.Layer):
    """Volumes `(B, D, H, W, C)` twice as large, `(B, 2 D, 2 H, 2 W, C)`, with half-pixel centres.

    Along each axis, with `x` continued by its own ends:

        y_2i = 0.75 x_i + 0.25 x_(i-1)          y_(2i+1) = 0.75 x_i + 0.25 x_(i+1)

    Args:
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.
    """

    def call(self, inputs):
        """The larger volumes."""
        x = inputs
        for axis in (1, 2, 3):
            x = _double(x, axis)
        return x

    def compute_output_shape(self, input_shape):
        """`(B, 2 D, 2 H, 2 W, C)`."""
        batch, *sides, channels = input_shape
        return (batch, *(None if side is None else 2 * side for side in sides), channels)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Conv3D(keras.layers.Conv3D):
    """Keras's layer, for kernels of 3 with `padding="same"`, with gradients that are right on CPUs.

    Volumes two voxels deep are convolved with a third slice of zeros behind, and without it again:
    oneDNN, which torch takes on CPUs, leaves parts of the kernel's bfloat16 gradient unwritten
    where a depth of two has its zeros from the padding.
    """

    def convolution_op(self, inputs, kernel):
        """The convolution alone, as Keras calls it."""
        if inputs.shape[1] != 2:
            return super().convolution_op(inputs, kernel)
        behind = ops.zeros_like(inputs[:, :1])
        return super().convolution_op(ops.concatenate([inputs, behind], axis=1), kernel)[:, :2]


def _double(x, axis):
    """Twice as many places along one axis."""
    places = (slice(None),) * axis
    first, last = x[(*places, slice(None, 1))], x[(*places, slice(-1, None))]
    before = ops.concatenate([first, x[(*places, slice(None, -1))]], axis=axis)
    after = ops.concatenate([x[(*places, slice(1, None))], last], axis=axis)
    pairs = ops.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    shape = list(ops.shape(x))
    shape[axis] = 2 * shape[axis]
    return ops.reshape(pairs, shape)
