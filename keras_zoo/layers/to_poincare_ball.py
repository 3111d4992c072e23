"""From features to points of the Poincare ball (Narayan and Patel, 2024)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag, check_number
from keras_zoo.ops.poincare import (
    clip_norm,
    poincare_expmap,
    poincare_expmap0,
    poincare_project,
)


@component(paper="hyp-oc")
class ToPoincareBall(keras.layers.Layer):
    """Maps features into the Poincare ball of curvature `c`, of the radius `1 / sqrt c`.

    With features `x` `(d,)`, a row of the input, `w` `(d,)` a weight that starts at zero:

        x <- x min(1, clip_radius / (|x| + 1e-5))
        o  = project(expmap0(w))                  (the centre if learn_origin is False)
        z  = project(expmap(o, x))                                                        (d,)

    with the operations `poincare_project`, `poincare_expmap0` and `poincare_expmap` of
    `keras_zoo.ops`. Under `riemannian_gradient` the gradient that reaches `z` is multiplied by
    `(1 - c|z|^2)^2 / 4`, the inverse of the ball's metric there, which makes steps near the edge
    small ones; the output is the same.

    Args:
        curvature: float > 0. `c`.
        clip_radius: float > 0, or None for no clipping. Keeps features where `z` is not yet at the
            edge and has a gradient.
        learn_origin: bool. Whether there is a `w`.
        riemannian_gradient: bool.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Inputs: `(..., d)`.
    Output: of the same shape, inside of the ball; float32 also under the policies of half
    precision, which cannot tell the ball from its edge, and float64 under that one.

    Weights: `origin` `(d,)`, the `w` above.

    A row of zeros goes to `o`; its gradient is finite. NaN in a row gives NaN for it.

    Raises:
        ValueError: an argument is out of its range or of another kind; `d` is not known.

    Example:
    >>> points = keras_zoo.layers.ToPoincareBall(curvature=1.0)(np.array([[30.0, 40.0]]))
    >>> points  # [[0.5784, 0.7712]]

    Reference: arXiv:2404.14406, section 3; github.com/Kartik-3004/hyp-oc. Differs from the official
    code: none.
    """

    def __init__(
        self,
        curvature=0.1,
        clip_radius=2.0,
        learn_origin=True,
        riemannian_gradient=True,
        **kwargs,
    ):
        # Keras would cast features and origin to the half precision of a mixed policy.
        super().__init__(autocast=False, **kwargs)
        self._full_dtype = "float64" if self.compute_dtype == "float64" else "float32"
        self.curvature = check_number("curvature", curvature, positive=True)
        if clip_radius is not None:
            check_number("clip_radius", clip_radius, positive=True)
        self.clip_radius = clip_radius
        self.learn_origin = check_flag("learn_origin", learn_origin)
        self.riemannian_gradient = check_flag("riemannian_gradient", riemannian_gradient)

    def build(self, input_shape):
        """Makes the origin."""
        if not input_shape or input_shape[-1] is None:
            raise ValueError(
                f"`inputs` must be `(..., d)`, d known. Received: shape {tuple(input_shape)}"
            )
        self.origin = None
        if self.learn_origin:
            self.origin = self.add_weight(
                name="origin", shape=(input_shape[-1],), initializer="zeros", autocast=False
            )

    def call(self, inputs):
        """Points of the ball."""
        c, x = self.curvature, ops.cast(inputs, self._full_dtype)
        if self.clip_radius is not None:
            x = clip_norm(x, self.clip_radius)
        if self.origin is None:
            z = poincare_project(poincare_expmap0(x, c), c)
        else:
            origin = ops.cast(self.origin, self._full_dtype)
            origin = poincare_project(poincare_expmap0(origin, c), c)
            z = poincare_project(poincare_expmap(origin, x, c), c)
        if not self.riemannian_gradient:
            return z
        fixed = ops.stop_gradient(z)
        scale = ops.square(1 - c * ops.sum(ops.square(fixed), axis=-1, keepdims=True)) / 4
        # Adds nothing to the value, and to the gradient all of it.
        return fixed + scale * (z - fixed)

    def compute_output_spec(self, inputs):
        """As `inputs`, in full precision."""
        return keras.KerasTensor(inputs.shape, self._full_dtype)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "curvature": self.curvature,
            "clip_radius": self.clip_radius,
            "learn_origin": self.learn_origin,
            "riemannian_gradient": self.riemannian_gradient,
        }
        return {**super().get_config(), **own}
