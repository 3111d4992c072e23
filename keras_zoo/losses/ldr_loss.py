"""Label-distributionally robust loss with Kullback-Leibler divergence (Zhu et al., 2023)."""

from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo._catalog import component
from keras_zoo._checks import check_not_negative, check_number
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._classes import check_logits, class_ids
from keras_zoo.ops._precision import full_precision

NORMALIZATIONS = (None, "l1", "softplus")
SMALLEST_MEAN = 1e-7


@component(paper="ldr")
class LDRLoss(ZooLoss):
    """The worst case over distributions of labels, as near to uniform as `temperature` asks.

    With raw scores `F` `(N, K)`, labels `y` `(N,)`, `lambda = temperature`:

        f_i  = F_i                                                        normalization None
             = F_i / mean_k |F_ik|                                        "l1"
             = s_i / mean_k s_ik,  s_i = log(1 + exp(F_i))                "softplus"
        d_ik = f_ik - f_iy + (margin if k is not y, else 0)               (N, K)
        l_i  = max over p of  sum_k p_k d_ik - lambda KL(p || 1/K)
             = lambda log( 1/K sum_k exp(d_ik / lambda) )                 (N,)

    The mean goes over all classes, `d_iy = 0` included. Towards `lambda = 0` this is the
    Crammer-Singer hinge `max_k d_ik`, towards infinity `mean_k d_ik`, which is robust to wrong
    labels; at 1 without margin and normalisation it is the cross-entropy less `log K`.

    Args:
        temperature: float > 0.
        margin: float >= 0. By how much the own score shall be ahead.
        normalization: "softplus", "l1", or None. The gradient flows through it. It takes the length
            out of a row of scores, so that these need no bound to be learned.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N,)` or `(N, 1)`, class ids in `[0, K)` (Keras casts them to the loss's
    dtype: float32 holds those up to 2**24, float16 those up to 2048); `y_pred` `(N, K)`, raw
    scores, `K >= 2`.

    Output before reduction: `(N,)`, in `[-lambda log K, max_k d_ik]`: negative where the label is
    safely ahead. The mean that a row is divided by is at least 1e-7, so that a row of zeros is one
    of equal scores; under "l1" its gradient is some 1e7, and a last layer should not start at zero.
    A label that is no class gives NaN, on every backend, and so does NaN in a row for its example.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together;
            fewer than two classes.

    Example:
    >>> loss = keras_zoo.losses.LDRLoss(temperature=1.0)
    >>> round(float(loss([1], [[2.0, 0.5, -1.0]])), 4)
    0.4408

    Reference: arXiv:2112.14869, section 3; github.com/Optimization-AI/ICML2023_LDR. Differs from
    the official code: the least mean, without which a row of zeros gives NaN.
    """

    def __init__(
        self,
        temperature=10.0,
        margin=0.1,
        normalization="softplus",
        name="ldr_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.margin = check_not_negative("margin", margin)
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"`normalization` must be one of {NORMALIZATIONS}. "
                f"Received: normalization={normalization!r}"
            )
        self.normalization = normalization

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        return self._robust_loss(*check_logits(y_true, y_pred), self.temperature)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "temperature": self.temperature,
            "margin": self.margin,
            "normalization": self.normalization,
        }
        return {**super().get_config(), **own}

    def _normalize(self, y_pred):
        """`f` of the class docstring, from raw scores, and what they were divided by."""
        y_pred = full_precision(y_pred)
        if len(y_pred.shape) != 2 or (y_pred.shape[1] or 0) < 2:
            raise ValueError(
                "`y_pred` must be logits `(N, K)` of at least two classes. "
                f"Received: y_pred of shape {tuple(y_pred.shape)}"
            )
        if self.normalization is None:
            return y_pred, None
        if self.normalization == "softplus":
            y_pred = sizes = ops.softplus(y_pred)
        else:
            sizes = ops.abs(y_pred)
        divisor = ops.maximum(ops.mean(sizes, axis=-1, keepdims=True), SMALLEST_MEAN)
        return y_pred / divisor, divisor

    def _through_normalization(self, gradient, y_pred, f, divisor):
        """The gradient for raw scores from that for `f`, `(N, K)` both."""
        if self.normalization is None:
            return gradient
        # All scores of a row share their mean, but not the least one.
        shared = ops.sum(gradient * f, axis=-1, keepdims=True) / f.shape[1]
        shared = ops.where(divisor > SMALLEST_MEAN, shared, 0.0)
        if self.normalization == "softplus":
            return (gradient - shared) / divisor * ops.sigmoid(y_pred)
        return (gradient - shared * ops.sign(y_pred)) / divisor

    def _robust_loss(self, y_true, y_pred, temperature):
        """`lambda log( 1/K sum_k exp(d_k / lambda) )`, `(N,)`.

        Args:
            y_true: `(N,)` or `(N, 1)`.
            y_pred: raw scores `(N, K)`.
            temperature: float, or `(N,)`.
        """
        own, known = class_ids(y_true, y_pred.shape[1])
        is_own = ops.equal(ops.arange(y_pred.shape[1], dtype="int32"), own[:, None])

        # Written out, since the derivative of each of the two forms of the logarithm, and of the
        # choice between them, is that of one softmax.
        @custom_gradient
        def losses_of(y_pred):
            f, divisor = self._normalize(y_pred)
            own_score = ops.take_along_axis(f, own[:, None], axis=1)
            d = ops.where(is_own, 0.0, f + (self.margin - own_score))
            losses, p = temperature_log_mean_exp(d, temperature)

            def grad(upstream):
                gradient = ops.where(is_own, p - 1, p)
                gradient = self._through_normalization(gradient, y_pred, f, divisor)
                return gradient * upstream[:, None]

            return losses, grad

        return ops.where(known, losses_of(y_pred), float("nan"))


def temperature_log_mean_exp(x, temperature):
    """`temperature * log(mean_k exp(x_k / temperature))` over the last axis, right to its limits.

    Args:
        x: `(N, K)`.
        temperature: float, or `(N,)`.

    Returns:
        `(values, gradients)`, `(N,)` and `(N, K)`.
    """
    if 0 in x.shape:
        return ops.sum(x, axis=-1), x
    temperature = ops.cast(temperature, x.dtype)
    top = ops.amax(x, axis=-1)
    z = (x - top[:, None]) / (temperature[..., None] if temperature.shape else temperature)
    exponentials = ops.exp(z)
    total = ops.sum(exponentials, axis=-1)
    # Near 1 the logarithm needs what the mean is short of 1, in all its digits: a large
    # temperature multiplies what rounding leaves of them.
    short = ops.mean(ops.expm1(z), axis=-1)
    log_mean = ops.where(
        short > -0.5, ops.log1p(ops.maximum(short, -0.5)), ops.log(total / x.shape[-1])
    )
    return top + temperature * log_mean, exponentials / total[:, None]
