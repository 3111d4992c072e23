"""Weighted Cox loss for right-censored times (Mondol et al., 2024)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_number, is_vector, sizes_agree
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._risk_sets import RiskSets
from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import nan_if_nan


@component(paper="biofusionnet")
class WeightedCoxLoss(ZooLoss):
    """Negative partial log-likelihood of the Cox model, with a weight for each patient.

    With times `t` `(N,)`, events `e` (1 seen, 0 censored), log-hazards `r` `(N,)` (higher for an
    earlier event), weights `w` and `W = sum_i w_i e_i`:

        D_i    = sum_{j in R_i} w_j exp(r_j)
        loss_i = -(N / W) e_i w_i (r_i - log D_i)

    Efron's correction for `m` events at one time, whose `w exp(r)` sum up to `s` and whose weights
    have the mean `v`, puts in the place of `w_i log D_i`

        v / m  sum_{l=0}^{m-1} log(D_i - (l / m) s)

    Args:
        event_weight: float > 0. `w_i` of patients with an event.
        censored_weight: float > 0. `w_i` of the censored ones. Only the ratio of both matters to
            the gradient.
        ties: "breslow", or "efron", which is nearer to the exact likelihood where many events
            share a time.
        risk_set: "time" for `R_i = {j: t_j >= t_i}`, or "score" for `{j: r_j >= r_i}`, as in the
            official code: that makes no use of the times, and is here to reproduce its figures.
        reduction: as in `keras.losses.Loss`.
        name: name of the loss.
        dtype: as in `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N, 2)` of times and events, or `(N, 3)` with weights `w_i >= 0` as the third
    column, which replace the two of the constructor; `y_pred` `(N,)` or `(N, 1)`. Keras casts
    times to the loss's dtype: those that float32 cannot tell apart are ties. All patients of the
    batch meet, so batches should be large; memory grows with `N`, time with `N log N`.

    Output before reduction: `(N,)`, 0 for the censored. Without any event, all is 0, and so is the
    gradient. A weight of 0 takes a patient out of every `D_i`. Adding a number to all `r` changes
    nothing, and `r` may span any range. Keras's `sample_weight` multiplies `loss_i` alone. NaN in
    an input gives NaN for all.

    Raises:
        ValueError: an argument is out of its range; `ties="efron"` with `risk_set="score"`;
            `y_true` and `y_pred` do not fit together.

    Example:
    >>> loss = keras_zoo.losses.WeightedCoxLoss(event_weight=1.0)
    >>> y_true = [[5.0, 1.0], [2.0, 1.0], [7.0, 0.0]]  # years, and whether the event was seen
    >>> round(float(loss(y_true, [0.5, 1.0, -1.0])), 4)
    0.3782

    Reference: arXiv:2402.10717; github.com/raktim-mondol/BioFusionNet, `weighted_cox_loss.py`.
    Differs from the official code, which orders by score, gives every patient the weight 5, has NaN
    without events, and treats no ties.
    """

    def __init__(
        self,
        event_weight=5.0,
        censored_weight=1.0,
        ties="breslow",
        risk_set="time",
        reduction="sum_over_batch_size",
        name="weighted_cox_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.event_weight = check_number("event_weight", event_weight, positive=True)
        self.censored_weight = check_number("censored_weight", censored_weight, positive=True)
        self.ties = check_choice("ties", ties, ("breslow", "efron"))
        self.risk_set = check_choice("risk_set", risk_set, ("time", "score"))
        if ties == "efron" and risk_set == "score":
            raise ValueError(
                "`ties` must be 'breslow' for the risk sets of scores. "
                f"Received: ties={ties!r}, risk_set={risk_set!r}"
            )

    def call(self, y_true, y_pred):
        """Loss of each patient, `(N,)`."""
        y_true, y_pred = full_precision(y_true), full_precision(y_pred)
        _check(tuple(y_true.shape), tuple(y_pred.shape))
        risk = ops.reshape(y_pred, (-1,))
        if 0 in risk.shape:
            return risk
        nan = nan_if_nan(risk) + ops.cast(nan_if_nan(y_true), risk.dtype)
        risk = ops.where(ops.isnan(risk), 0.0, risk)
        y_true = ops.cast(ops.where(ops.isnan(y_true), 0.0, y_true), risk.dtype)
        is_event, weight = self._events_and_weights(y_true)
        # A weight of 0 is a term of 0.
        weighs = weight > 0
        scores = ops.where(weighs, risk + ops.log(ops.where(weighs, weight, 1.0)), LOWEST)
        sets = RiskSets(y_true[:, 0] if self.risk_set == "time" else risk)
        log_sums = sets.log_sums(scores)
        event_weight = ops.where(is_event, weight, 0.0)
        if self.ties == "efron":
            terms = _efron_terms(sets, scores, log_sums, event_weight)
        else:
            terms = event_weight * log_sums
        total = ops.sum(event_weight)
        scale = ops.cast(ops.shape(risk)[0], risk.dtype) / ops.where(total > 0, total, 1.0)
        return scale * (terms - event_weight * risk) + nan

    def _events_and_weights(self, y_true):
        is_event = y_true[:, 1] > 0.5
        if y_true.shape[1] == 3:
            return is_event, y_true[:, 2]
        return is_event, ops.where(is_event, self.event_weight, self.censored_weight)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "event_weight": self.event_weight,
            "censored_weight": self.censored_weight,
            "ties": self.ties,
            "risk_set": self.risk_set,
        }
        return {**super().get_config(), **own}


def _efron_terms(sets, scores, log_sums, event_weight):
    """What stands for `w_i log D_i`: shared evenly by the events of one time."""
    weight, log_sums = sets.sort(event_weight), sets.sort(log_sums)
    is_event = weight > 0
    count, rank = sets.count_runs(is_event)
    count = ops.cast(ops.maximum(count, 1), weight.dtype)
    # The events' part of D_i, which is at most all of it.
    part = ops.where(is_event, ops.exp(sets.sort(scores) - log_sums), 0.0)
    part = ops.minimum(sets.run_sums(part), 1.0)
    lost = ops.log1p(-ops.cast(rank, weight.dtype) / count * part)
    lost = sets.run_sums(ops.where(is_event, lost, 0.0)) / count
    mean_weight = sets.run_sums(weight) / count
    return sets.unsort(ops.where(is_event, mean_weight * (log_sums + lost), 0.0))


def _check(y_true, y_pred):
    agree = is_vector(y_pred) and sizes_agree(y_true[:1], y_pred)
    if len(y_true) != 2 or y_true[1] not in (2, 3) or not agree:
        raise ValueError(
            "`y_true` must hold times and events `(N, 2)`, or weights as well `(N, 3)`, and "
            "`y_pred` one log-hazard for each, `(N,)` or `(N, 1)`. "
            f"Received: y_true of shape {y_true}, y_pred of shape {y_pred}"
        )
