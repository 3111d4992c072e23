"""Softmax over cosines with a margin on the own class (as in ArcFace and CosFace)."""

import math

import keras
from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo._catalog import component
from keras_zoo._checks import check_batch, check_choice, check_number
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops.masked import LOWEST

MARGIN_TYPES = ("arcface", "cosface", "none")
# Closer to 1 and -1 the angle has no usable derivative.
BOUND = 1 - 1e-7


@component(paper="unpg")
class MarginSoftmaxLoss(ZooLoss):
    """Cross-entropy of a softmax over cosines, where the own class has a handicap.

    With `cos_ic` `(N, C)` the cosine of example `i` and class `c`, `y_i` its class, `s = scale`:

        z_ic = cos_ic                                   for c != y_i, and for the own class
        z_iy = cos(arccos(cos_iy) + margin)             "arcface"
             = cos_iy - margin                          "cosface"
             = cos_iy                                   "none"
        l_i  = log sum_c exp(s z_ic) - s z_iy

    The angle with its margin may exceed pi: no correction is made there. The own cosine is clipped
    to `1 - 1e-7` in size; the derivative is 0 beyond, so that a feature exactly on its class
    vector, or opposite to it, gives finite numbers.

    The `(N, C)` array is read and written as seldom as may be: no one-hot copy of it, no second
    one for the margin, and a gradient in closed form.

    Args:
        margin_type: `"arcface"`, `"cosface"` or `"none"`.
        margin: float: radians for `"arcface"`, a cosine for `"cosface"`, unused by `"none"`.
        scale: float > 0. Inverse temperature of the softmax.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32,
            though Keras rounds labels and cosines to them first.

    Inputs: `y_true` `(N,)` or `(N, 1)`, class ids in `[0, C)` (Keras casts them to the loss's
    dtype: float32 holds those up to 2**24, float16 those up to 2048); `y_pred` `(N, C)`, cosines,
    such as those of `keras_zoo.layers.CosineClassifier`.

    Output before reduction: `(N,)`. A class id outside of `[0, C)` gives NaN, on every backend. NaN
    in a row of cosines gives NaN for its example.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together.

    Example:
    >>> model = keras.Sequential([network, keras_zoo.layers.CosineClassifier(1000)])
    >>> model.compile("adam", loss=keras_zoo.losses.MarginSoftmaxLoss("cosface", 0.35))

    Reference: arXiv:2203.11593, section 3 (ArcFace: arXiv:1801.07698, CosFace: arXiv:1801.09414).
    Differs from the official code: the clip, without which a cosine of 1 gives NaN.
    """

    def __init__(
        self, margin_type="arcface", margin=0.5, scale=64.0, name="margin_softmax_loss", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.margin_type = check_choice("margin_type", margin_type, MARGIN_TYPES)
        self.margin = check_number("margin", margin)
        self.scale = check_number("scale", scale, positive=True)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        labels, cosines = self._prepare(y_true, y_pred)
        nothing = ops.full((), LOWEST, dtype=cosines.dtype)
        return self._cross_entropy(labels, cosines, nothing)

    def get_config(self):
        """The constructor's arguments."""
        own = {"margin_type": self.margin_type, "margin": self.margin, "scale": self.scale}
        return {**super().get_config(), **own}

    def _prepare(self, y_true, y_pred):
        """Class ids `(N,)` and predictions, in float32 at least."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_batch(y_true, y_pred)
        if keras.backend.standardize_dtype(y_pred.dtype) != "float64":
            y_pred = ops.cast(y_pred, "float32")
        return ops.cast(ops.reshape(y_true, (-1,)), "int32"), y_pred

    def _cross_entropy(self, labels, cosines, extra):
        """Loss of each example, where `exp(extra)`, a scalar, joins the sum of each."""
        if cosines.shape[0] == 0:
            return ops.zeros((0,), dtype=cosines.dtype)
        rows, classes = ops.shape(cosines)[0], ops.shape(cosines)[1]
        known = ops.logical_and(labels >= 0, labels < classes)
        own = ops.where(known, labels, ops.zeros_like(labels))
        entries = ops.stack([ops.arange(rows, dtype="int32"), own], axis=1)

        @custom_gradient
        def cross_entropy(cosines, extra):
            target, slope = self._with_margin(ops.take_along_axis(cosines, own[:, None], axis=1))
            # The own class stands apart: its place in the row is 0, in the sum and in `e`.
            lowest = ops.full_like(target[:, 0], LOWEST)
            others = ops.scatter_update(cosines, entries, lowest)
            top = ops.maximum(ops.amax(others, axis=-1, keepdims=True), target)
            top = ops.maximum(top, extra / self.scale)
            e = ops.exp(self.scale * (others - top))
            own_e, extra_e = ops.exp(self.scale * (target - top)), ops.exp(extra - self.scale * top)
            total = ops.sum(e, axis=-1, keepdims=True) + own_e + extra_e

            def grad(upstream):
                upstream = upstream[:, None] / total
                to_own = self.scale * upstream * (own_e - total) * slope
                to_all = ops.scatter_update(e * (self.scale * upstream), entries, to_own[:, 0])
                return to_all, ops.sum(upstream * extra_e)

            return (ops.log(total) + self.scale * (top - target))[:, 0], grad

        losses = cross_entropy(cosines, extra)
        return ops.where(known, losses, ops.full_like(losses, float("nan")))

    def _with_margin(self, cosine):
        """The own cosine with its handicap, and its derivative by the cosine."""
        if self.margin_type != "arcface":
            margin = self.margin if self.margin_type == "cosface" else 0.0
            return cosine - margin, ops.ones_like(cosine)
        clipped = ops.clip(cosine, -BOUND, BOUND)
        sine = ops.sqrt((1 - clipped) * (1 + clipped))
        target = clipped * math.cos(self.margin) - sine * math.sin(self.margin)
        slope = math.cos(self.margin) + clipped / sine * math.sin(self.margin)
        return target, ops.where(ops.equal(cosine, clipped), slope, ops.zeros_like(slope))
