"""The Kaplan-Meier estimate."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag
from keras_zoo.metrics._survival import check_survival, product_limit


@component(paper="biofusionnet")
def kaplan_meier(y_true, reverse=False):
    """Probability of being without the event after each time, of right-censored times.

        S(t) = prod_{t_k <= t} (1 - d_k / n_k)

    over the different times `t_k`, with `d_k` events at `t_k` and `n_k` patients whose time is
    `t_k` or later.

    Args:
        y_true: `(N, 2)`, times and events (1 seen, 0 censored).
        reverse: bool. True for the curve of censoring, with factors `1 - c_k / (n_k - d_k)` of
            `c_k` censored patients: at one time the events come first. A factor is 1 where no one
            is left.

    Returns:
        `(times, survival)`: the sorted different times `(K,)`, censored ones as well, and the curve
        from each of them on, float64. Before the first time it is 1.

    Raises:
        ValueError: `y_true` is not such an array.

    Example:
    >>> times, survival = keras_zoo.metrics.kaplan_meier([[2, 1], [3, 0], [5, 1], [5, 0]])
    >>> survival.tolist()
    [0.75, 0.75, 0.375]

    Reference: arXiv:2402.10717, section on risk stratification.
    """
    time, event = check_survival("y_true", y_true)
    if check_flag("reverse", reverse):
        return product_limit(time, ~event, event)
    return product_limit(time, event, np.zeros(len(time)))
