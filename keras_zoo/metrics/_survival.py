"""What the metrics of right-censored times share."""

import numpy as np


def check_survival(name, y):
    """Times, float64 `(N,)`, and whether the event was seen, bool `(N,)`."""
    y = np.asarray(y, "float64")
    if y.ndim != 2 or y.shape[1] != 2 or not len(y):
        raise ValueError(
            f"`{name}` must hold times and events, `(N, 2)`. Received: {name} of shape {y.shape}"
        )
    if not np.isfinite(y[:, 0]).all() or not np.isin(y[:, 1], (0, 1)).all():
        raise ValueError(
            f"`{name}` must hold finite times, and events that are 0 or 1. "
            f"Received: {name}={y[:5].tolist()}.."
        )
    return y[:, 0], y[:, 1] > 0


def check_per_patient(name, x, count):
    """A vector of one entry for each patient."""
    x = np.asarray(x)
    if x.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"`{name}` must be `(N,)` or `(N, 1)`, with an entry for each of the {count} patients. "
            f"Received: {name} of shape {x.shape}"
        )
    return x.reshape(-1)


def check_risks(name, x, count):
    """`check_per_patient` for float64 without NaN."""
    x = check_per_patient(name, x, count).astype("float64")
    if np.isnan(x).any():
        raise ValueError(f"`{name}` must not hold NaN. Received: {name}={x[:5].tolist()}..")
    return x


def product_limit(time, counted, leaving_first):
    """Sorted unique times, and the product of `1 - counted / at risk` up to each.

    Args:
        time: `(N,)`.
        counted: bool `(N,)`, what lowers the curve.
        leaving_first: bool `(N,)`, what is no longer at risk when those of the same time are
            counted.
    """
    times, place = np.unique(time, return_inverse=True)
    bins = len(times)
    every = np.bincount(place, minlength=bins)
    at_risk = len(time) - np.cumsum(every) + every
    at_risk = at_risk - np.bincount(place, leaving_first, minlength=bins)
    lost = np.bincount(place, counted, minlength=bins)
    return times, np.cumprod(1 - lost / np.maximum(at_risk, 1))


def step_values(times, values, at):
    """A curve that is 1 before `times[0]` and `values[k]` from `times[k]` on, at some times."""
    return np.concatenate([[1.0], values])[np.searchsorted(times, at, side="right")]
