"""Harrell's concordance index, of arrays and of batches."""

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_not_negative, is_vector, sizes_agree
from keras_zoo.metrics._survival import check_risks, check_survival
from keras_zoo.ops.scatter import placed


@component(paper="biofusionnet")
def concordance_index(y_true, y_pred, tie_tolerance=1e-8):
    """Share of the pairs of patients whose risks are in the order of their events.

    Patient `i` with an event and `j` are comparable if `t_i < t_j`, or if `t_i = t_j` and `j` is
    censored. With risks `r`:

        C = ( #{r_i > r_j} + #{|r_i - r_j| <= tie_tolerance} / 2 ) / #comparable pairs

    where ties of risks do not count as `r_i > r_j`. Exact, in `O(N log N)`.

    Args:
        y_true: `(N, 2)`, times and events (1 seen, 0 censored).
        y_pred: `(N,)` or `(N, 1)`, risks, higher for an earlier event.
        tie_tolerance: float >= 0.

    Returns:
        A float. NaN without comparable pairs.

    Raises:
        ValueError: an argument is not such an array, or holds NaN.

    Example:
    >>> y_true = [[2, 1], [4, 1], [4, 0], [7, 1]]
    >>> keras_zoo.metrics.concordance_index(y_true, [0.9, 0.6, 0.6, 0.8])
    0.7

    Reference: arXiv:2402.10717, section on results.
    """
    time, event = check_survival("y_true", y_true)
    risk = check_risks("y_pred", y_pred, len(time))
    tie_tolerance = check_not_negative("tie_tolerance", tie_tolerance)
    # Latest first, the censored before the events of their time: who is comparable with a patient
    # stands before the first event of the patient's time.
    order = np.lexsort((event, -time))
    time, event, risk = time[order], event[order], risk[order]
    key = np.stack([-time, event])
    is_new = np.concatenate([[True], np.any(key[:, 1:] != key[:, :-1], axis=0)])
    before = np.maximum.accumulate(np.where(is_new, np.arange(len(time)), 0))[event]
    ranked = np.sort(risk)
    ranks = np.empty(len(risk), "int64")
    ranks[np.argsort(risk, kind="stable")] = np.arange(len(risk))
    below = np.searchsorted(ranked, risk[event] - tie_tolerance, side="left")
    not_above = np.searchsorted(ranked, risk[event] + tie_tolerance, side="right")
    concordant = _count_below(ranks, before, below)
    tied = _count_below(ranks, before, not_above) - concordant
    comparable = before.sum()
    if not comparable:
        return float("nan")
    return float((concordant.sum() + tied.sum() / 2) / comparable)


def _count_below(ranks, lengths, bounds):
    """For each query, how many of the first `length` ranks are below its bound.

    The ranks are a permutation of `0 .. N - 1`. Bit after bit from the highest, they are parted
    into those without it and, behind them, those with it. The ranks of a query stay side by side;
    it follows those of the part that its bound is in, and has counted the others if they are lower.
    """
    counts = np.zeros(len(lengths), "int64")
    ends = np.stack([np.zeros_like(lengths), lengths])
    for bit in reversed(range(len(ranks).bit_length())):
        has_bit = ranks >> bit & 1 == 1
        zeros = np.concatenate([[0], np.cumsum(~has_bit)])
        is_upper, lower = bounds >> bit & 1 == 1, zeros[ends]
        counts += np.where(is_upper, lower[1] - lower[0], 0)
        ends = np.where(is_upper, zeros[-1] + ends - lower, lower)
        ranks = np.concatenate([ranks[~has_bit], ranks[has_bit]])
    return counts


