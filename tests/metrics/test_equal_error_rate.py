import keras
import numpy as np
import pytest

from keras_zoo.metrics import EqualErrorRate
from tests.harness import assert_close, golden, to_numpy

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 60)
SCORES = np.clip(0.5 + 0.15 * (2 * Y - 1) + 0.2 * RNG.normal(size=60), 0, 1).astype("float32")


def naive(y, scores, n=10001, weights=None):
    """Every threshold in its turn, in float64."""
    weights = np.ones(len(y)) if weights is None else weights
    best = None
    for t in [i / (n - 1) for i in range(n)] + [1.1]:
        count = {(a, b): 0.0 for a in (0, 1) for b in (False, True)}
        for label, score, weight in zip(y, scores, weights, strict=True):
            count[label, score >= t] += weight
        ones, zeros = count[1, False] + count[1, True], count[0, False] + count[0, True]
        frr = count[1, False] / ones if ones else 1.0
        far = count[0, True] / zeros if zeros else 1.0
        if best is None or abs(frr - far) <= best[0] + 1e-9:
            best = abs(frr - far), (frr + far) / 2
    return best[1]


def rate(y, scores, n=10001, weights=None):
    metric = EqualErrorRate(n)
    metric.update_state(y, scores, weights)
    return float(metric.result())


def test_matches_the_official_code():
    g = golden("hyp-oc", "equal_error_rate")
    assert rate(g["y_true"], g["y_score"]) == pytest.approx(float(g["eer"]), abs=1e-6)
    assert rate(g["y_true"], g["y_score"]) == pytest.approx(float(g["hter"]), abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 11, 101])
@pytest.mark.parametrize("weights", [None, RNG.random(60)])
def test_matches_plain_loops(n, weights):
    # Away from the thresholds, on which float32 and float64 may not agree.
    inside = np.floor(SCORES * (n - 1)) + np.clip(SCORES * (n - 1) % 1, 0.1, 0.9)
    scores = np.clip(inside / (n - 1), 0, 1)
    for y, s, w in ((Y, scores, weights), (Y[:7], scores[:7], None), (1 - Y, scores, weights)):
        assert rate(y, s, n, w) == pytest.approx(naive(y, s, n, w), abs=1e-5)


def test_scores_on_thresholds_are_at_or_above_them():
    scores = np.round(SCORES, 2)
    assert rate(Y, scores, 101) == pytest.approx(naive(Y, np.round(scores, 2) + 1e-9, 101))


def test_the_ends():
    assert rate([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 0
    assert rate([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]) == 1
    assert rate([0, 1], [0.5, 0.5]) == naive([0, 1], [0.5, 0.5]) == 0.5
    assert rate([0, 1], [0.0, 1.0]) == 0
    assert rate([0, 1, 1], [-3.0, 7.0, 1.0]) == 0


def test_an_absent_kind():
    for y in ([0, 0, 0], [1, 1, 1]):
        assert rate(y, [0.2, 0.4, 0.6]) == naive(y, [0.2, 0.4, 0.6]) == 1
    assert float(EqualErrorRate().result()) == 1


def test_streams_and_takes_all_shapes():
    metric = EqualErrorRate()
    metric.update_state(Y[:20], SCORES[:20])
    metric.update_state(Y[20:40, None], SCORES[20:40, None])
    metric.update_state(Y[40:], np.stack([1 - SCORES, SCORES], axis=1)[40:])
    assert float(metric.result()) == rate(Y, SCORES)
    twice = rate(np.r_[Y, Y[:5]], np.r_[SCORES, SCORES[:5]])
    assert rate(Y, SCORES, weights=np.r_[2 * np.ones(5), np.ones(55)]) == pytest.approx(twice)


def test_nan():
    scores = SCORES.copy()
    scores[3] = np.nan
    assert np.isnan(rate(Y, scores))
    for bad in (2, -1, 0.5, np.nan):
        y = Y.astype("float32")
        y[3] = bad
        assert np.isnan(rate(y, SCORES))


def test_in_a_compiled_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Reshape((1,))])
    model.compile(loss="mse", metrics=[EqualErrorRate(101)])
    logs = model.evaluate(SCORES[:, None], Y, batch_size=16, verbose=0, return_dict=True)
    assert_close(logs["equal_error_rate"], rate(Y, SCORES, 101))
    assert to_numpy(model.predict(SCORES[:, None], verbose=0)).shape == (60, 1)


def test_bad_input():
    for bad in (1, 0, 2.5, True):
        with pytest.raises(ValueError, match=r"`num_thresholds` must be .*Received: num_thresh"):
            EqualErrorRate(bad)
    metric = EqualErrorRate()
    for y, s in (((3,), (4,)), ((3, 2), (3,)), ((3,), (3, 3)), ((3,), (3, 2, 1))):
        with pytest.raises(ValueError, match=r"`y_pred` must hold scores.*Received: y_true of"):
            metric.update_state(np.zeros(y), np.zeros(s))
    assert float(metric.result()) == 1
