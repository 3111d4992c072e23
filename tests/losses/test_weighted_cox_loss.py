import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import WeightedCoxLoss
from keras_zoo.losses._risk_sets import RiskSets
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
N = 24
# Times of many ties.
Y = np.stack([RNG.integers(1, 9, N), RNG.random(N) < 0.6], axis=1).astype("float32")
WEIGHTED = np.c_[Y, RNG.uniform(0.2, 3.0, N).astype("float32")]
R = RNG.normal(size=N)
X = R.astype("float32")


def naive(y, r, ties="breslow", risk_set="time", weights=(5.0, 1.0)):
    """By plain loops, in float64."""
    n, losses = len(y), []
    w = [row[2] if len(row) == 3 else weights[0] if row[1] else weights[1] for row in y]
    key = [row[0] for row in y] if risk_set == "time" else r
    total = sum(w[i] for i in range(n) if y[i][1])
    for i in range(n):
        log_sum = np.log(sum(w[j] * np.exp(r[j]) for j in range(n) if key[j] >= key[i]))
        term = w[i] * log_sum
        if ties == "efron":
            tied = [j for j in range(n) if y[j][1] and y[j][0] == y[i][0]]
            m, s = max(len(tied), 1), sum(w[j] * np.exp(r[j]) for j in tied)
            logs = [np.log(np.exp(log_sum) - k / m * s) for k in range(m)]
            term = np.mean([w[j] for j in tied] or [0]) * np.mean(logs)
        losses.append(n / total * (term - w[i] * r[i]) if y[i][1] else 0.0)
    return np.array(losses)


def padded(g):
    """The stored patients with their weights, and others of weight 0 who change no sum."""
    y = g["y_true"]
    if y.shape[1] == 2:
        y = np.c_[y, np.where(y[:, 1] > 0, g["event_weight"], g["censored_weight"])]
    missing = N - len(y)
    y = np.r_[y, np.c_[RNG.uniform(0, 9, missing), np.arange(missing) % 2, np.zeros(missing)]]
    return y.astype("float32"), np.r_[g["y_pred"], RNG.normal(size=missing)].astype("float32")


# The definition


@pytest.mark.parametrize(
    "name", ["cox_breslow", "cox_efron_ties", "cox_sample_column", "cox_official_score_order"]
)
def test_matches_stored_values(name):
    g = golden("biofusionnet", name)
    ties = str(g.get("ties", "breslow"))
    loss = WeightedCoxLoss(ties=ties, risk_set="score" if "score" in name else "time")
    y, x = padded(g)
    count = len(g["y_pred"])
    value, grad = gradient(lambda x: loss(y, x), x)
    assert_close(value, g["loss"])
    assert_close(grad[:count], g["grad"], rtol=1e-4, atol=1e-5)
    assert_close(grad[count:], np.zeros(N - count), atol=0)
    if "per_example" in g:
        assert_close(to_numpy(loss.call(y, x))[:count] * count / N, g["per_example"])
    if "event_weight" in g and count == N:
        weights = float(g["event_weight"]), float(g["censored_weight"])
        assert_close(WeightedCoxLoss(*weights, ties=ties)(g["y_true"], x), g["loss"])


@pytest.mark.parametrize("y", [Y, WEIGHTED], ids=["two columns", "three columns"])
@pytest.mark.parametrize(
    ("ties", "risk_set"), [("breslow", "time"), ("efron", "time"), ("breslow", "score")]
)
def test_matches_plain_loops(y, ties, risk_set):
    loss = WeightedCoxLoss(3.0, 0.5, ties=ties, risk_set=risk_set)
    arguments = ties, risk_set, (3.0, 0.5)
    assert_close(loss.call(y, X[:, None]), naive(y, R, *arguments))
    _, grad = gradient(lambda x: loss(y, x), X)
    # The order of the scores counts as given.
    expected = numeric_gradient(lambda r: naive(y, r, *arguments).mean(), R)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def test_ties_of_scores_share_their_risk_set():
    r = np.round(R, 1)
    loss = WeightedCoxLoss(risk_set="score")
    assert_close(loss.call(Y, r.astype("float32")), naive(Y, r, risk_set="score"), atol=1e-4)


