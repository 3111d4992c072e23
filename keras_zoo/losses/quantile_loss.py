"""Pinball loss of several quantiles at once, with a penalty for those that cross."""

import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_not_negative
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops._quantiles import check_quantile_batch, check_quantiles, pinball


@component(paper="quantile-aggregation")
class QuantileLoss(ZooLoss):
    """Mean pinball loss of `Q` predicted quantiles, and what they lack to be in order.

    With levels `tau` `(Q,)`, target `y`, predictions `p` `(Q,)`, `e = y - p`, per example

        loss  = 1/Q sum_q max(tau_q e_q, (tau_q - 1) e_q)
        cross = 2 / (Q (Q - 1)) sum_{lo < hi} max(0, p_lo - p_hi + delta_{lo, hi})
        total = loss + crossing_weight * cross

    and with `a = huber_delta > 0`, smooth around `e = 0`,

        loss  = 1/Q sum_q h(e_q) * (tau_q if e_q >= 0 else 1 - tau_q)
        h(e)  = e^2 / (2 a) where |e| < a, else |e| - a / 2

    Args:
        quantiles: floats in (0, 1), increasing: the levels.
        huber_delta: float >= 0. 0 is the pinball loss.
        crossing_weight: float >= 0. Weight of the penalty over all pairs of levels.
        crossing_margin: float >= 0, the `delta` of all pairs, in units of `y`; or `Q` floats `m`,
            for `delta_{lo, hi} = max(0, m_hi - m_lo)`.
        reduction: as in `keras.losses.Loss`.
        name: name of the loss.
        dtype: as in `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N,)` or `(N, 1)`; `y_pred` `(N, Q)`, in the order of the levels.

    Output before reduction: `(N,)`, at least 0. One level alone has no pairs, and so no penalty.
    NaN in a row gives NaN for it. At `e = 0` the slope of the pinball loss in `p` is `-tau`.

    Raises:
        ValueError: the levels do not increase in (0, 1); another argument is out of its range;
            `y_true` and `y_pred` do not fit together.

    Example:
    >>> loss = keras_zoo.losses.QuantileLoss([0.1, 0.5, 0.9])
    >>> round(float(loss([2.0], [[1.0, 2.5, 4.0]])), 4)
    0.1833

    Reference: arXiv:2103.00083, sections 2 and 4; github.com/amazon-research/quantile-aggregation.
    Differs from the official code: none.
    """

    def __init__(
        self,
        quantiles,
        huber_delta=0.0,
        crossing_weight=0.0,
        crossing_margin=0.0,
        reduction="sum_over_batch_size",
        name="quantile_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.quantiles = check_quantiles(quantiles)
        self.huber_delta = check_not_negative("huber_delta", huber_delta)
        self.crossing_weight = check_not_negative("crossing_weight", crossing_weight)
        self.crossing_margin = _check_margin(crossing_margin, len(self.quantiles))

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        y_true, y_pred = check_quantile_batch(y_true, y_pred, len(self.quantiles))
        errors = y_true - y_pred
        if self.huber_delta:
            # The slopes of the pinball loss are those of `sign(e) h(e)` too.
            errors = ops.sign(errors) * _huber(ops.abs(errors), self.huber_delta)
        # No mean, for the same reason as no minimum below.
        loss = ops.sum(pinball(errors, self.quantiles), axis=-1) / len(self.quantiles)
        if self.crossing_weight and len(self.quantiles) > 1:
            loss = loss + self.crossing_weight * self._crossing(y_pred)
        return loss

    def _crossing(self, y_pred):
        """How far pairs of quantiles are from being in order, `(N,)`."""
        count = len(self.quantiles)
        margin = ops.convert_to_tensor(self.crossing_margin, dtype=y_pred.dtype)
        if len(margin.shape) == 1:
            margin = ops.relu(margin[None, :] - margin[:, None])
        lacks = ops.relu(y_pred[:, :, None] - y_pred[:, None, :] + margin)
        places = ops.arange(count)
        lacks = ops.where(places[:, None] < places[None, :], lacks, 0.0)
        return ops.sum(lacks, axis=(1, 2)) * (2 / (count * (count - 1)))

    def get_config(self):
        """The constructor's arguments."""
        margin = self.crossing_margin
        return {
            **super().get_config(),
            "quantiles": list(self.quantiles),
            "huber_delta": self.huber_delta,
            "crossing_weight": self.crossing_weight,
            "crossing_margin": list(margin) if isinstance(margin, tuple) else margin,
        }


def _huber(sizes, delta):
    """`h` of the docstring, for errors of these sizes."""
    inner = ops.clip(sizes, 0.0, delta)  # No minimum, which on torch is never float64.
    return inner / delta * (sizes - inner / 2)


def _check_margin(margin, count):
    """A number of at least 0, or a tuple of one number for each level."""
    if not isinstance(margin, (list, tuple, np.ndarray)):
        return check_not_negative("crossing_margin", margin)
    values = np.asarray(margin)
    sound = values.shape == (count,) and values.dtype.kind in "if" and np.isfinite(values).all()
    if not sound:
        raise ValueError(
            f"`crossing_margin` must be a number of at least 0, or {count} finite ones, one for "
            f"each level. Received: crossing_margin={margin!r}"
        )
    return tuple(float(value) for value in values)
