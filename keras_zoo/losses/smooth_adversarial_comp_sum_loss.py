"""Smooth adversarial comp-sum losses, of clean and adversarial logits."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_not_negative, check_number
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._classes import check_logits, class_ids
from keras_zoo.losses._comp_sum import comp_sum, margin_distance


@component(paper="comp-sum")
class SmoothAdversarialCompSumLoss(ZooLoss):
    """A comp-sum loss of clean logits, and how far an attack moves the margins.

    With clean logits `h` and adversarial ones `h'` `(N, K)`, labels `y` `(N,)`, margins
    `D_k = h_y - h_k`, `D'_k = h'_y - h'_k` for `k != y`, per example

        l = Phi( sum_{k != y} exp(-D_k / rho) ) + nu sqrt( sum_k (D'_k - D_k)^2 + 1e-12 )

    `Phi(u) = ((1 + u)^(1 - tau) - 1) / (1 - tau)`, `log(1 + u)` for `tau = 1`: the first term is
    `keras_zoo.losses.CompSumLoss` of `h / rho`. If `h'` is the logits of the input in the ball
    around `x` whose margins are farthest from those of `x`, the sum bounds the adversarial margin
    loss from `nu = sqrt(K - 1) / rho` on; in practice smaller ones do well.
    `keras_zoo.trainers.SmoothAdversarialTrainer` looks for that input, and trains with this loss.

    Args:
        tau: float >= 0.
        rho: float > 0, the margin that is wanted.
        nu: float >= 0, the weight of the second term: more for robustness, less for accuracy on
            clean inputs. Choose it on a validation split.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N,)` or `(N, 1)`, class ids in `[0, K)` (Keras casts them to the loss's
    dtype: float32 holds those up to 2**24, float16 those up to 2048); `y_pred` `(N, 2, K)`, finite
    logits: `[:, 0]` the clean, `[:, 1]` the adversarial ones. The gradient flows into both.

    Output before reduction: `(N,)`, at least 0. Equal views have a second term of `1e-6 nu`, and no
    gradient from it. The first term is infinite where `CompSumLoss` is. A label that is no class
    gives NaN, on every backend, and so does NaN in either view of an example.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together.

    Example:
    >>> loss = keras_zoo.losses.SmoothAdversarialCompSumLoss()
    >>> round(float(loss([0], [[[1.0, 2.0, 0.0], [0.5, 2.5, 0.2]]])), 4)
    2.6283

    Reference: arXiv:2304.07288. No official code was found.
    """

    def __init__(self, tau=1.0, rho=1.0, nu=1.0, name="smooth_adversarial_comp_sum_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.tau = check_not_negative("tau", tau)
        self.rho = check_number("rho", rho, positive=True)
        self.nu = check_not_negative("nu", nu)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        y_true, views = check_logits(y_true, y_pred, views=2)
        labels, known = class_ids(y_true, views.shape[2])
        clean, adversarial = views[:, 0], views[:, 1]
        losses = comp_sum(labels, clean / self.rho, self.tau)
        losses = losses + self.nu * margin_distance(labels, clean, adversarial)
        return ops.where(known, losses, float("nan"))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "tau": self.tau, "rho": self.rho, "nu": self.nu}
