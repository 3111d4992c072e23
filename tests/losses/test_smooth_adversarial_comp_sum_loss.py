import keras
import numpy as np
import pytest

from keras_zoo.losses import CompSumLoss, SmoothAdversarialCompSumLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy
from tests.losses.test_comp_sum_loss import naive as naive_comp_sum

Y = np.array([0, 3, 1, 1, 2, 0])
H = np.random.default_rng(0).normal(size=(6, 2, 4)) * 2
X = H.astype("float32")
SETTINGS = [(1.0, 1.0, 1.0), (0.5, 2.0, 3.0), (1.5, 0.3, 0.7)]


def naive_distance(label, clean, adversarial):
    """Distance of two vectors of margins, by a plain loop."""
    total = 0.0
    for k in range(len(clean)):
        if k != label:
            total += ((adversarial[label] - adversarial[k]) - (clean[label] - clean[k])) ** 2
    return np.sqrt(total + 1e-12)


def naive(labels, views, tau, rho, nu):
    views = np.asarray(views, "float64")
    first = naive_comp_sum(labels, views[:, 0] / rho, tau)
    return first + nu * np.array(
        [naive_distance(y, *v) for y, v in zip(labels, views, strict=True)]
    )


@pytest.mark.parametrize("name", ["smooth_default", "smooth_tau05"])
def test_matches_the_sums_of_exponentials(name):
    g = golden("comp-sum", name)
    loss = SmoothAdversarialCompSumLoss(*(float(g[key]) for key in ("tau", "rho", "nu")))
    views = g["y_pred"].astype("float32")
    assert_close(loss.call(g["y_true"], views), g["loss"])
    value, grad = gradient(lambda x: loss(g["y_true"], x), views)
    assert_close(value, g["loss"].mean())
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS)
def test_matches_plain_loops(settings):
    loss = SmoothAdversarialCompSumLoss(*settings)
    assert_close(loss.call(Y, X), naive(Y, X, *settings))
    expected = numeric_gradient(lambda x: naive(Y, x, *settings).mean(), H)
    assert_close(gradient(lambda x: loss(Y, x), X)[1], expected, rtol=1e-4, atol=1e-5)


def test_the_worked_example():
    views = [[[1.0, 2.0, 0.0], [0.5, 2.5, 0.2]]]
    assert_close(SmoothAdversarialCompSumLoss()([0], views), 2.628262)
    clean = CompSumLoss()([0], [[1.0, 2.0, 0.0]])
    assert_close(SmoothAdversarialCompSumLoss(nu=0.0)([0], views), clean)
    distance = to_numpy(SmoothAdversarialCompSumLoss()([0], views)) - to_numpy(clean)
    assert_close(distance, 1.220656)


def test_bounds_the_adversarial_margin_loss():
    """From `nu = sqrt(K - 1) / rho` on, for whatever point of the ball the views come from."""
    for rho in (0.5, 1.0, 2.0):
        loss = SmoothAdversarialCompSumLoss(0.0, rho, np.sqrt(3) / rho, reduction=None)
        margins = H[np.arange(6), 1, Y][:, None] - H[:, 1]
        hinge = np.clip(1 - margins / rho, 0, 1) * (np.arange(4) != Y[:, None])
        assert (to_numpy(loss(Y, X)) >= hinge.sum(1) - 1e-5).all()


def test_equal_views():
    """The distance is 1e-6, without gradient."""
    x = X.copy()
    x[:, 1] = x[:, 0]
    loss = SmoothAdversarialCompSumLoss(nu=1000.0)
    value, grad = gradient(lambda x: loss(Y, x), x)
    assert_close(value, to_numpy(CompSumLoss()(Y, x[:, 0])) + 1e-3, rtol=1e-6)
    assert (grad[:, 1] == 0).all()
    _, clean = gradient(lambda h: CompSumLoss()(Y, h), x[:, 0])
    assert_close(grad[:, 0], clean, atol=1e-7)


def test_the_distance_looks_at_margins_alone():
    """A number added to all logits of a view changes nothing."""
    x = X.copy()
    x[:, 1] += 5.0
    loss = SmoothAdversarialCompSumLoss(1.5, 0.7, 2.0)
    assert_close(loss.call(Y, x), loss.call(Y, X))


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e4, -1e4])
def test_extreme_logits(size):
    one = size * np.array([[1, 1, 1, 1], [1, -1, 0, 0.5], [-1, 1, -1, 1]], "float32")
    for other in (one, -one, one + np.float32(1e-3)):
        x = np.stack([one, other], axis=1)
        value, grad = gradient(lambda x: SmoothAdversarialCompSumLoss()([0, 1, 2], x), x)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()


def test_float16_logits():
    """1e-12 is nothing in float16: the distance is computed in float32."""
    x = np.stack([[[1, 2, 3], [65504, -65504, 0]], [[1, 2, 3], [5, 6, 7]]]).astype("float16")
    loss = SmoothAdversarialCompSumLoss()
    assert_close(loss([1, 0], x), loss([1, 0], x.astype("float32")))


def test_what_is_no_class_or_no_number():
    loss, x = SmoothAdversarialCompSumLoss(1.5), np.ones((6, 2, 3), "float32")
    x[4, 0, 2] = x[5, 1, 2] = np.nan
    losses = to_numpy(loss.call(np.array([0.0, 3.0, -1.0, np.nan, 0.0, 0.0]), x))
    assert np.isnan(losses).tolist() == [False, True, True, True, True, True]
    assert to_numpy(loss.call(np.zeros(0), np.zeros((0, 2, 3), "float32"))).shape == (0,)
    assert_close(loss.call(Y[:, None], X), loss.call(Y, X))


def test_learns_digits():
    """The views of a model with two heads: the margins of both come together."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x[:400] / 16).astype("float32")
    keras.utils.set_random_seed(0)
    network = [keras.Input((64,)), keras.layers.Dense(20), keras.layers.Reshape((2, 10))]
    model = keras.Sequential(network)
    model.compile(keras.optimizers.Adam(0.03), SmoothAdversarialCompSumLoss(nu=0.1))
    history = model.fit(x, y[:400], batch_size=50, epochs=4, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"tau": -0.1}, "tau"),
        ({"rho": 0.0}, "rho"),
        ({"rho": -1.0}, "rho"),
        ({"nu": -0.1}, "nu"),
        ({"nu": float("nan")}, "nu"),
        ({"nu": None}, "nu"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        SmoothAdversarialCompSumLoss(**kwargs)


@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [((3,), (4, 2, 5)), ((3, 2), (3, 2, 5)), ((3,), (3, 2)), ((3,), (3, 3, 5)), ((3,), (3, 2, 0))],
)
def test_bad_inputs(y_true, y_pred):
    with pytest.raises(ValueError, match=r"`y_pred` must be logits.*Received: .*shape"):
        SmoothAdversarialCompSumLoss().call(np.zeros(y_true), np.zeros(y_pred, "float32"))