@component(paper="biofusionnet")
class ConcordanceIndex(keras.metrics.Metric):
    """Harrell's concordance index while a network trains.

    The pairs are those of `keras_zoo.metrics.concordance_index`, counted inside of each batch and
    added up over the batches; a batch that holds all gives the index of all.

    Args:
        tie_tolerance: float >= 0. Risks no further apart are equal; they are float32.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`.

    `update_state(y_true, y_pred, sample_weight=None)`: times and events `(N, 2)`, or `(N, 3)`
    whose last column is not used, as `keras_zoo.losses.WeightedCoxLoss` takes them; risks `(N,)`
    or `(N, 1)`. A patient of `sample_weight` 0 makes no pairs; other weights do not matter. Time
    grows with `N log N`.

    `result()` is 0.5 without comparable pairs, and NaN once there was a NaN.

    Raises:
        ValueError: `tie_tolerance` is out of its range; shapes do not fit.

    Example:
    >>> metric = keras_zoo.metrics.ConcordanceIndex()
    >>> metric.update_state([[2, 1], [4, 1], [4, 0], [7, 1]], [0.9, 0.6, 0.6, 0.8])
    >>> round(float(metric.result()), 4)
    0.7

    Reference: arXiv:2402.10717, section on results.
    """

    def __init__(self, tie_tolerance=1e-8, name="c_index", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.tie_tolerance = check_not_negative("tie_tolerance", tie_tolerance)
        # Counts, which half precision could not hold.
        self.concordant, self.comparable = (
            self.add_variable((), initializer="zeros", dtype="float32", name=name)
            for name in ("concordant", "comparable")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts the pairs of one batch."""
        time, event, risk = _checked_batch(y_true, y_pred)
        present = ops.ones_like(event, dtype="bool")
        if sample_weight is not None:
            present = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,)) > 0
        nan = ops.sum(ops.where(ops.isnan(time + risk), float("nan"), 0.0))
        self.concordant.assign_add(nan)
        # Censored without an earlier event: comparable with nobody.
        time = ops.where(present, time, float("-inf"))
        event = ops.logical_and(event, present)
        concordant, comparable = _count_pairs(time, event, risk, self.tie_tolerance)
        self.concordant.assign_add(concordant)
        self.comparable.assign_add(comparable)

    def result(self):
        """The index of all pairs."""
        comparable = ops.convert_to_tensor(self.comparable)
        none = ops.equal(comparable, 0)
        share = self.concordant / ops.where(none, 1.0, comparable)
        return ops.where(none, share + 0.5, share)

    def reset_state(self):
        """Forgets all pairs."""
        self.concordant.assign(0.0)
        self.comparable.assign(0.0)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "tie_tolerance": self.tie_tolerance}


def _checked_batch(y_true, y_pred):
    """Times, float32 `(N,)`, whether the event was seen, bool, and risks, float32."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    truth, risks = tuple(y_true.shape), tuple(y_pred.shape)
    agree = is_vector(risks) and sizes_agree(truth[:1], risks)
    if len(truth) != 2 or truth[1] not in (2, 3) or not agree:
        raise ValueError(
            "`y_true` must hold times and events `(N, 2)` or `(N, 3)`, and `y_pred` risks `(N,)` "
            f"or `(N, 1)`. Received: y_true of shape {truth}, y_pred of shape {risks}"
        )
    y_true = ops.cast(y_true, "float32")
    return y_true[:, 0], y_true[:, 1] > 0.5, ops.reshape(ops.cast(y_pred, "float32"), (-1,))


def _count_pairs(time, event, risk, tolerance):
    """Concordant pairs, tied ones counting half, and comparable pairs of a batch, float32."""
    # Patient i with an event is comparable with those of a greater key.
    key = 2 * _search(ops.sort(time), time) + ops.cast(ops.logical_not(event), "int32")
    order = ops.flip(ops.argsort(key))
    n = ops.shape(key)[0]
    before = ops.take(n - _search(ops.sort(key), key, "right"), order)
    event, risk = ops.cast(ops.take(event, order), "float32"), ops.take(risk, order)
    by_risk = ops.argsort(risk)
    ranked = ops.take(risk, by_risk)
    ranks = placed(ops.arange(n, dtype="int32"), by_risk)
    bounds = [
        _search(ranked, risk - tolerance),
        _search(ranked, risk + tolerance, "right"),
    ]
    counts = _count_below_in_graph(ranks, ops.stack([before, before]), ops.stack(bounds))
    concordant = ops.sum(ops.cast(counts, "float32"), axis=0) / 2
    return ops.sum(event * concordant), ops.sum(event * ops.cast(before, "float32"))


def _count_below_in_graph(ranks, lengths, bounds):
    """As `_count_below`, in tensors."""

    def part(bit, ranks, ends, counts):
        has_bit = ranks // bit % 2
        zeros = ops.cumsum(1 - has_bit)
        lower_part = zeros[-1]
        zeros = ops.concatenate([ops.zeros((1,), "int32"), zeros])
        places = ops.arange(ops.shape(ranks)[0], dtype="int32")
        places = ops.where(has_bit > 0, lower_part + places - zeros[:-1], zeros[:-1])
        is_upper, lower = bounds // bit % 2 > 0, ops.take(zeros, ends)
        counts = counts + ops.where(is_upper, lower[1] - lower[0], 0)
        ends = ops.where(is_upper, lower_part + ends - lower, lower)
        return bit // 2, placed(ranks, places), ends, counts

    n = ops.cast(ops.shape(ranks)[0], "float32")
    # A bit too many does no harm, and rounding might lose one.
    top = ops.cast(ops.power(2.0, ops.floor(ops.log2(n)) + 1), "int32")
    state = top, ranks, ops.stack([ops.zeros_like(lengths), lengths]), ops.zeros_like(lengths)
    return ops.while_loop(lambda bit, *_: bit > 0, part, state)[-1]


def _search(places, x, side="left"):
    # Of a length that it does not know TensorFlow makes int64.
    return ops.cast(ops.searchsorted(places, x, side=side), "int32")