def test_order_of_any_keys():
    """Zeros of either sign are one key; numbers too small for full digits are keys of their own."""
    keys = np.array([0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, -1.5, 2.5], "float32")
    scores = RNG.normal(size=8).astype("float32")
    found = to_numpy(RiskSets(ops.convert_to_tensor(keys)).log_sums(ops.convert_to_tensor(scores)))
    expected = [np.log(sum(np.exp(float(s)) for s in scores[keys >= key])) for key in keys]
    assert_close(found, expected)


def test_efron_is_breslow_without_ties():
    y = Y.copy()
    y[:, 0] = np.arange(N)
    assert_close(WeightedCoxLoss(ties="efron").call(y, X), to_numpy(WeightedCoxLoss().call(y, X)))


def test_only_the_ratio_of_the_weights_matters_to_the_gradient():
    one, other = (
        gradient(lambda x, w=w: WeightedCoxLoss(*w)(Y, x), X) for w in [(1.0, 1.0), (5.0, 5.0)]
    )
    assert_close(other[0], one[0] + np.log(5.0))
    assert_close(other[1], one[1], atol=1e-6)


def test_gradient_vanishes_at_scikit_survivals_fit():
    """Its coefficients, found by another method, are where the loss is flat."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    x = RNG.normal(size=(N, 2))
    outcome = np.array([(e > 0, t) for t, e in Y], dtype=[("e", bool), ("t", float)])
    for ties in ("breslow", "efron"):
        fit = CoxPHSurvivalAnalysis(ties=ties, tol=1e-12).fit(x, outcome)
        loss = WeightedCoxLoss(1.0, 1.0, ties=ties)
        _, grad = gradient(lambda r, loss=loss: loss(Y, r), (x @ fit.coef_).astype("float32"))
        assert_close(grad @ x, np.zeros(2), atol=1e-6)


# Extremes


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_no_event(ties):
    y = Y * [1, 0]
    value, grad = gradient(lambda x: WeightedCoxLoss(ties=ties)(y, x), X)
    assert value == 0
    assert not grad.any()


def test_a_single_event_at_the_end():
    y = np.stack([np.arange(N), np.arange(N) == N - 1], axis=1)
    assert_close(WeightedCoxLoss()(y, X), np.log(5.0))


@pytest.mark.parametrize(
    ("ties", "scale"), [("breslow", 60.0), ("breslow", 1e4), ("efron", 0.0), ("efron", 1e4)]
)
def test_any_range_of_scores(ties, scale):
    """Rising and falling with time, and without order."""
    for r in (scale * R, scale * np.sort(R), -scale * np.sort(R)):
        y = np.stack([np.repeat(np.arange(N // 2), 2), np.ones(N)], axis=1).astype("float32")
        x = r.astype("float32")
        value, grad = gradient(lambda x, y=y: WeightedCoxLoss(ties=ties)(y, x), x)
        assert np.isfinite(grad).all()
        assert np.isfinite(value)
        log_sums = [np.logaddexp.reduce(x[y[:, 0] >= t].astype("float64")) for t in y[:, 0]]
        if ties == "breslow":
            assert_close(value, np.mean(log_sums - x) + np.log(5.0))


def test_a_shift_of_all_scores_changes_nothing():
    for shift in (-1000.0, 1000.0):
        assert_close(WeightedCoxLoss()(Y, X + shift), WeightedCoxLoss()(Y, X), rtol=1e-4)


def test_a_weight_of_zero_takes_a_patient_out():
    y, x = WEIGHTED.copy(), X.copy()
    y[:3, 2] = 0
    _, grad = gradient(lambda x: WeightedCoxLoss()(y, x), x)
    assert not grad[:3].any()
    before = to_numpy(WeightedCoxLoss().call(y, x))
    x[:3] = 50.0
    assert_close(WeightedCoxLoss().call(y, x), before)
    y[:, 2] = 0
    assert_close(WeightedCoxLoss().call(y, x), np.zeros(N))


@pytest.mark.parametrize("where", [0, 1])
def test_nan(where):
    y, x = Y.copy(), X.copy()
    (y if where else x)[3] = np.nan
    assert np.isnan(to_numpy(WeightedCoxLoss().call(y, x))).all()


def test_a_hundred_thousand_patients():
    n = 100_000
    rng = np.random.default_rng(1)
    y = np.stack([rng.integers(0, 5000, n), rng.random(n) < 0.3], axis=1).astype("float32")
    x = (3 * rng.normal(size=n)).astype("float32")
    order = np.argsort(-y[:, 0], kind="stable")
    sums = np.cumsum(np.where(y[order, 1] > 0, 5.0, 1.0) * np.exp(x[order].astype("float64")))
    last = np.searchsorted(-y[order, 0], -y[:, 0], side="right") - 1
    event, log_sums = y[:, 1] > 0, np.log(sums[last])
    value, grad = gradient(lambda x: WeightedCoxLoss()(y, x), x)
    assert_close(value, np.mean((log_sums - x)[event]))
    inverse = np.cumsum((event / np.exp(log_sums))[order][::-1])[::-1]
    first = np.searchsorted(-y[order, 0], -y[:, 0], side="left")
    expected = np.where(event, 5.0, 1.0) * np.exp(x) * inverse[first] - event
    np.testing.assert_allclose(grad * event.sum(), expected, rtol=1e-4, atol=1e-4)


def test_shapes():
    assert to_numpy(WeightedCoxLoss().call(np.zeros((0, 2)), np.zeros((0, 1)))).shape == (0,)
    half = WeightedCoxLoss()(Y, X.astype("float16"))
    assert_close(half, WeightedCoxLoss()(Y, X.astype("float16").astype("float32")))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere a batch has a known size")
@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_an_unknown_number_of_patients(ties):
    import tensorflow as tf

    compiled = tf.function(
        WeightedCoxLoss(ties=ties).call,
        input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([None])],
    )
    for n in (1, 7, N):
        assert_close(compiled(Y[:n], X[:n]), naive(Y[:n], R[:n], ties))


def test_learns_from_real_patients():
    from sksurv.datasets import load_gbsg2

    from keras_zoo.metrics import concordance_index

    x, outcome = load_gbsg2()
    x = x[["age", "tsize", "pnodes", "progrec", "estrec"]].to_numpy("float32")
    x = np.log1p(x)
    x = (x - x.mean(0)) / x.std(0)
    y = np.stack([outcome["time"], outcome["cens"]], axis=1).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.Adam(0.1), WeightedCoxLoss())
    history = model.fit(x, y, batch_size=343, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert concordance_index(y, model.predict(x, verbose=0)) > 0.62


# Refusals


@pytest.mark.parametrize("name", ["event_weight", "censored_weight"])
@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), None, True])
def test_bad_weights(name, bad):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        WeightedCoxLoss(**{name: bad})


def test_bad_choices():
    for name in ("ties", "risk_set"):
        with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}='no'"):
            WeightedCoxLoss(**{name: "no"})
    with pytest.raises(ValueError, match=r"`ties` must be .*Received: ties='efron'"):
        WeightedCoxLoss(ties="efron", risk_set="score")


@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [((3,), (3,)), ((3, 2), (4,)), ((3, 4), (3,)), ((3, 2), (3, 2)), ((3, 2), (3, 1, 1))],
)
def test_bad_inputs(y_true, y_pred):
    with pytest.raises(ValueError, match=r"`y_true` must hold times .*Received: .*shape"):
        WeightedCoxLoss().call(np.zeros(y_true), np.zeros(y_pred, "float32"))
