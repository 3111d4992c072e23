"""Loss of a field whose peak is what counts (Srivastav et al., 2025)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_fields, check_not_negative
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops._precision import full_precision

NORMS = ("l2", "l1")


@component(paper="deeptfus")
class PressureFieldLoss(ZooLoss):
    """Squared error, heavier the nearer a voxel's target is to the peak, and that of slopes.

    With a target `t` and a prediction `p` of `V` voxels, `diff_a` the differences of neighbours
    along an axis `a`:

        w_v    = exp(alpha (t_v - max t)) / mean_v exp(alpha (t_v - max t))        no gradient
        l_w    = mean_v w_v (p_v - t_v)^2
        l_grad = 1/3 sum_a mean (diff_a p - diff_a t)^2              for gradient_norm "l2"
                 sum_a mean |diff_a p - diff_a t|                    for gradient_norm "l1"
        l      = l_w + gradient_weight l_grad

    Args:
        alpha: float >= 0. How much heavier the peak is; 0 weighs all voxels alike.
        gradient_weight: float >= 0.
        gradient_norm: "l2", as in the paper, or "l1", as in a public reproduction of it.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true`, `y_pred`: fields `(B, D, H, W)` or `(B, D, H, W, 1)`, one as the other or
    not, such as `log(1 + pressure / peak)`.

    Output before reduction: `(B,)`, each from its own field alone. A constant target has weights
    of 1; an axis of one voxel has no slope. NaN in a field gives NaN for it alone.

    Raises:
        ValueError: an argument is out of its range; the fields are not of one size.

    Example:
    >>> target = np.zeros((2, 8, 8, 8)); target[:, 4, 4, 4] = np.log(2.0)
    >>> round(float(keras_zoo.losses.PressureFieldLoss()(target, 0 * target)), 4)
    0.0285

    Reference: arXiv:2505.12998, section 3.3, eq. 4 to 6. No official code of it is public.
    """

    def __init__(
        self,
        alpha=5.0,
        gradient_weight=0.1,
        gradient_norm="l2",
        name="pressure_field_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.alpha = check_not_negative("alpha", alpha)
        self.gradient_weight = check_not_negative("gradient_weight", gradient_weight)
        self.gradient_norm = check_choice("gradient_norm", gradient_norm, NORMS)

    def call(self, y_true, y_pred):
        """Loss of each field, `(B,)`."""
        t, p = full_precision(y_true), full_precision(y_pred)
        check_fields(t, p)
        t, p = (ops.squeeze(x, axis=-1) if len(x.shape) == 5 else x for x in (t, p))
        voxels = (1, 2, 3)
        # From the peak down, so that nothing overflows.
        weights = ops.exp(self.alpha * (t - ops.amax(t, axis=voxels, keepdims=True)))
        weights = weights / ops.mean(weights, axis=voxels, keepdims=True)
        error = p - t
        weighted = ops.mean(ops.stop_gradient(weights) * ops.square(error), axis=voxels)
        return weighted + self.gradient_weight * self._slopes(error)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "gradient_weight": self.gradient_weight,
            "gradient_norm": self.gradient_norm,
        }

    def _slopes(self, error):
        """`l_grad` of the class docstring; slopes of the error are errors of the slopes."""
        slopes = (error[:, 1:] - error[:, :-1],
                  error[:, :, 1:] - error[:, :, :-1],
                  error[..., 1:] - error[..., :-1])  # fmt: skip
        slopes = [s for axis, s in enumerate(slopes, start=1) if s.shape[axis] != 0]
        if self.gradient_norm == "l1":
            return sum(ops.mean(ops.abs(s), axis=(1, 2, 3)) for s in slopes)
        return sum(ops.mean(ops.square(s), axis=(1, 2, 3)) for s in slopes) / 3
