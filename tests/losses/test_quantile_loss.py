import keras
import numpy as np
import pytest

from keras_zoo.losses import QuantileLoss
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
LEVELS = [0.1, 0.4, 0.5, 0.95]
Y, P = RNG.normal(size=8), RNG.normal(size=(8, 4))
Y32, P32 = Y.astype("float32"), P.astype("float32")
SETTINGS = [
    {},
    {"huber_delta": 0.5},
    {"crossing_weight": 2.0},
    {"crossing_weight": 0.5, "crossing_margin": 0.3, "huber_delta": 10.0},
    {"crossing_weight": 1.0, "crossing_margin": [0.3, -0.2, 0.5, 0.4]},
]
each_setting = pytest.mark.parametrize("settings", SETTINGS)


def naive(y, p, levels, huber_delta=0.0, crossing_weight=0.0, crossing_margin=0.0):
    """Losses by plain loops in float64."""
    losses, count = [], len(levels)
    for target, row in zip(y, p, strict=True):
        total = 0.0
        for tau, value in zip(levels, row, strict=True):
            e = target - value
            if huber_delta:
                h = e * e / (2 * huber_delta) if abs(e) < huber_delta else abs(e) - huber_delta / 2
                total += h * (tau if e >= 0 else 1 - tau)
            else:
                total += max(tau * e, (tau - 1) * e)
        loss = total / count
        for lo in range(count):
            for hi in range(lo + 1, count):
                margin = crossing_margin
                if isinstance(margin, list):
                    margin = max(0.0, margin[hi] - margin[lo])
                lack = max(0.0, row[lo] - row[hi] + margin)
                loss += crossing_weight * 2 / (count * (count - 1)) * lack
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize("name", ["quantile_loss", "quantile_loss_huber_crossing"])
def test_matches_the_official_code(name):
    g = golden("quantile-aggregation", name)
    keys = ("huber_delta", "crossing_weight", "crossing_margin")
    loss = QuantileLoss(g["quantiles"], **{key: float(g[key]) for key in keys})
    y_pred = g["y_pred"].astype("float32")
    assert_close(loss.call(g["y_true"], y_pred), g["per_example"])
    value, grad = gradient(lambda p: loss(g["y_true"], p), y_pred)
    assert_close(value, g["loss"])
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-6)


@each_setting
def test_matches_plain_loops(settings):
    loss = QuantileLoss(LEVELS, **settings)
    assert_close(loss.call(Y32, P32), naive(Y, P, LEVELS, **settings))
    assert_close(loss.call(Y32[:, None], P32), loss.call(Y32, P32))
    expected = numeric_gradient(lambda p: naive(Y, p, LEVELS, **settings).mean(), P)
    assert_close(gradient(lambda p: loss(Y32, p), P32)[1], expected, rtol=1e-4, atol=1e-5)


def test_one_level_is_the_pinball_loss_alone():
    loss = QuantileLoss([0.5], crossing_weight=3.0, crossing_margin=1.0)
    assert_close(loss.call(Y32, P32[:, :1]), np.abs(Y32 - P32[:, 0]) / 2)
    assert_close(QuantileLoss((0.2, 0.7)).call([1.0], [[1.0, 1.0]]), [0.0])


@each_setting
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e8, 1e15, 1e30])
def test_extremes(settings, size):
    value, grad = gradient(lambda p: QuantileLoss(LEVELS, **settings)(0 * Y32, p), size * P32)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_nan_and_no_rows():
    y, p = Y32.copy(), P32.copy()
    y[0], p[1, 2] = np.nan, np.nan
    for settings in SETTINGS:
        losses = to_numpy(QuantileLoss(LEVELS, **settings).call(y, p))
        assert np.isnan(losses).tolist() == [True, True] + 6 * [False]
    assert QuantileLoss(LEVELS).call(Y32[:0], P32[:0]).shape == (0,)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 here")
def test_float64():
    loss = QuantileLoss(LEVELS, dtype="float64", **SETTINGS[3])
    assert_close(loss.call(Y, P), naive(Y, P, LEVELS, **SETTINGS[3]), rtol=1e-13, atol=0)


def test_learns_the_quantiles_of_real_data():
    """A bias alone, whose best values are the empirical quantiles."""
    from sklearn.datasets import load_diabetes

    y = load_diabetes().target[:256]
    y = ((y - y.mean()) / y.std()).astype("float32")
    keras.utils.set_random_seed(0)
    loss = QuantileLoss(LEVELS, crossing_weight=1.0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.1), loss)
    losses = model.fit(np.ones((256, 1)), y, batch_size=32, epochs=10, verbose=0).history["loss"]
    least = float(loss(y, np.tile(np.quantile(y, LEVELS), (256, 1))))
    assert losses[-1] < 1.05 * least < losses[0]


@pytest.mark.parametrize(
    "levels",
    [
        [],
        0.5,
        None,
        "0.5",
        [[0.1, 0.9]],
        [0.1, [0.9]],
        [0.0, 0.5],
        [0.5, 1.0],
        [0.5, 0.5],
        [0.9, 0.1],
        [0.1, float("nan")],
        [True],
        ["0.1"],
    ],
)
def test_bad_levels(levels):
    with pytest.raises(ValueError, match=r"`quantiles` must be levels.*Received: quantiles="):
        QuantileLoss(levels)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"huber_delta": -0.1},
        {"huber_delta": None},
        {"crossing_weight": -1},
        {"crossing_weight": float("inf")},
        {"crossing_margin": -0.1},
        {"crossing_margin": "adapt"},
        {"crossing_margin": [0.1, 0.2]},
        {"crossing_margin": [0.1, 0.2, 0.3, float("nan")]},
    ],
)
def test_bad_arguments(kwargs):
    name = next(iter(kwargs))
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        QuantileLoss(LEVELS, **kwargs)


@pytest.mark.parametrize(
    ("y_true", "y_pred"), [((3,), (4, 4)), ((3, 4), (3, 4)), ((3,), (3,)), ((3,), (3, 5))]
)
def test_bad_inputs(y_true, y_pred):
    with pytest.raises(ValueError, match=r"`y_pred` must hold 4 quantiles.*Received: y_true of"):
        QuantileLoss(LEVELS).call(np.zeros(y_true), np.zeros(y_pred, "float32"))
