"""The Z-loss (de Brébisson and Vincent, 2016)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses._spherical import SphericalLoss


@component(paper="z-loss")
class ZLoss(SphericalLoss):
    """Asks the true class's logit to stand out by so many standard deviations of all logits.

    With `o` `(N, D)` the logits, `c` the true class, and per example

        mu = mean_k o_k,    sigma^2 = mean_k (o_k - mu)^2
        z  = (o_c - mu) / sqrt(sigma^2 + epsilon)                  at most sqrt(D - 1)
        l  = softplus(scale (shift - z)) / scale

    The loss of `alpha o + beta` is that of `o` for any `alpha > 0`; so it has no probabilities, and
    no use for a temperature. `shift` is about the `z` that is wanted for the true class, beyond
    which it hardly gains; a high one with a small `scale` tunes for the true class to be among the
    first k, a lower one for it to be the first. Neither has a value that suits all tasks: choose
    both on a validation split, `scale` among 0.1, 0.5 and 1, `shift` from 0 to 20.

    It belongs to the spherical family: what it needs of the logits are `o_c`, `sum o_k^2` and
    `sum o_k`, which `keras_zoo.layers.FactoredDense` has without forming the logits, whatever `D`.
    `keras_zoo.trainers.FactoredOutputTrainer` trains with it that way.

    Args:
        scale: float > 0, the paper's `a`.
        shift: float, the paper's `b`.
        epsilon: float > 0, added to the variance.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32,
            though Keras rounds class ids and logits to them first.

    Inputs: `y_true` `(N,)` or `(N, 1)`, class ids in `[0, D)`; `y_pred` `(N, D)`, logits.

    Output before reduction: `(N,)`. Equal logits have `z = 0`, and a gradient that is finite, but
    large: about `1 / sqrt(epsilon)`. So start the output layer at random. One class alone is such
    a case, too. A class id outside of `[0, D)` gives NaN, on every backend; so does a NaN among the
    logits.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together;
            there are more classes than the loss's dtype can tell apart.

    Example:
    >>> loss = keras_zoo.losses.ZLoss()
    >>> round(float(loss([1], [[1.0, 3.0, -2.0, 0.0]])), 4)
    0.2231

    Reference: arXiv:1604.08859. Differs from the official code: the mean over the batch where that
    sums, and `epsilon` beneath the root, since the root itself has no derivative at 0.
    """

    shift_invariant = True

    def __init__(self, scale=1.0, shift=0.0, epsilon=1e-14, name="z_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = check_number("scale", scale, positive=True)
        self.shift = check_number("shift", shift)
        self.epsilon = check_number("epsilon", epsilon, positive=True)

    def _value(self, selected, squared_sum, total, num_classes):
        z, *_ = self._standardized(selected, squared_sum, total, num_classes)
        return ops.softplus(self.scale * (self.shift - z)) / self.scale

    def _slopes(self, selected, squared_sum, total, num_classes):
        z, deviation, mean, varies = self._standardized(selected, squared_sum, total, num_classes)
        to_selected = -ops.sigmoid(self.scale * (self.shift - z)) / deviation
        # Where rounding leaves no variance, the variance has no derivative either.
        to_squares = -to_selected * z / (2 * num_classes * deviation)
        to_squares = ops.where(varies, to_squares, ops.zeros_like(to_squares))
        return to_selected, to_squares, -to_selected / num_classes - 2 * mean * to_squares

    def _standardized(self, selected, squared_sum, total, num_classes):
        """`z`, the standard deviation, the mean, and whether the variance is above 0."""
        mean = total / num_classes
        variance = squared_sum / num_classes - ops.square(mean)
        deviation = ops.sqrt(ops.maximum(variance, 0.0) + self.epsilon)
        return (selected - mean) / deviation, deviation, mean, variance > 0

    def get_config(self):
        """The constructor's arguments."""
        own = {"scale": self.scale, "shift": self.shift, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
