"""Relative, focal position and peak errors of fields."""

import math

import keras
import numpy as np
import pytest

from keras_zoo.metrics import FocalPositionError, MaxPressureError, RelativeL2Error
from tests.harness import golden

GOLDEN = golden("deeptfus", "metrics")
Y, P, WEIGHT = GOLDEN["y_true"], GOLDEN["y_pred"], GOLDEN["sample_weight"]
SPACING = GOLDEN["spacing"].tolist()
METRICS = {
    "relative_l2": RelativeL2Error,
    "focal_position_error": lambda: FocalPositionError(SPACING),
    "max_pressure_error": MaxPressureError,
}


def naive(name, t, p):
    """The error of one pair of fields, by plain loops."""
    voxels = list(np.ndindex(t.shape))
    if name == "relative_l2":
        error = math.sqrt(sum((float(p[v]) - float(t[v])) ** 2 for v in voxels))
        return error / (math.sqrt(sum(float(t[v]) ** 2 for v in voxels)) + 1e-12)
    peaks = [max(voxels, key=lambda v, x=x: x[v]) for x in (t, p)]  # the first of equals
    if name == "focal_position_error":
        steps = zip(*peaks, SPACING, strict=True)
        return math.sqrt(sum(((a - b) * s) ** 2 for a, b, s in steps))
    return abs(float(p[peaks[1]]) - float(t[peaks[0]])) / (abs(float(t[peaks[0]])) + 1e-12)


def measured(name, y, p, weight=None):
    metric = METRICS[name]()
    metric.update_state(y, p, weight)
    return float(metric.result())


@pytest.mark.parametrize("name", METRICS)
def test_match_the_fixture_and_plain_loops(name):
    expected = [naive(name, *pair) for pair in zip(Y, P, strict=True)]
    np.testing.assert_allclose(expected, GOLDEN[name], rtol=1e-5, atol=1e-6)
    assert measured(name, Y, P) == pytest.approx(np.mean(expected), rel=1e-5)
    weighted = np.average(expected, weights=WEIGHT)
    assert measured(name, Y, P, WEIGHT) == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_streams_and_takes_a_last_axis_of_one(name):
    metric = METRICS[name]()
    assert float(metric.result()) == 0
    metric.update_state(Y[:2, ..., None], P[:2], WEIGHT[:2])
    metric.update_state(Y[2:], P[2:, ..., None], WEIGHT[2:, None])
    assert float(metric.result()) == pytest.approx(measured(name, Y, P, WEIGHT), rel=1e-5)
    assert measured(name, Y, Y) == 0


def test_ties_and_flat_predictions():
    """The first voxel in C order counts; of a flat field that is voxel 0."""
    t = np.zeros((1, 3, 4, 5), "float32")
    t[0, 2, 3, 4] = t[0, 2, 3, 1] = 1.0
    metric = FocalPositionError(2.0)
    metric.update_state(t, np.full_like(t, 0.5))
    assert float(metric.result()) == pytest.approx(2 * math.sqrt(4 + 9 + 1))
    assert metric.get_config()["spacing"] == 2.0


def test_nothing_to_be_relative_to():
    zeros, ones = np.zeros((1, 2, 2, 2), "float32"), np.ones((1, 2, 2, 2), "float32")
    for cls in (RelativeL2Error, MaxPressureError):
        metric = cls()
        metric.update_state(zeros, zeros)
        assert float(metric.result()) == 0
        metric.update_state(zeros, ones)
        assert np.isfinite(float(metric.result()))
        assert float(metric.result()) > 1e9


@pytest.mark.parametrize("name", METRICS)
def test_nan(name):
    for place in range(2):
        fields = [Y.copy(), P.copy()]
        fields[place][3, 2, 2, 2] = np.nan
        assert np.isnan(measured(name, *fields))


def test_in_a_compiled_model():
    model = keras.Sequential([keras.Input((8, 9, 7)), keras.layers.Reshape((8, 9, 7, 1))])
    model.compile(loss="mse", metrics=[make() for make in METRICS.values()])
    logs = model.evaluate(P, Y[..., None], batch_size=2, verbose=0, return_dict=True)
    for name, key in zip(METRICS, ("relative_l2_error", *list(METRICS)[1:]), strict=True):
        assert logs[key] == pytest.approx(GOLDEN[name].mean(), rel=1e-4)


@pytest.mark.parametrize("spacing", [0.0, -1.0, (1.0, 2.0), (1.0, 2.0, 0.0), None, "1", np.inf])
def test_bad_spacing(spacing):
    with pytest.raises(ValueError, match=r"`spacing` must be .*Received: spacing="):
        FocalPositionError(spacing)


@pytest.mark.parametrize("name", METRICS)
def test_bad_inputs(name):
    metric = METRICS[name]()
    for y, p in (((2, 4, 4),) * 2, ((2, 4, 4, 4), (2, 4, 4, 3)), ((2, 4, 4, 4, 2),) * 2):
        with pytest.raises(ValueError, match=r"must be fields of one size.*Received: y_true of"):
            metric.update_state(np.zeros(y), np.zeros(p))
    assert float(metric.result()) == 0
