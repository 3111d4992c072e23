import keras
import numpy as np
import pytest

from keras_zoo.losses import InfoNCELoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy


def naive(views, temperature, symmetric):
    """By plain loops, in float64."""
    unit = views / np.maximum(np.linalg.norm(views, axis=2, keepdims=True), 1e-30)
    n, losses = len(views), []
    for i in range(n):
        z = [unit[i, 0] @ unit[j, 1] / temperature for j in range(n)]
        hard = [unit[i, 0] @ h / temperature for j in range(n) for h in unit[j, 2:]]
        row = np.log(sum(np.exp(v - z[i]) for v in [*z, *hard]))
        column = np.log(sum(np.exp(unit[j, 0] @ unit[i, 1] / temperature - z[i]) for j in range(n)))
        losses.append((row + column) / 2 if symmetric else row)
    return np.array(losses)


def test_matches_the_fixture():
    g = golden("cwcl", "infonce")
    loss = InfoNCELoss(float(g["temperature"]))
    y_true = np.zeros(len(g["embeddings"]))
    value, grad = gradient(lambda x: loss(y_true, x), g["embeddings"])
    assert_close(value, g["loss"])
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-5)
    assert_close(loss.call(y_true, g["embeddings"]), g["loss_vector"])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("views", [2, 4])
def test_matches_plain_loops(symmetric, views):
    x = np.random.default_rng(0).normal(size=(5, views, 3))
    loss = InfoNCELoss(0.3, symmetric)
    assert_close(loss.call(np.zeros(5), x.astype("float32")), naive(x, 0.3, symmetric))
    _, grad = gradient(lambda x: loss(np.zeros(5), x), x.astype("float32"))
    expected = numeric_gradient(lambda x: naive(x, 0.3, symmetric).mean(), x)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def test_normalised_views_need_no_normalising():
    x = np.random.default_rng(1).normal(size=(4, 3, 5)).astype("float32")
    unit = x / np.linalg.norm(x, axis=2, keepdims=True)
    found = InfoNCELoss(normalize=False).call(np.zeros(4), unit)
    assert_close(found, InfoNCELoss().call(np.zeros(4), 7 * x), rtol=1e-4)


def test_extremes():
    # One pair alone: nothing to tell it from.
    value, grad = gradient(lambda x: InfoNCELoss()(np.zeros(1), x), np.ones((1, 2, 3), "float32"))
    assert value == 0
    assert np.abs(grad).max() < 1e-6
    # A cold softmax, rows of zeros, equal rows.
    x = np.zeros((4, 3, 2), "float32")
    x[1:3] = 1.0
    value, grad = gradient(lambda x: InfoNCELoss(0.001)(np.zeros(4), x), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    x[2, 0, 0] = np.nan
    found = to_numpy(InfoNCELoss(symmetric=False).call(np.zeros(4), x))
    assert np.isnan(found).tolist() == [False, False, True, False]
    assert to_numpy(InfoNCELoss().call(np.zeros(0), np.zeros((0, 2, 3), "float32"))).shape == (0,)


def test_learns_to_pair_halves_of_digits():
    from sklearn.datasets import load_digits

    x = load_digits().data[:256].astype("float32").reshape(-1, 2, 32) / 16
    keras.utils.set_random_seed(0)
    tops, bottoms = keras.Input((32,)), keras.Input((32,))
    views = [keras.layers.Dense(16)(side) for side in (tops, bottoms)]
    model = keras.Model([tops, bottoms], keras.ops.stack(views, axis=1))
    model.compile(keras.optimizers.Adam(0.01), InfoNCELoss(0.2))
    inputs = [x[:, 0], x[:, 1]]
    losses = model.fit(inputs, np.zeros(256), batch_size=64, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"symmetric": "yes"}, "symmetric"),
        ({"normalize": 1}, "normalize"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        InfoNCELoss(**kwargs)


@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 3), (4, 2, 3, 1)])
def test_bad_inputs(shape):
    with pytest.raises(ValueError, match=r"`y_pred` must hold views.*Received: "):
        InfoNCELoss().call(np.zeros(4), np.zeros(shape, "float32"))
