import keras
import numpy as np
import pytest

from keras_zoo.metrics import HammingLoss, JaccardAccuracy
from tests.harness import golden, to_numpy

RNG = np.random.default_rng(0)
Y = (RNG.random((12, 4)) < 0.3).astype("float32")
P = RNG.random((12, 4)).astype("float32")
Y[0], P[0] = 0, 0.1
METRICS = [JaccardAccuracy, HammingLoss]


def naive(cls, y, p, threshold=0.5, weight=None):
    """Set by set."""
    values = []
    for labels, scores in zip(y, p, strict=True):
        truth = {c for c, on in enumerate(labels) if on}
        found = {c for c, score in enumerate(scores) if score > threshold}
        if cls is HammingLoss:
            values.append(len(truth ^ found) / len(labels))
        else:
            values.append(len(truth & found) / len(truth | found) if truth | found else 1.0)
    return np.average(values, weights=weight)


def value(metric, *args, **kwargs):
    metric.update_state(*args, **kwargs)
    return float(metric.result())


def test_match_the_fixtures():
    g = golden("arabic-emotion", "metrics")
    for cls, name in ((JaccardAccuracy, "jaccard"), (HammingLoss, "hamming")):
        for threshold, suffix in ((0.5, ""), (0.3, "_threshold_03")):
            expected = float(g[name + suffix])
            found = value(cls(threshold=threshold), g["y_true"], g["logits"])
            assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cls", METRICS)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_match_sets(cls, threshold):
    expected = naive(cls, Y, P, threshold)
    metric = cls(threshold=threshold, from_logits=False)
    assert value(metric, Y, P) == pytest.approx(expected)
    if 0 < threshold < 1:
        logits = np.log(P / (1 - P))
        assert value(cls(threshold=threshold), Y, logits) == pytest.approx(expected)
    weight = RNG.random(12).astype("float32")
    for given in (weight, weight[:, None]):
        metric.reset_state()
        found = value(metric, Y, P, sample_weight=given)
        assert found == pytest.approx(naive(cls, Y, P, threshold, weight))


@pytest.mark.parametrize("cls", METRICS)
def test_batches_and_columns(cls):
    metric = cls(num_labels=4, from_logits=False)
    wide = np.concatenate([P, np.full((12, 3), 9.0, "float32")], axis=1)
    for rows in (slice(0, 5), slice(5, 12), slice(0, 0)):
        metric.update_state(Y[rows].astype(bool), wide[rows])
    assert float(metric.result()) == pytest.approx(naive(cls, Y, P))


@pytest.mark.parametrize("cls", METRICS)
def test_nothing_and_nan(cls):
    assert float(cls().result()) == 0
    scores = P.copy()
    scores[3, 1] = np.nan
    metric = cls(from_logits=False)
    metric.update_state(Y, scores)
    assert np.isnan(to_numpy(metric.result()))
    metric.reset_state()
    assert value(metric, Y, P) == pytest.approx(naive(cls, Y, P))


def test_both_empty_is_right():
    assert value(JaccardAccuracy(), np.zeros((2, 3)), np.full((2, 3), -1.0)) == 1
    # A score at the threshold is not above it.
    assert value(HammingLoss(), np.zeros((1, 2)), np.zeros((1, 2))) == 0


def test_in_compile():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(7)])
    model.compile(loss=lambda y, p: p[:, 0] * 0, metrics=[JaccardAccuracy(4), HammingLoss(4)])
    found = model.evaluate(P, Y, verbose=0, return_dict=True)
    scores = to_numpy(keras.ops.sigmoid(model(P)))[:, :4]
    for cls, name in ((JaccardAccuracy, "jaccard_accuracy"), (HammingLoss, "hamming_loss")):
        assert found[name] == pytest.approx(naive(cls, Y, scores), abs=1e-6)


@pytest.mark.parametrize("cls", METRICS)
@pytest.mark.parametrize("kwargs", [{"num_labels": 0}, {"threshold": 1.5}, {"from_logits": 1}])
def test_bad_arguments(cls, kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must be .*Received: "):
        cls(**kwargs)


@pytest.mark.parametrize("cls", METRICS)
@pytest.mark.parametrize(
    ("num_labels", "y", "p"),
    [
        (None, (3, 4), (3, 5)),
        (None, (3,), (3,)),
        (4, (3, 4), (3, 3)),
        (4, (3, 5), (3, 5)),
        (None, (2, 4), (3, 4)),
    ],
)
def test_bad_shapes(cls, num_labels, y, p):
    with pytest.raises(ValueError, match=r"`y_true` must be .*Received: y_true of shape"):
        cls(num_labels).update_state(np.zeros(y), np.zeros(p))
