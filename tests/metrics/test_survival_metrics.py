import keras
import numpy as np
import pytest
from sksurv import metrics as theirs
from sksurv.compare import compare_survival
from sksurv.nonparametric import kaplan_meier_estimator

from keras_zoo.metrics import (
    ConcordanceIndex,
    concordance_index,
    cumulative_dynamic_auc,
    kaplan_meier,
    logrank_test,
)
from tests.harness import golden

RNG = np.random.default_rng(0)
# Times of many ties, and risks of some.
Y = np.stack([RNG.integers(1, 12, 60), RNG.random(60) < 0.6], axis=1).astype("float64")
RISK = np.round(RNG.normal(size=60) - Y[:, 0] / 6, 1)


def structured(y):
    """Outcomes as scikit-survival takes them."""
    return np.array([(e > 0, t) for t, e in y], dtype=[("e", bool), ("t", float)])


def naive_pairs(y, risk, tolerance=1e-8):
    """Concordant (ties of risks counting half) and comparable pairs, one after the other."""
    concordant = comparable = 0.0
    for (t, e), r in zip(y, risk, strict=True):
        for (other_t, other_e), s in zip(y, risk, strict=True):
            if e and (t < other_t or (t == other_t and not other_e)):
                comparable += 1
                concordant += 0.5 if abs(r - s) <= tolerance else float(r > s)
    return concordant, comparable


def naive_curve(y, reverse=False):
    times, values, s = sorted({t for t, _ in y}), [], 1.0
    for time in times:
        n = sum(t >= time for t, _ in y)
        d = sum(t == time and e for t, e in y)
        c = sum(t == time and not e for t, e in y)
        lost, left = (c, n - d) if reverse else (d, n)
        s *= 1 - lost / left if left else 1.0
        values.append(s)
    return times, values


# Figures of scikit-survival and lifelines


@pytest.mark.parametrize("name", ["metrics_small", "metrics_ties"])
def test_matches_stored_figures(name):
    g = golden("biofusionnet", name)
    y, risk = g["y_true"], g["risk"]
    assert concordance_index(y, risk) == pytest.approx(float(g["c_index"]), abs=1e-12)
    auc, mean = cumulative_dynamic_auc(g["y_train"], y, risk, g["times"])
    np.testing.assert_allclose(auc, g["auc"], rtol=1e-10)
    assert mean == pytest.approx(float(g["mean_auc"]), abs=1e-10)
    for reverse, prefix in ((False, "km"), (True, "censor")):
        times, survival = kaplan_meier(y, reverse=reverse)
        np.testing.assert_array_equal(times, g[f"{prefix}_times"])
        np.testing.assert_allclose(survival, g[f"{prefix}_survival"], atol=1e-12)
    expected = float(g["logrank_statistic"]), float(g["logrank_p"])
    assert logrank_test(y, g["groups"]) == pytest.approx(expected, rel=1e-8)
    metric = ConcordanceIndex()
    metric.update_state(y, risk)
    assert float(metric.result()) == pytest.approx(float(g["c_index"]), abs=1e-6)


def test_matches_scikit_survival_on_real_data():
    from sksurv.datasets import load_gbsg2

    x, outcome = load_gbsg2()
    y = np.stack([outcome["time"], outcome["cens"]], axis=1)
    risk, grouped = x["pnodes"].to_numpy("float64"), (x["horTh"] == "yes").to_numpy()
    expected = theirs.concordance_index_censored(outcome["cens"], outcome["time"], risk)[0]
    assert concordance_index(y, risk) == pytest.approx(expected, abs=1e-12)
    times = [300.0, 900.0, 1800.0]
    auc, mean = cumulative_dynamic_auc(y, y, risk, times)
    expected, expected_mean = theirs.cumulative_dynamic_auc(outcome, outcome, risk, times)
    np.testing.assert_allclose(auc, expected, rtol=1e-10)
    assert mean == pytest.approx(expected_mean, rel=1e-10)
    for part in (y[grouped], y[~grouped]):
        times, survival = kaplan_meier_estimator(part[:, 1] > 0, part[:, 0])
        np.testing.assert_array_equal(kaplan_meier(part)[0], times)
        np.testing.assert_allclose(kaplan_meier(part)[1], survival, atol=1e-12)
    statistic, p = compare_survival(outcome, grouped)
    assert logrank_test(y, grouped) == pytest.approx((statistic, p), rel=1e-8)


# The definitions


@pytest.mark.parametrize("tolerance", [0.0, 1e-8, 0.3])
def test_concordance_of_plain_loops(tolerance):
    concordant, comparable = naive_pairs(Y, RISK, tolerance)
    # Away from the tolerance itself, where rounding would decide.
    risk = RISK + (0.01 if tolerance == 0.3 else 0) * np.arange(60) / 60
    concordant = naive_pairs(Y, risk, tolerance)[0]
    assert concordance_index(Y, risk, tolerance) == pytest.approx(concordant / comparable)
    metric = ConcordanceIndex(tolerance)
    for part in (slice(0, 30), slice(30, 60)):
        metric.update_state(Y[part], risk[part])
    pairs = [naive_pairs(Y[part], risk[part], tolerance) for part in (slice(30), slice(30, 60))]
    expected = sum(c for c, _ in pairs) / sum(n for _, n in pairs)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def test_many_patients():
    """A pair at a time, that would be 5e9 of them."""
    n = 100_000
    y = np.stack([RNG.exponential(size=n), RNG.random(n) < 0.3], axis=1)
    risk = RNG.normal(size=n) - y[:, 0]
    whole = concordance_index(y, risk)
    assert 0.6 < whole < 0.8
    assert whole + concordance_index(y, -risk) == pytest.approx(1, abs=1e-12)
    metric = ConcordanceIndex()
    metric.update_state(y, risk)
    assert float(metric.result()) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_curves_of_plain_loops(reverse):
    times, values = kaplan_meier(Y, reverse)
    expected_times, expected = naive_curve(Y, reverse)
    np.testing.assert_array_equal(times, expected_times)
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_auc_of_plain_loops():
    times, curve = naive_curve(Y, reverse=True)
    uncensored = dict(zip(times, curve, strict=True))
    for s in (3.5, 8.0):
        top = bottom = 0.0
        for (t, e), r in zip(Y, RISK, strict=True):
            for (other, _), q in zip(Y, RISK, strict=True):
                if e and t <= s < other:
                    top += ((r > q) + (r == q) / 2) / uncensored[t]
                    bottom += 1 / uncensored[t]
        auc, mean = cumulative_dynamic_auc(Y, Y, RISK[:, None], s)
        assert auc[0] == mean == pytest.approx(top / bottom)


