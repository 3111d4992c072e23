import fractions
import math

import numpy as np
import pytest

from keras_zoo.models import ConformalQuantileCalibrator
from tests.harness import golden

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]
RNG = np.random.default_rng(0)
P, Y, NEW = RNG.normal(size=(60, 5)), RNG.normal(size=60), RNG.normal(size=(7, 5))
METHODS = ["cqr", "cqr-r", "cqr-m"]


def naive(p, y, new, method, symmetric):
    """Row by row, pair by pair; ranks by fractions. Returns the shifts and the shifted rows."""
    n, pairs = len(y), len(LEVELS) // 2

    def parts(row, i):
        lower, median, upper = row[i], row[2], row[-1 - i]
        scales = {
            "cqr": (1, 1),
            "cqr-r": (upper - lower + 1e-8, upper - lower + 1e-8),
            "cqr-m": (median - lower + 1e-8, upper - median + 1e-8),
        }
        return lower, upper, *scales[method]

    shifts = []
    for i in range(pairs):
        low, high = [], []
        for row, target in zip(p.tolist(), y, strict=True):
            lower, upper, a, b = parts(sorted(row), i)
            low.append((lower - target) / a)
            high.append((target - upper) / b)
        tau = fractions.Fraction(str(LEVELS[i]))
        rank = min(n, math.ceil((n + 1) * (1 - (2 if symmetric else 1) * tau)))
        if symmetric:
            low = high = [max(pair) for pair in zip(low, high, strict=True)]
        shifts.append((sorted(low)[rank - 1], sorted(high)[rank - 1]))
    rows = []
    for row in new.tolist():
        row = sorted(row)
        out = list(row)
        for i, (c_low, c_high) in enumerate(shifts):
            lower, upper, a, b = parts(row, i)
            out[i], out[-1 - i] = lower - c_low * a, upper + c_high * b
        rows.append(sorted(out))
    return np.array(shifts), np.array(rows)


