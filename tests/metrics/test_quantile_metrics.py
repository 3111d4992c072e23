import keras
import numpy as np
import pytest

from keras_zoo.losses import QuantileLoss
from keras_zoo.metrics import QuantileCalibrationError, WeightedIntervalScore
from tests.harness import assert_close, golden

RNG = np.random.default_rng(0)
LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]
Y, P = RNG.normal(size=30), RNG.normal(size=(30, 5))
WEIGHTS = RNG.random(30)
BOTH = [WeightedIntervalScore, QuantileCalibrationError]


def interval_scores(y, p, weights):
    """Mean weighted interval score from intervals and the median, by plain loops."""
    total = 0.0
    for target, row, weight in zip(y, p, weights, strict=True):
        score = abs(target - row[2]) / 2
        for k in range(2):
            lower, upper, alpha = row[k], row[4 - k], 2 * LEVELS[k]
            score += alpha / 2 * (upper - lower)
            score += max(0.0, lower - target) + max(0.0, target - upper)
        total += weight * score / 2.5
    return total / sum(weights)


def calibration_error(y, p, weights):
    error = 0.0
    for q, tau in enumerate(LEVELS):
        below = sum(w for a, row, w in zip(y, p, weights, strict=True) if a <= row[q])
        error += abs(below / sum(weights) - tau) / 5
    return error


def result(cls, y, p, weights=None, **kwargs):
    metric = cls(LEVELS, **kwargs)
    metric.update_state(y, p, weights)
    return float(metric.result())


def test_matches_the_official_code():
    g = golden("quantile-aggregation", "metrics")
    y, p = g["y_true"], g["y_pred"]
    assert result(WeightedIntervalScore, y, p) == pytest.approx(float(g["wis"]), rel=1e-5)
    total = result(WeightedIntervalScore, y, p, normalize=False)
    assert total == pytest.approx(float(g["wis_sum"]), rel=1e-5)
    error = result(QuantileCalibrationError, y, p)
    assert error == pytest.approx(float(g["calibration_error"]), rel=1e-5)
    # The same figures from the scores of the intervals.
    score = np.mean(np.abs(y - p[:, 2])) / 2 + np.dot(LEVELS[:2], g["interval_scores"])
    assert score / 2.5 == pytest.approx(float(g["wis"]))
    assert 2 * g["pinball_per_quantile"].mean() == pytest.approx(float(g["wis"]))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_matches_plain_loops(weights):
    used = np.ones(30) if weights is None else weights
    expected = interval_scores(Y, P, used)
    assert result(WeightedIntervalScore, Y, P, weights) == pytest.approx(expected, rel=1e-5)
    expected = calibration_error(Y, P, used)
    assert result(QuantileCalibrationError, Y, P, weights) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cls", BOTH)
def test_batches_add_up(cls):
    metric = cls(LEVELS)
    assert float(metric.result()) == 0
    metric.update_state(Y[:7], P[:7], WEIGHTS[:7])
    metric.update_state(Y[7:, None], P[7:], WEIGHTS[7:, None])
    assert float(metric.result()) == pytest.approx(result(cls, Y, P, WEIGHTS), rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(Y, np.where(P[3, 1] == P, np.nan, P))
    assert np.isnan(float(metric.result()))


def test_targets_on_a_quantile_are_below_it():
    metric = QuantileCalibrationError([0.5])
    metric.update_state([1.0, 1.0, 1.0, 3.0], [[1.0], [0.9], [1.1], [3.0]])
    assert float(metric.result()) == 0.25


def test_in_a_compiled_model():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Reshape((5,))])
    model.compile(loss=QuantileLoss(LEVELS), metrics=[cls(LEVELS) for cls in BOTH])
    logs = model.evaluate(P, Y, batch_size=8, verbose=0, return_dict=True)
    assert_close([logs["wis"], logs["calibration_error"]], [result(cls, Y, P) for cls in BOTH])


@pytest.mark.parametrize("cls", BOTH)
def test_bad_input(cls):
    with pytest.raises(ValueError, match=r"`quantiles` must be levels.*Received: quantiles="):
        cls([0.5, 0.1])
    for y, p in (((3,), (4, 5)), ((3, 5), (3, 5)), ((3,), (3, 4)), ((3,), (3,))):
        with pytest.raises(ValueError, match=r"`y_pred` must hold 5 quantiles.*Received: y_true"):
            cls(LEVELS).update_state(np.zeros(y), np.zeros(p))
    with pytest.raises(ValueError, match=r"`normalize` must be .*Received: normalize=2"):
        WeightedIntervalScore(LEVELS, normalize=2)