def test_logrank_of_plain_loops():
    groups = RISK > 0
    excess = variance = 0.0
    for time in {t for t, e in Y if e}:
        n, n1 = (Y[:, 0] >= time).sum(), (groups & (Y[:, 0] >= time)).sum()
        here = (Y[:, 0] == time) & (Y[:, 1] > 0)
        d, share = here.sum(), n1 / n
        excess += (here & groups).sum() - d * share
        variance += d * share * (1 - share) * (n - d) / (n - 1) if n > 1 else 0
    assert logrank_test(Y, groups)[0] == pytest.approx(excess**2 / variance)
    assert logrank_test(Y, ~groups) == pytest.approx(logrank_test(Y, groups))


# Extremes


def test_without_pairs():
    censored = Y * [1, 0]
    assert np.isnan(concordance_index(censored, RISK))
    metric = ConcordanceIndex()
    assert float(metric.result()) == 0.5
    metric.update_state(censored, RISK)
    assert float(metric.result()) == 0.5
    assert logrank_test(censored, RISK > 0) == (0.0, 1.0)
    assert logrank_test(Y, np.zeros(60)) == (0.0, 1.0)
    assert set(kaplan_meier(censored)[1]) == {1.0}
    assert np.isnan(concordance_index([[1, 1]] * 3, [1, 2, 3]))
    assert np.isnan(cumulative_dynamic_auc(Y, Y, RISK, 0.5)[1])


def test_one_patient():
    assert np.isnan(concordance_index([[3, 1]], [0.2]))
    assert [a.tolist() for a in kaplan_meier([[3, 1]])] == [[3.0], [0.0]]
    metric = ConcordanceIndex()
    metric.update_state([[3, 1]], [0.2])
    assert float(metric.result()) == 0.5


def test_metric_takes_weights_and_shows_nan():
    metric = ConcordanceIndex()
    keep = np.arange(60) % 3 > 0
    metric.update_state(np.c_[Y, np.ones(60)], RISK, sample_weight=2.0 * keep)
    assert float(metric.result()) == pytest.approx(concordance_index(Y[keep], RISK[keep]), abs=1e-6)
    metric.update_state(Y, np.where(keep, np.nan, 0.0))
    assert np.isnan(float(metric.result()))
    metric.reset_state()
    assert float(metric.result()) == 0.5


def test_metric_in_a_compiled_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Reshape((1,))])
    model.compile(loss="mse", metrics=[ConcordanceIndex()])
    logs = model.evaluate(
        RISK[:, None].astype("float32"), Y, batch_size=30, verbose=0, return_dict=True
    )
    metric = ConcordanceIndex()
    for part in (slice(0, 30), slice(30, 60)):
        metric.update_state(Y[part], RISK[part])
    assert logs["c_index"] == pytest.approx(float(metric.result()), abs=1e-6)


# Refusals


def test_bad_input():
    for bad in (-1, None, float("nan")):
        with pytest.raises(ValueError, match=r"`tie_tolerance` must be .*Received: tie_tolerance"):
            ConcordanceIndex(bad)
    for y in (np.zeros((3, 3)), np.zeros(3), np.zeros((0, 2)), [[np.nan, 1]], [[1, 2]]):
        with pytest.raises(ValueError, match=r"`y_true` must hold .*Received: y_true"):
            kaplan_meier(y)
    with pytest.raises(ValueError, match=r"`y_pred` must be .*Received: y_pred"):
        concordance_index(Y, RISK[:5])
    with pytest.raises(ValueError, match=r"`y_pred` must not hold NaN.*Received: y_pred"):
        concordance_index(Y, np.full(60, np.nan))
    for groups in (np.arange(60), np.full(60, 0.5)):
        with pytest.raises(ValueError, match=r"`groups` must be bool.*Received: groups"):
            logrank_test(Y, groups)
    for times in (99.0, [], [np.nan]):
        with pytest.raises(ValueError, match=r"`times` must be .*Received: times"):
            cumulative_dynamic_auc(Y, Y, RISK, times)
    with pytest.raises(ValueError, match=r"`y_train` must hold patients .*Received: an event at"):
        cumulative_dynamic_auc([[0.5, 0], [0.7, 0]], Y, RISK, 5.0)
    with pytest.raises(ValueError, match=r"`reverse` must be .*Received: reverse"):
        kaplan_meier(Y, reverse=3)
    for y, r in (((3, 2), (4,)), ((3,), (3,)), ((3, 2), (3, 2))):
        with pytest.raises(ValueError, match=r"`y_true` must hold times .*Received: y_true of"):
            ConcordanceIndex().update_state(np.zeros(y), np.zeros(r))
