"""Comp-sum losses: from the sum-exponential loss by way of cross-entropy to the absolute error."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_not_negative
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._classes import check_logits, class_ids
from keras_zoo.losses._comp_sum import comp_sum


@component(paper="comp-sum")
class CompSumLoss(ZooLoss):
    """A concave function of the sum of what every wrong class has against the right one.

    With logits `h` `(N, K)`, labels `y` `(N,)`, `p` the softmax of `h`, per example

        S   = sum_{k != y} exp(h_k - h_y) = 1 / p_y - 1
        l   = ((1 + S)^(1 - tau) - 1) / (1 - tau),   log(1 + S) for tau = 1
            = (1 - p_y^(tau - 1)) / (tau - 1)
        dl / dh = p_y^(tau - 1) (p - onehot(y))

    `tau` tells how an example counts that the model gets wrong: 0 is the sum-exponential loss,
    where it counts most; 1 cross-entropy; between 1 and 2 generalised cross-entropy with
    `q = tau - 1`; 2 the mean absolute error but for a factor, where hopeless examples hardly count.
    So larger ones bear wrong labels better, and learn more slowly, the more so the more classes
    there are. All are consistent for the zero-one error.

    Args:
        tau: float >= 0.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N,)` or `(N, 1)`, class ids in `[0, K)` (Keras casts them to the loss's
    dtype: float32 holds those up to 2**24, float16 those up to 2048); `y_pred` `(N, K)`, finite
    logits.

    Output before reduction: `(N,)`, at least 0, and at most `1 / (tau - 1)` for `tau > 1`. Below 1
    it grows with `p_y^(tau - 1)`, and is infinite where that leaves float32: then lower the
    learning rate, or raise `tau`. One class alone gives 0. A label that is no class gives NaN, on
    every backend, and so does NaN in a row for its example.

    Raises:
        ValueError: `tau` is below 0 or no number; `y_true` and `y_pred` do not fit together.

    Example:
    >>> loss = keras_zoo.losses.CompSumLoss(tau=1.5)
    >>> round(float(loss([0], [[1.0, 2.0, 0.0]])), 4)
    1.0106

    Reference: arXiv:2304.07288. No official code was found.
    """

    def __init__(self, tau=1.0, name="comp_sum_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.tau = check_not_negative("tau", tau)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        y_true, logits = check_logits(y_true, y_pred)
        labels, known = class_ids(y_true, logits.shape[1])
        return ops.where(known, comp_sum(labels, logits, self.tau), float("nan"))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "tau": self.tau}
