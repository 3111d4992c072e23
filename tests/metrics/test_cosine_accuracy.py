import keras
import numpy as np
import pytest

from keras_zoo.metrics import CosineAccuracy
from tests.harness import to_numpy


def test_looks_at_the_first_columns_alone():
    rng = np.random.default_rng(0)
    y, scores = rng.integers(0, 3, 20), rng.normal(size=(20, 8)).astype("float32")
    scores[:, 3:] += 10
    metric, weight = CosineAccuracy(3), rng.uniform(0, 2, 20).astype("float32")
    metric.update_state(y[:12], scores[:12], weight[:12])
    metric.update_state(y[12:, None], scores[12:], weight[12:, None])
    right = scores[:, :3].argmax(axis=1) == y
    assert float(metric.result()) == pytest.approx((right * weight).sum() / weight.sum(), rel=1e-6)
    assert 0 < right.mean() < 1
    keras_metric = keras.metrics.SparseCategoricalAccuracy()
    keras_metric.update_state(y, scores[:, :3], weight)
    assert float(metric.result()) == pytest.approx(float(keras_metric.result()), rel=1e-6)


def test_edges():
    metric = CosineAccuracy(2)
    assert float(metric.result()) == 0
    # Equal scores: the first class; a class that is not there is never met.
    metric.update_state([0, 1, 2, -1], np.zeros((4, 3), "float32"))
    assert float(metric.result()) == 0.25
    metric.update_state([0], np.array([[1, np.nan, 0]], "float32"))
    assert np.isnan(to_numpy(metric.result()))
    metric.reset_state()
    assert float(metric.result()) == 0


def test_bad_input():
    with pytest.raises(ValueError, match=r"`num_classes` .*Received: "):
        CosineAccuracy(0)
    with pytest.raises(ValueError, match=r"`y_pred` must have `num_classes` columns.*Received: "):
        CosineAccuracy(5).update_state([0], np.zeros((1, 3), "float32"))
    with pytest.raises(ValueError, match="Received: "):
        CosineAccuracy(2).update_state([0, 1], np.zeros((1, 3), "float32"))
