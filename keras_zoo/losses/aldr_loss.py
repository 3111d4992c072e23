"""Label-distributionally robust loss that adapts its temperature (Zhu et al., 2023)."""

import math

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_number
from keras_zoo.losses._classes import check_logits
from keras_zoo.losses.ldr_loss import LDRLoss

# Added to each probability before the divergence is taken, as the official code does.
SMOOTHING = 1e-5


@component(paper="ldr")
class ALDRLoss(LDRLoss):
    """The label-distributionally robust loss with a temperature for each example.

    With `f` `(N, K)` the normalised scores and `d` `(N, K)` the differences of `LDRLoss`,
    `lambda_0 = temperature`, and `lambda_i` starting there, `num_steps` times

        p_i      = softmax(f_i / lambda_i) + 1e-5, divided by its sum           (N, K)
        lambda_i = lambda_0 - lambda_0 KL(p_i || 1/K) / (alpha log K)           (N,)

    and with the last `lambda_i`, a constant to the gradient,

        l_i = lambda_i log( 1/K sum_k exp(d_ik / lambda_i) )
              - alpha log K / (2 lambda_0) (lambda_i - lambda_0)^2              (N,)

    So `lambda_i` lies in `(lambda_0 (1 - 1/alpha), lambda_0]`: lower, and so nearer to the hinge,
    the surer the model is of a class, be it the label or not; where it is unsure, `lambda_0`.
    Scores normalised by "l1" are of size 1, so that at `lambda_0 = 10` it hardly moves; at 1 it
    does.

    This loss has no memory: each call starts from `lambda_0`. `keras_zoo.trainers.ALDRTrainer`
    keeps one temperature for each example of the training set, and moves it by each visit.

    Args:
        temperature: float > 0. `lambda_0`.
        alpha: float > 1. Larger ones hold the temperatures nearer to `lambda_0`.
        margin: float >= 0.
        normalization: "l1", "softplus", or None, as in `LDRLoss`.
        num_steps: int > 0. Steps of a call. One is the official code's first visit; 3 to 5 reach
            the fixed point.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs and output: those of `LDRLoss`; what is said there of rows of zeros, labels that are no
    class, and NaN holds here.

    Raises:
        ValueError: an argument is out of its range; `y_true`, `y_pred` and temperatures do not fit
            together; fewer than two classes.

    Example:
    >>> loss = keras_zoo.losses.ALDRLoss(temperature=1.0)
    >>> round(float(loss([1], [[2.0, 0.5, -1.0]])), 4)
    0.6172

    Reference: arXiv:2112.14869, section 4; github.com/Optimization-AI/ICML2023_LDR, which we
    follow where the two differ: no margin, and no difference to the own score, in the softmax.
    Differs from the official code: the least mean of `LDRLoss`.
    """

    def __init__(
        self,
        temperature=10.0,
        alpha=2.0,
        margin=0.1,
        normalization="l1",
        num_steps=1,
        name="aldr_loss",
        **kwargs,
    ):
        super().__init__(temperature, margin, normalization, name, **kwargs)
        self.alpha = check_number("alpha", alpha)
        if alpha <= 1:
            raise ValueError(f"`alpha` must be greater than 1. Received: alpha={alpha}")
        self.num_steps = check_count("num_steps", num_steps)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        return self.loss_at(y_true, y_pred, self.adapt_temperature(y_pred))

    def adapt_temperature(self, y_pred, previous=None):
        """Temperatures `num_steps` steps on, `(N,)`, constants to the gradient.

        Args:
            y_pred: `(N, K)`, raw scores.
            previous: `(N,)`, the temperatures before. None for `temperature`.
        """
        scores = ops.stop_gradient(self._normalize(y_pred)[0])
        base, classes = self.temperature, scores.shape[1]
        if previous is None:
            previous = ops.full_like(scores[:, 0], base)
        temperatures = _per_row("previous", previous, scores)
        for _ in range(self.num_steps):
            p = ops.softmax(scores / temperatures[:, None], axis=-1) + SMOOTHING
            p = p / ops.sum(p, axis=-1, keepdims=True)
            divergence = ops.sum(p * ops.log(classes * p), axis=-1)
            temperatures = base - base * divergence / (self.alpha * math.log(classes))
        return ops.stop_gradient(temperatures)

    def loss_at(self, y_true, y_pred, temperatures):
        """Loss of each example at given temperatures, `(N,)`.

        Args:
            y_true: `(N,)` or `(N, 1)`, class ids.
            y_pred: `(N, K)`, raw scores.
            temperatures: `(N,)`, taken as constants.
        """
        y_true, y_pred = check_logits(y_true, y_pred)
        temperatures = ops.stop_gradient(_per_row("temperatures", temperatures, y_pred))
        strength = self.alpha * math.log(y_pred.shape[1]) / (2 * self.temperature)
        penalty = strength * ops.square(temperatures - self.temperature)
        return self._robust_loss(y_true, y_pred, temperatures) - penalty

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha, "num_steps": self.num_steps}


def _per_row(name, values, scores):
    """`values` as `(N,)` in the dtype of the scores, one for each of their rows."""
    values = ops.cast(ops.convert_to_tensor(values), scores.dtype)
    rows = tuple(values.shape) + tuple(scores.shape[:1])
    if len(rows) != 2 or (None not in rows and rows[0] != rows[1]):
        raise ValueError(
            f"`{name}` must be `(N,)`, one for each row of `y_pred` `(N, K)`. Received: "
            f"{name} of shape {tuple(values.shape)}, y_pred of shape {tuple(scores.shape)}"
        )
    return values
