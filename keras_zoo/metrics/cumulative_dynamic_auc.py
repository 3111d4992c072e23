"""Time-dependent area under the ROC curve."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo.metrics._survival import check_risks, check_survival, step_values
from keras_zoo.metrics.kaplan_meier import kaplan_meier

TIE = 1e-8


@component(paper="biofusionnet")
def cumulative_dynamic_auc(y_train, y_true, y_pred, times):
    """How well risks tell those with an event until a time from those without one so far.

    At time `s` the cases are `{i: t_i <= s, e_i = 1}` and the controls `{j: t_j > s}`:

        AUC(s) = sum_{case i, control j} v_i ([r_i > r_j] + [r_i = r_j] / 2)
                 / ( sum_{case i} v_i  #controls ),      v_i = 1 / G(t_i)

    where `G` is the Kaplan-Meier curve of censoring of `y_train`: a case counts for those like it
    who were censored before. The mean over the times `s_1 < .. < s_K` weighs each by how much the
    Kaplan-Meier curve `S` of `y_true` falls up to it:

        mean = sum_k AUC(s_k) (S(s_{k-1}) - S(s_k)) / (1 - S(s_K)),     S(s_0) = 1

    Args:
        y_train: `(M, 2)`, times and events (1 seen, 0 censored) that tell of the censoring.
        y_true: `(N, 2)`, likewise, of those who are judged.
        y_pred: `(N,)` or `(N, 1)`, risks, higher for an earlier event. Those no further apart
            than 1e-8 are equal.
        times: `(K,)`, or a number.

    Returns:
        `(auc, mean)`: `(K,)` in the order of the sorted times, and a float. NaN where there are no
        cases; so is the mean then.

    Raises:
        ValueError: an argument is not such an array; a time has no controls; everybody of `y_train`
            is censored before an event of `y_true`, whose weight would be infinite.

    Example:
    >>> y = [[1, 1], [2, 1], [3, 0], [4, 1], [5, 0]]
    >>> auc, mean = keras_zoo.metrics.cumulative_dynamic_auc(y, y, [5, 1, 2, 3, 0], [2.5, 4.5])
    >>> auc.round(3).tolist(), round(mean, 3)
    ([0.667, 1.0], 0.833)

    Reference: arXiv:2402.10717, section on results.
    """
    check_survival("y_train", y_train)
    time, event = check_survival("y_true", y_true)
    risk = check_risks("y_pred", y_pred, len(time))
    times = np.unique(np.asarray(times, "float64"))
    if not len(times) or not np.isfinite(times).all() or times[-1] >= time.max():
        raise ValueError(
            "`times` must be finite, and below the last time of `y_true`, after which there are "
            f"no controls. Received: times={times.tolist()}, last time {time.max()}"
        )
    weight = _inverse_censoring(y_train, time, event & (time <= times[-1]))
    areas = np.array([_area(time, event, risk, weight, s) for s in times])
    if len(times) == 1:
        return areas, float(areas[0])
    curve = np.concatenate([[1.0], step_values(*kaplan_meier(y_true), times)])
    fall = curve[0] - curve[-1]
    return areas, float(np.sum(areas * -np.diff(curve)) / fall) if fall else float("nan")


def _inverse_censoring(y_train, time, wanted):
    """`1 / G` at the times that are wanted, 0 elsewhere."""
    uncensored = step_values(*kaplan_meier(y_train, reverse=True), time)
    if np.any(wanted & (uncensored <= 0)):
        late = time[wanted & (uncensored <= 0)].min()
        raise ValueError(
            "`y_train` must hold patients who are not censored before the events of `y_true`. "
            f"Received: an event at {late}, where all of `y_train` are censored"
        )
    return np.where(wanted, 1 / np.where(uncensored > 0, uncensored, 1.0), 0.0)


def _area(time, event, risk, weight, s):
    """`AUC(s)`."""
    case, controls = event & (time <= s), np.sort(risk[time > s])
    if not case.any():
        return np.nan
    below = np.searchsorted(controls, risk[case] - TIE, side="left")
    not_above = np.searchsorted(controls, risk[case] + TIE, side="right")
    shares = (below + not_above) / 2 / len(controls)
    return np.sum(weight[case] * shares) / np.sum(weight[case])
