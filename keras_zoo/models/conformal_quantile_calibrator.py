"""Intervals that cover as often as they say, by a look at data that were not trained on."""

import warnings

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_flag, check_number
from keras_zoo.ops._quantiles import check_quantiles

METHODS = ("cqr", "cqr-r", "cqr-m")


@component(paper="quantile-aggregation")
class ConformalQuantileCalibrator:
    """Shifts predicted quantiles until the intervals between them cover as often as they say.

    Rows are sorted first. For each pair of levels `tau` and `1 - tau`, with its predictions `l` and
    `u` and the targets `y` of `n` examples that no model was trained on,

        cqr     a = b = 1
        cqr-r   a = b = u - l + epsilon
        cqr-m   a = m - l + epsilon,  b = u - m + epsilon,  m the median

        symmetric      c, of both sides: the k-th smallest of max((l - y) / a, (y - u) / b),
                       k = ceil((n + 1) (1 - 2 tau))
        asymmetric     c of each side: the k-th smallest of its own,  k = ceil((n + 1) (1 - tau))

        new rows       l - c_lower a,  u + c_upper b,  the median as it is; then sorted

    If calibration and new examples are exchangeable, an interval covers a new target with a
    probability of at least `1 - 2 tau`, whatever the models are; of at most `1 / (n + 1)` more for
    "symmetric" if no scores are equal and no quantiles cross. This holds on average over draws of
    the calibration examples, not for each kind of example by itself, and for the intervals before
    the last sort, which changes those alone that cross. Shifts may be negative: intervals that are
    too wide shrink.

    For `n < 1 / (2 tau) - 1` (`1 / tau - 1` if asymmetric) no finite interval is sure to cover so
    often. The largest score is taken then, for a probability of `n / (n + 1)` (asymmetric: on each
    side), with a warning.

    Args:
        quantiles: floats in (0, 1), increasing, and symmetric: `tau_i + tau_{Q-1-i} = 1`.
        method: "cqr", "cqr-r" or "cqr-m", which needs a median, that is an odd number of levels.
        symmetric: bool. Whether both sides of a pair move by the same multiple of their scale.
        epsilon: float > 0. Keeps scales away from 0.

    Attributes, after `fit`:
        lower_, upper_: float64 `(Q // 2,)`, `c` of either side, for pairs from the outermost to the
            innermost.

    `fit(predictions, y)` takes arrays `(n, Q)` and `(n,)` or `(n, 1)`, and returns the calibrator;
    `predict(predictions)` takes `(m, Q)`, and returns float64 `(m, Q)`. All is NumPy.

    Raises:
        ValueError: the levels are not symmetric; an argument is out of its range; arrays do not fit
            together, or hold what is not finite; `predict` comes before `fit`.

    Example:
    >>> levels, y = [0.05, 0.5, 0.95], np.random.default_rng(0).normal(size=500)
    >>> guess = np.tile([-0.1, 0.0, 0.1], (500, 1))  # Much too narrow.
    >>> calibrator = keras_zoo.models.ConformalQuantileCalibrator(levels).fit(guess, y)
    >>> lower, _, upper = calibrator.predict(guess).T
    >>> float(np.mean((lower <= y) & (y <= upper)))
    0.902

    Reference: arXiv:2103.00083, section 4; Romano et al., arXiv:1905.03222. The official code of
    the former has none.
    """

    def __init__(self, quantiles, method="cqr", symmetric=True, epsilon=1e-8):
        self.quantiles = check_quantiles(quantiles)
        levels = np.array(self.quantiles)
        if not np.allclose(levels + levels[::-1], 1, rtol=0, atol=1e-6):
            raise ValueError(
                "`quantiles` must be symmetric: the first and the last add up to 1, and so on. "
                f"Received: quantiles={quantiles!r}"
            )
        self.method = check_choice("method", method, METHODS)
        if method == "cqr-m" and len(levels) % 2 == 0:
            raise ValueError(
                "`quantiles` must hold the median for method='cqr-m'. "
                f"Received: quantiles={quantiles!r}"
            )
        self.symmetric = check_flag("symmetric", symmetric)
        self.epsilon = check_number("epsilon", epsilon, positive=True)

    def fit(self, predictions, y):
        """Finds the shifts on examples that no model was trained on."""
        rows = self._checked_rows(predictions)
        y = np.asarray(y, "float64")
        if y.shape not in ((len(rows),), (len(rows), 1)) or not len(rows) or not _is_finite(y):
            raise ValueError(
                f"`y` must hold one finite number for each of the {len(rows)} rows of "
                f"`predictions`, at least one. Received: y of shape {y.shape}"
            )
        y = y.reshape(-1, 1)
        lower, upper, lower_scale, upper_scale = self._intervals(rows)
        scores = (lower - y) / lower_scale, (y - upper) / upper_scale
        levels = np.array(self.quantiles[: lower.shape[1]])
        if self.symmetric:
            self.lower_ = self.upper_ = _smallest(np.maximum(*scores), 1 - 2 * levels)
        else:
            self.lower_, self.upper_ = (_smallest(score, 1 - levels) for score in scores)
        return self

    def predict(self, predictions):
        """The shifted quantiles, in order."""
        if not hasattr(self, "lower_"):
            raise ValueError(
                "`predict` must come after `fit`. Received: a calibrator that is not fitted"
            )
        rows = self._checked_rows(predictions)
        lower, upper, lower_scale, upper_scale = self._intervals(rows)
        pairs = lower.shape[1]
        shifted = rows.copy()
        shifted[:, :pairs] = lower - self.lower_ * lower_scale
        shifted[:, rows.shape[1] - pairs :] = (upper + self.upper_ * upper_scale)[:, ::-1]
        return np.sort(shifted, axis=1)

    def _checked_rows(self, predictions):
        """Predictions in order, float64."""
        rows = np.asarray(predictions, "float64")
        if rows.shape[1:] != (len(self.quantiles),) or not _is_finite(rows):
            raise ValueError(
                f"`predictions` must be `(n, {len(self.quantiles)})` finite numbers. "
                f"Received: predictions of shape {rows.shape}"
            )
        return np.sort(rows, axis=1)

    def _intervals(self, rows):
        """`l`, `u`, `a` and `b` of all pairs, each `(n, Q // 2)`."""
        pairs = rows.shape[1] // 2
        lower, upper = rows[:, :pairs], rows[:, ::-1][:, :pairs]
        if self.method == "cqr":
            return lower, upper, np.ones_like(lower), np.ones_like(upper)
        if self.method == "cqr-r":
            scale = upper - lower + self.epsilon
            return lower, upper, scale, scale
        median = rows[:, pairs : pairs + 1]
        return lower, upper, median - lower + self.epsilon, upper - median + self.epsilon


def _smallest(scores, coverage):
    """In each column of `(n, K)` the k-th smallest, `k = ceil((n + 1) coverage)`."""
    n = len(scores)
    # Rounding must not take a product that is whole to the next number.
    rank = np.ceil((n + 1) * coverage - 1e-9).astype(int)
    if (rank > n).any():
        warnings.warn(
            f"{n} calibration examples are too few for {coverage[rank > n].tolist()}: an interval "
            f"covers with a probability of {n}/{n + 1} on its own only.",
            stacklevel=3,
        )
    rank = np.minimum(rank, n)
    return np.take_along_axis(np.sort(scores, axis=0), rank[None] - 1, axis=0)[0]


def _is_finite(x):
    return bool(np.isfinite(x).all())
