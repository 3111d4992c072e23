"""The log-rank test of two groups."""

import math

import numpy as np

from keras_zoo._catalog import component
from keras_zoo.metrics._survival import check_per_patient, check_survival


@component(paper="biofusionnet")
def logrank_test(y_true, groups):
    """Whether two groups of patients differ in how early their events are.

    At each of the different times of events, of `n` patients at risk `n1` are of the second group;
    of `d` events `d1` are. Were both groups alike,

        E = sum d n1 / n,    V = sum d (n1 / n) (1 - n1 / n) (n - d) / (n - 1)

    would be mean and variance of `O = sum d1`, and `(O - E)^2 / V` would follow a chi-squared law
    with one degree of freedom.

    Args:
        y_true: `(N, 2)`, times and events (1 seen, 0 censored).
        groups: `(N,)` or `(N, 1)`, bool, or 0 and 1.

    Returns:
        `(statistic, p_value)`, floats; `(0.0, 1.0)` where `V` is 0, as it is with one group alone
        or without events.

    Raises:
        ValueError: an argument is not such an array.

    Example:
    >>> y_true = [[1, 1], [2, 1], [3, 1], [8, 1], [9, 0], [9, 1]]
    >>> statistic, p_value = keras_zoo.metrics.logrank_test(y_true, [1, 1, 1, 0, 0, 0])
    >>> round(p_value, 3)
    0.025

    Reference: arXiv:2402.10717, section on risk stratification.
    """
    time, event = check_survival("y_true", y_true)
    groups = check_per_patient("groups", groups, len(time))
    if not np.isin(groups, (0, 1)).all():
        raise ValueError(
            f"`groups` must be bool, or 0 and 1. Received: groups={groups[:5].tolist()}.."
        )
    times, place = np.unique(time, return_inverse=True)

    def count(mask):
        return np.bincount(place, mask, minlength=len(times))

    def at_risk(mask):
        return np.cumsum(count(mask)[::-1])[::-1]

    second = groups > 0
    n, d = at_risk(np.ones(len(time))), count(event)
    share = at_risk(second) / n
    excess = (count(event & second) - d * share).sum()
    # One patient alone has no variance: the factor n - d is 0 then.
    variance = (d * share * (1 - share) * (n - d) / np.maximum(n - 1, 1)).sum()
    if variance <= 0:
        return 0.0, 1.0
    statistic = float(excess**2 / variance)
    return statistic, math.erfc(math.sqrt(statistic / 2))