@pytest.mark.parametrize("name", ["conformal_cqr", "conformal_cqr_m_asymmetric"])
def test_matches_exact_ranks(name):
    g = golden("quantile-aggregation", name)
    calibrator = ConformalQuantileCalibrator(
        g["quantiles"], str(g["method"]), bool(g["symmetric"])
    ).fit(g["calibration_predictions"], g["calibration_y"])
    np.testing.assert_allclose(calibrator.lower_, g["lower"], rtol=1e-9)
    np.testing.assert_allclose(calibrator.upper_, g["upper"], rtol=1e-9)
    np.testing.assert_allclose(calibrator.predict(g["test_predictions"]), g["output"], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_matches_plain_loops(method, symmetric):
    calibrator = ConformalQuantileCalibrator(LEVELS, method, symmetric)
    for n in (20, 39, 60):
        assert calibrator.fit(P[:n], Y[:n, None]) is calibrator
        shifts, rows = naive(P[:n], Y[:n], NEW, method, symmetric)
        np.testing.assert_allclose(calibrator.lower_, shifts[:, 0], rtol=1e-12)
        np.testing.assert_allclose(calibrator.upper_, shifts[:, 1], rtol=1e-12)
        np.testing.assert_allclose(calibrator.predict(NEW), rows, rtol=1e-12)


def test_ranks_that_are_whole_numbers():
    """`(n + 1)(1 - 2 tau)` of .1 and 9 rows is 8, which floating point takes for a bit more."""
    for tau in (0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.45):
        exact = fractions.Fraction(str(tau))
        for n in (9, 19, 29, 39, 99, 199, 999):
            scores = np.arange(1.0, n + 1)
            predictions = np.stack([scores, scores + 0.25], axis=1)
            fitted = ConformalQuantileCalibrator([tau, 1 - tau]).fit(predictions, np.zeros(n))
            assert fitted.lower_[0] == math.ceil((n + 1) * (1 - 2 * exact))


def simulated_coverage(n, method, symmetric, levels, repeats=1500):
    """Share of new targets in each pair's interval, for each of many calibration samples.

    Spread and centre depend on x, and the quantiles that are calibrated are wrong.
    """
    rng = np.random.default_rng(7)
    count, pairs = len(levels), len(levels) // 2
    guess = np.linspace(-0.4, 0.7, count)
    covered = np.empty((repeats, pairs))
    for repeat in range(repeats):
        x = rng.uniform(0.5, 2, size=n + 50)
        y = x + x * rng.standard_t(3, size=n + 50)
        p = x[:, None] ** 2 + guess
        fitted = ConformalQuantileCalibrator(levels, method, symmetric).fit(p[:n], y[:n])
        new, target = fitted.predict(p[n:]), y[n:]
        for i in range(pairs):
            covered[repeat, i] = np.mean((new[:, i] <= target) & (target <= new[:, -1 - i]))
    return covered.mean(axis=0), covered.std(axis=0) / math.sqrt(repeats)


@pytest.mark.parametrize("method", ["cqr", "cqr-r"])
@pytest.mark.parametrize("n", [19, 28])
def test_coverage_of_one_pair_is_as_guaranteed(method, n):
    """It is `k / (n + 1)`, between the level and `1 / (n + 1)` more, up to simulation error."""
    mean, error = simulated_coverage(n, method, True, [0.1, 0.9])
    exact = math.ceil((n + 1) * fractions.Fraction(8, 10)) / (n + 1)
    assert 0.8 <= exact < 0.8 + 1 / (n + 1)
    assert abs(mean[0] - exact) < 4 * error[0]
    assert error[0] < 0.004


@pytest.mark.parametrize("symmetric", [True, False])
def test_coverage_of_several_pairs(symmetric):
    mean, error = simulated_coverage(39, "cqr-m", symmetric, LEVELS)
    assert (mean > np.array([0.9, 0.5]) - 3 * error).all()


def test_intervals_that_are_too_wide_shrink():
    y = RNG.normal(size=400)
    wide = np.tile([-9.0, 0.0, 9.0], (400, 1))
    calibrator = ConformalQuantileCalibrator([0.05, 0.5, 0.95]).fit(wide, y)
    assert calibrator.lower_[0] < 0
    lower, median, upper = calibrator.predict(wide).T
    assert (median == 0).all()
    assert upper[0] - lower[0] < 5
    assert ((lower <= y) & (y <= upper)).mean() == pytest.approx(0.9, abs=0.01)


def test_too_few_rows_take_the_largest_score_and_say_so():
    p, y = P[:5], Y[:5]
    with pytest.warns(UserWarning, match=r"5 calibration examples are too few for \[0.9\]"):
        calibrator = ConformalQuantileCalibrator(LEVELS).fit(p, y)
    p = np.sort(p, axis=1)
    assert calibrator.lower_[0] == np.maximum(p[:, 0] - y, y - p[:, -1]).max()


def test_equal_quantiles_and_one_level():
    same = np.ones((20, 5))
    for method in METHODS:
        calibrator = ConformalQuantileCalibrator(LEVELS, method).fit(same, Y[:20])
        rows = calibrator.predict(same)
        assert np.isfinite(rows).all()
        assert (np.diff(rows, axis=1) >= 0).all()
    alone = ConformalQuantileCalibrator([0.5]).fit(P[:, :1], Y)
    np.testing.assert_array_equal(alone.predict(NEW[:, :1]), NEW[:, :1])


@pytest.mark.parametrize(
    ("levels", "kwargs"),
    [
        ([0.9, 0.1], {}),
        ([0.1, 0.8], {}),
        ([0.1, 0.6, 0.9], {}),
        ([0.1, 0.9], {"method": "cqr-m"}),
        (LEVELS, {"method": "cv"}),
        (LEVELS, {"symmetric": 1}),
        (LEVELS, {"epsilon": 0}),
    ],
)
def test_bad_arguments(levels, kwargs):
    name = "quantiles" if levels != LEVELS else next(iter(kwargs))
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}="):
        ConformalQuantileCalibrator(levels, **kwargs)


def test_bad_arrays():
    calibrator = ConformalQuantileCalibrator(LEVELS)
    with pytest.raises(ValueError, match=r"`predict` must come after `fit`.*Received: "):
        calibrator.predict(NEW)
    hole = P.copy()
    hole[3, 3] = np.nan
    for predictions in (hole, P[:, :4], P[0]):
        with pytest.raises(ValueError, match=r"`predictions` must be .*Received: predictions of"):
            calibrator.fit(predictions, Y)
    for y in (Y[:-1], hole[:, 3], P, Y[:0]):
        with pytest.raises(ValueError, match=r"`y` must hold .*Received: y of shape"):
            calibrator.fit(P, y)
    with pytest.raises(ValueError, match=r"`y` must hold .*Received: y of shape"):
        calibrator.fit(P[:0], Y[:0])
