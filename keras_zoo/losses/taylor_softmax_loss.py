"""Cross-entropy of the Taylor softmax (de Brébisson and Vincent, 2016)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.losses._spherical import SphericalLoss


@component(paper="z-loss")
class TaylorSoftmaxLoss(SphericalLoss):
    """Cross-entropy of a softmax whose exponential is replaced by `1 + x + x^2 / 2`.

    With `o` `(N, D)` the logits and `c` the true class, per example

        l = log(D + sum_k o_k + sum_k o_k^2 / 2) - log(1 + o_c + o_c^2 / 2)

    No term of the sum is below 1/2, so that all probabilities are positive. They rise in `o_k`
    from -1 on, and fall before: the largest logit need not be the most probable class.

    It belongs to the spherical family, as `keras_zoo.losses.ZLoss` does, and is the strongest of
    its losses before that one: exact training with `keras_zoo.trainers.FactoredOutputTrainer` costs
    no more for a million classes than for a thousand.

    Args:
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32,
            though Keras rounds class ids and logits to them first.

    Inputs: `y_true` `(N,)` or `(N, 1)`, class ids in `[0, D)`; `y_pred` `(N, D)`, logits.

    Output before reduction: `(N,)`. A class id outside of `[0, D)` gives NaN, on every backend; so
    does a NaN among the logits. Logits beyond 1e18 overflow.

    Raises:
        ValueError: `y_true` and `y_pred` do not fit together; there are more classes than the
            loss's dtype can tell apart.

    Example:
    >>> loss = keras_zoo.losses.TaylorSoftmaxLoss()
    >>> round(float(loss([1], [[1.0, 3.0, -2.0, 0.0]])), 4)
    0.4249

    Reference: arXiv:1511.05042, section 3, the baseline of arXiv:1604.08859. Differs from the
    official code: the mean over the batch where that sums.
    """

    def __init__(self, name="taylor_softmax_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def _value(self, selected, squared_sum, total, num_classes):
        return ops.log(num_classes + total + squared_sum / 2) - ops.log(_taylor(selected))

    def _slopes(self, selected, squared_sum, total, num_classes):
        to_total = 1 / (num_classes + total + squared_sum / 2)
        return -(1 + selected) / _taylor(selected), to_total / 2, to_total


def _taylor(x):
    """`1 + x + x^2 / 2`, as a sum of what cannot cancel."""
    return 0.5 + ops.square(1 + x) / 2
