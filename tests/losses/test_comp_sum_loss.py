import keras
import numpy as np
import pytest

from keras_zoo.losses import CompSumLoss
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

Y = np.array([0, 3, 1, 1, 2, 0])
H = np.random.default_rng(0).normal(size=(6, 4)) * 2
X = H.astype("float32")
TAUS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]


def naive(labels, logits, tau):
    """Losses by plain loops in float64, from the sum of exponentials."""
    losses = []
    for y, h in zip(labels, np.asarray(logits, "float64"), strict=True):
        total = sum(np.exp(h[k] - h[y]) for k in range(len(h)) if k != y)
        power = (1 + total) ** (1 - tau)
        losses.append(np.log1p(total) if tau == 1 else (power - 1) / (1 - tau))
    return np.array(losses)


# The definition


@pytest.mark.parametrize("name", ["comp_sum", "comp_sum_12_classes"])
def test_matches_the_sums_of_exponentials(name):
    g = golden("comp-sum", name)
    logits = g["y_pred"].astype("float32")
    for tau, losses, slopes in zip(g["taus"], g["loss"], g["grad"], strict=True):
        loss = CompSumLoss(float(tau))
        assert_close(loss.call(g["y_true"], logits), losses)
        value, grad = gradient(lambda x, loss=loss: loss(g["y_true"], x), logits)
        assert_close(value, losses.mean())
        assert_close(grad, slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tau", TAUS)
def test_matches_plain_loops(tau):
    loss = CompSumLoss(tau)
    assert_close(loss.call(Y, X), naive(Y, X, tau))
    expected = numeric_gradient(lambda x: naive(Y, x, tau).mean(), H)
    assert_close(gradient(lambda x: loss(Y, x), X)[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tau", TAUS)
def test_the_gradient_in_closed_form(tau):
    p = np.exp(H) / np.exp(H).sum(1, keepdims=True)
    own = np.arange(4) == Y[:, None]
    expected = p[own][:, None] ** (tau - 1) * (p - own) / 6
    assert_close(gradient(lambda x: CompSumLoss(tau)(Y, x), X)[1], expected, atol=1e-6)


def test_the_worked_example():
    expected = {0: 3.086161, 0.5: 2.042851, 1: 1.407606, 1.5: 1.010599, 2: 0.755272}
    for tau, value in expected.items():
        assert_close(CompSumLoss(tau)([0], [[1.0, 2.0, 0.0]]), value)


def test_the_members_of_the_family():
    p = (np.exp(H) / np.exp(H).sum(1, keepdims=True))[np.arange(6), Y]
    assert_close(CompSumLoss(0).call(Y, X), 1 / p - 1)
    entropy = keras.losses.sparse_categorical_crossentropy(Y, X, from_logits=True)
    assert_close(CompSumLoss().call(Y, X), entropy)
    assert_close(CompSumLoss(1.7).call(Y, X), (1 - p**0.7) / 0.7)
    assert_close(CompSumLoss(2).call(Y, X), 1 - p)


@pytest.mark.parametrize("limit", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("step", [1e-2, 1e-6, 1e-12, 1e-15])
def test_near_its_limits(limit, step):
    """No digit is lost near `tau = 1`, on either side, nor elsewhere."""
    with np.errstate(all="raise"):
        for tau in (limit + step, limit - step):
            if tau >= 0:
                v = np.log1p(naive(Y, X, 0.0))
                expected = np.expm1((1 - tau) * v) / (1 - tau)
                assert_close(CompSumLoss(tau).call(Y, X), expected, rtol=2e-6, atol=1e-7)
    value = float(CompSumLoss(1 + step)(Y, X))
    assert value == pytest.approx(float(CompSumLoss(1.0)(Y, X)), rel=2 * step + 1e-6, abs=0.1)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 here")
@pytest.mark.parametrize("tau", [0.0, 1 - 1e-6, 1.0, 1 + 1e-6, 1.5])
def test_float64(tau):
    v = np.log1p(naive(Y, H, 0.0))
    expected = v if tau == 1 else np.expm1((1 - tau) * v) / (1 - tau)
    assert_close(CompSumLoss(tau, dtype="float64").call(Y, H), expected, rtol=1e-12, atol=0)


# Extremes


@pytest.mark.parametrize("tau", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e4, -1e4])
def test_extreme_logits(tau, size):
    x = size * np.array([[1, 1, 1, 1], [1, -1, 0, 0.5], [-1, 1, -1, 1]], "float32")
    value, grad = gradient(lambda x: CompSumLoss(tau)([0, 1, 2], x), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_overflow_below_one_is_by_definition():
    """`(1 - tau) v` above 88 leaves float32; right below, and beyond 1, all is finite."""
    x = np.array([[0.0, 87.0, 0.0]], "float32")
    value, grad = gradient(lambda x: CompSumLoss(0.0)([0], x), x)
    assert_close(value, np.exp(87.0), rtol=1e-4)
    assert np.isfinite(grad).all()
    assert np.isposinf(float(CompSumLoss(0.0)([0], 1.05 * x)))
    assert_close(CompSumLoss(0.5)([0], 2 * x), 2 * (np.exp(87.0) - 1), rtol=1e-4)


def test_a_hopeless_example_hardly_counts_above_one():
    x = np.array([[0.0, 60.0, 0.0]], "float32")
    sizes = [abs(gradient(lambda x, t=t: CompSumLoss(t)([0], x), x)[1]).max() for t in (1, 1.5, 2)]
    assert_close(sizes, np.exp([0.0, -30.0, -60.0]), rtol=1e-4, atol=1e-7)
    assert_close(CompSumLoss(1.5)([0], x), 2.0)


def test_never_below_zero():
    """Rows whose label leads so far that the logarithm is all rounding."""
    x = np.random.default_rng(0).normal(size=(4000, 7)).astype("float32")
    for size in (1, 10, 30):
        for tau in (0.0, 1.0, 1.5):
            assert to_numpy(CompSumLoss(tau).call(x.argmax(1), size * x)).min() >= 0


def test_many_classes():
    x = np.zeros((1, 50_000), "float32")
    assert_close(CompSumLoss()([7], x), np.log(50_000))
    assert_close(CompSumLoss(0.0)([7], x), 49_999)


def test_float16_logits():
    x = np.array([[65504, -65504, 0, 1], [1, 2, 3, 4]], "float16")
    assert_close(CompSumLoss(1.5)([1, 0], x), CompSumLoss(1.5)([1, 0], x.astype("float32")))


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_what_is_no_class_or_no_number(tau):
    loss, x = CompSumLoss(tau), np.ones((6, 3), "float32")
    x[5, 2] = np.nan
    losses = to_numpy(loss.call(np.array([0.0, 3.0, -1.0, np.nan, 1.5, 0.0]), x))
    assert np.isnan(losses).tolist() == [False, True, True, True, True, True]
    assert to_numpy(loss.call(np.zeros(0), np.zeros((0, 3), "float32"))).shape == (0,)
    assert_close(loss.call(Y[:, None], X), loss.call(Y, X))
    assert_close(loss([0, 0], np.array([[1.0], [-5.0]], "float32")), 0.0)  # one class alone


def test_learns_digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x[:400] / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    metrics = ["sparse_categorical_accuracy"]
    model.compile(keras.optimizers.Adam(0.03), CompSumLoss(1.5), metrics=metrics)
    history = model.fit(x, y[:400], batch_size=50, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["sparse_categorical_accuracy"][-1] > 0.9


# Refusals


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf"), None, "1", True])
def test_bad_arguments(tau):
    with pytest.raises(ValueError, match=r"`tau` must be .*Received: tau="):
        CompSumLoss(tau)


@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [((3,), (4, 2)), ((3, 2), (3, 2)), ((3,), (3,)), ((3,), (3, 2, 4)), ((3,), (3, 0))],
)
def test_bad_inputs(y_true, y_pred):
    with pytest.raises(ValueError, match=r"`y_pred` must be logits.*Received: .*shape"):
        CompSumLoss().call(np.zeros(y_true), np.zeros(y_pred, "float32"))
