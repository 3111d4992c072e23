"""Searching the density of weighted convolutions."""

import math

from keras_zoo._catalog import component
from keras_zoo._checks import check_count

# The README of the authors' code, outermost ring first.
_BOUNDS = {
    3: ((0.5, 1.5),),
    5: ((0.05, 1.0), (0.5, 1.5)),
    7: ((0.05, 0.5), (0.15, 1.0), (0.25, 1.5)),
}


@component(paper="weighted-conv")
class DensitySearch:
    """Finds the density of a weighted convolution that minimises a validation loss.

        best = argmin_{d in bounds} objective(d)

    by DIRECT-L, locally biased dividing rectangles, which needs no gradient and no start, and
    asks for the same points in each run. The objective builds and trains a model with the density
    that it is given, and returns the loss on *validation* data.

    Args:
        objective: function of a tuple of `(k - 1) / 2` floats, outermost ring first, to a number.
            A value that is not finite counts as infinitely bad. What it raises ends the search.
        kernel_size: odd int `k`, at least 3.
        bounds: one pair `(lowest, highest)` for each ring. None for the authors' ranges, which
            there are for kernels of 3, 5 and 7.
        max_evaluations: positive int. The objective is never called more often.

    Attributes, after `fit`:
        best_density_: list of floats. Of equal values the first one tried.
        best_value_: float, the objective there. Infinite if no value was finite; `best_density_`
            then is the first one tried.
        history_: list of `(density, value)` in the order of the calls.

    Raises:
        ValueError: the objective cannot be called, `kernel_size` is even or too small, `bounds`
            are missing, too few, not finite or empty, or `max_evaluations` is not a positive int.

    Example:
    >>> search = keras_zoo.trainers.DensitySearch(lambda d: (d[0] - 0.8) ** 2, kernel_size=3)
    >>> [round(d, 2) for d in search.fit().best_density_]
    [0.8]

    Reference: arXiv:2505.24527 (DIRECT-L over the density, in turns with the training of the
    kernels; here each evaluation trains by itself), with SciPy's `direct`.
    """

    def __init__(self, objective, kernel_size=3, bounds=None, max_evaluations=30):
        if not callable(objective):
            raise ValueError(f"`objective` must be a function. Received: objective={objective!r}")
        kernel_size = check_count("kernel_size", kernel_size)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(
                "`kernel_size` must be an odd int of at least 3, since smaller kernels have no "
                f"density. Received: kernel_size={kernel_size!r}"
            )
        max_evaluations = check_count("max_evaluations", max_evaluations)
        self.objective = objective
        self.kernel_size = kernel_size
        self.bounds = _checked_bounds(bounds, self.kernel_size)
        self.max_evaluations = max_evaluations

    def fit(self):
        """Searches, from the start each time.

        Returns:
            The search itself.

        Raises:
            ImportError: SciPy is not installed.
        """
        try:
            from scipy.optimize import direct
        except ImportError as error:
            raise ImportError("DensitySearch needs SciPy: `pip install scipy`") from error
        self.history_ = []
        direct(
            self._evaluate,
            self.bounds,
            maxfun=self.max_evaluations,
            # Rectangles are divided until the evaluations are spent: no other limit shall end it.
            maxiter=10 * self.max_evaluations,
            locally_biased=True,
            vol_tol=0.0,
            len_tol=0.0,
            callback=lambda _: len(self.history_) >= self.max_evaluations,
        )
        density, self.best_value_ = min(self.history_, key=lambda entry: entry[1])
        self.best_density_ = list(density)
        return self

    def _evaluate(self, point):
        # SciPy finishes the division that it is at, and so calls more often than `maxfun`.
        if len(self.history_) >= self.max_evaluations:
            return math.inf
        density = tuple(float(d) for d in point)
        value = float(self.objective(density))
        value = value if math.isfinite(value) else math.inf
        self.history_.append((density, value))
        return value


def _checked_bounds(bounds, kernel_size):
    """The bounds as pairs of floats, or those of the authors."""
    rings = (kernel_size - 1) // 2
    if bounds is None:
        if kernel_size not in _BOUNDS:
            raise ValueError(
                f"`bounds` must be given for kernels of other sizes than {sorted(_BOUNDS)}. "
                f"Received: kernel_size={kernel_size}, bounds=None"
            )
        return _BOUNDS[kernel_size]
    try:
        pairs = tuple((float(low), float(high)) for low, high in bounds)
    except (TypeError, ValueError):
        pairs = ()
    sound = all(-math.inf < low < high < math.inf for low, high in pairs)
    if len(pairs) != rings or not sound:
        raise ValueError(
            f"`bounds` must be {rings} pairs `(lowest, highest)` of finite numbers, outermost ring "
            f"first. Received: bounds={bounds!r}"
        )
    return pairs
