"""Logistic regression with hyperplanes of the Poincare ball (Narayan and Patel, 2024)."""

import math

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_number
from keras_zoo.ops.poincare import (
    EPSILON,
    SHORTEST,
    poincare_expmap0,
    safe_norm,
)


@component(paper="hyp-oc")
class HyperbolicMLR(keras.layers.Layer):
    """Logits of classes, each of them the signed distance from a hyperplane of the Poincare ball.

    With points `x` `(d,)` of the ball of curvature `c`, rows of the input; for class `k` a normal
    `a_k` `(d,)` and `q_k` `(d,)`, columns of the weights:

        p_k     = expmap0(q_k)                    a point of the hyperplane
        m       = -p_k (+) x                      `x` seen from there; `keras_zoo.ops.mobius_add`
        logit_k = 2 |a_k| / sqrt c  arsinh( 2 sqrt c <m, a_k> / (|a_k| (1 - c|m|^2)) )

    As `c` goes to 0 the logit becomes `4 <a_k, x - q_k>`.

    Args:
        units: int > 0. Number of classes `K`.
        curvature: float > 0. `c`, that of the layer before.
        kernel_initializer: start of both weights, each with its own draw. None for the uniform
            distribution on `[-1 / sqrt d, 1 / sqrt d]`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `(..., d)`, inside of the ball, as `keras_zoo.layers.ToPoincareBall` gives them.
    Output: `(..., K)`, float32 also under the policies of half precision, float64 under that one.

    Weights: `normal` `(d, K)` and `point` `(d, K)`, the `a` and `q` above.

    What `m` is needed for is worked out from products `(..., K)`: no `(..., K, d)` is formed. A
    normal of zeros gives the logit 0. Points near the edge have large logits, and gradients that
    are finite. NaN in a row gives NaN for it.

    Raises:
        ValueError: `units` or `curvature` is out of its range; `d` is not known.

    Example:
    >>> points = keras_zoo.layers.ToPoincareBall()(keras.random.normal((8, 16)))
    >>> keras_zoo.layers.HyperbolicMLR(2)(points).shape
    (8, 2)

    Reference: arXiv:2404.14406, section 3; github.com/Kartik-3004/hyp-oc, `hyptorch`. Differs from
    the official code: none in value; it forms `m`, and has a backward pass of its own for arsinh.
    """

    def __init__(self, units, curvature=0.1, kernel_initializer=None, **kwargs):
        # Keras would cast points and weights to the half precision of a mixed policy.
        super().__init__(autocast=False, **kwargs)
        self._full_dtype = "float64" if self.compute_dtype == "float64" else "float32"
        self.units = check_count("units", units)
        self.curvature = check_number("curvature", curvature, positive=True)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Makes the hyperplanes."""
        if not input_shape or input_shape[-1] is None:
            raise ValueError(
                f"`inputs` must be `(..., d)`, d known. Received: shape {tuple(input_shape)}"
            )
        shape = (input_shape[-1], self.units)
        self.normal, self.point = (
            self.add_weight(name=name, shape=shape, initializer=self._start(), autocast=False)
            for name in ("normal", "point")
        )

    def _start(self):
        """An initializer that has not drawn yet."""
        if self.kernel_initializer is None:
            return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        if isinstance(self.kernel_initializer, keras.initializers.Initializer):
            return self.kernel_initializer.clone()
        return self.kernel_initializer

    def call(self, inputs):
        """Logits of the classes."""
        c = self.curvature
        x, a, q = (ops.cast(t, self._full_dtype) for t in (inputs, self.normal, self.point))
        p = ops.transpose(poincare_expmap0(ops.transpose(q), c))
        length = ops.transpose(safe_norm(ops.transpose(a)))
        a = a / ops.maximum(length, SHORTEST)

        px, ax, pa = ops.matmul(x, p), ops.matmul(x, a), ops.sum(p * a, axis=0)
        xx = ops.sum(ops.square(x), axis=-1, keepdims=True)
        pp = ops.sum(ops.square(p), axis=0)
        # With D + 1e-5 the denominator of m: both products need not know m itself, and
        # 1 - c|m|^2 is a sum of what is not negative.
        D = 1 - 2 * c * px + c * pp * c * xx
        ma = (1 - c * pp) * ax - (1 - 2 * c * px + c * xx) * pa
        room = (2 * D + EPSILON) * EPSILON + D * (1 - c * pp) * (1 - c * xx)
        ratio = 2 * math.sqrt(c) * ma * (D + EPSILON) / room
        return 2 / math.sqrt(c) * length[0] * ops.arcsinh(ratio)

    def compute_output_spec(self, inputs):
        """`(..., K)`, in full precision."""
        return keras.KerasTensor((*inputs.shape[:-1], self.units), self._full_dtype)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "units": self.units,
            "curvature": self.curvature,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)
            if self.kernel_initializer is not None
            else None,
        }
        return {**super().get_config(), **own}
