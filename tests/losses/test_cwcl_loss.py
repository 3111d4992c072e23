import keras
import numpy as np
import pytest

from keras_zoo.losses import CWCLLoss, InfoNCELoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy


def weights(features):
    """Normalised intra-modal weights, by plain loops."""
    unit = [f / max(np.linalg.norm(f), 1e-30) for f in features]
    rows = [[(a @ b + 1) / 2 for b in unit] for a in unit]
    return np.array([[w / sum(row) for w in row] for row in rows])


def naive(views, w, temperature, reverse_weight):
    unit = views / np.maximum(np.linalg.norm(views, axis=2, keepdims=True), 1e-30)
    n, losses = len(views), []
    z = [[unit[i, 0] @ unit[j, 1] / temperature for j in range(n)] for i in range(n)]
    for i in range(n):
        log_total = np.log(sum(np.exp(v) for v in z[i]))
        row = -sum(w[i][j] * (z[i][j] - log_total) for j in range(n))
        column = np.log(sum(np.exp(z[k][i]) for k in range(n))) - z[i][i]
        losses.append(row + reverse_weight * column)
    return np.array(losses)


@pytest.mark.parametrize("name", ["cwcl_embedding", "cwcl_target"])
def test_matches_the_fixture(name):
    g = golden("cwcl", name)
    weights_from = "target" if "features" in g else "embedding"
    arguments = float(g["temperature"]), float(g["reverse_weight"]), weights_from
    y_true = g.get("features", np.zeros(len(g["embeddings"])))
    value, grad = gradient(lambda x: CWCLLoss(*arguments)(y_true, x), g["embeddings"])
    assert_close(value, g["loss"])
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-5)
    assert_close(CWCLLoss(*arguments).call(y_true, g["embeddings"]), g["loss_vector"])


@pytest.mark.parametrize("weights_from", ["embedding", "target"])
def test_matches_plain_loops_and_weights_are_constants(weights_from):
    rng = np.random.default_rng(0)
    x, features = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 7))
    loss = CWCLLoss(0.4, 0.3, weights_from)
    w = weights(features if weights_from == "target" else x[:, 1])
    x32 = x.astype("float32")
    assert_close(loss.call(features, x32), naive(x, w, 0.4, 0.3))
    _, grad = gradient(lambda x: loss(features, x), x32)
    # w stays as it was where x moves.
    expected = numeric_gradient(lambda x: naive(x, w, 0.4, 0.3).mean(), x)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def test_without_other_positives_it_is_twice_info_nce():
    # Features whose off-diagonal weights are 0: two opposite ones.
    features = np.array([[1.0, 0.0], [-1.0, 0.0]])
    x = np.random.default_rng(1).normal(size=(2, 2, 4)).astype("float32")
    found = CWCLLoss(0.1, weights_from="target").call(features, x)
    assert_close(found, 2 * to_numpy(InfoNCELoss(0.1).call(np.zeros(2), x)))


def test_the_least_value_is_the_entropy_of_the_weights():
    # All products equal, so softmax is uniform; all features equal, so weights are.
    x = np.ones((4, 2, 3), "float32")
    value, grad = gradient(lambda x: CWCLLoss(reverse_weight=0.0)(np.zeros(4), x), x)
    assert_close(value, np.log(4))
    assert np.abs(grad).max() < 1e-5


def test_unnormalised_views_keep_normalised_weights():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 2, 3)).astype("float32")
    unit = x / np.linalg.norm(x, axis=2, keepdims=True)
    # A learned temperature, put on view 0, gives what the argument gives.
    scaled = unit * np.array([5.0, 1.0], "float32")[:, None]
    found = CWCLLoss(1.0, normalize=False).call(np.zeros(4), scaled)
    assert_close(found, CWCLLoss(0.2).call(np.zeros(4), x))
    # View 1 of any length: the weights are those of unit vectors.
    longer = unit * np.array([1.0, 3.0], "float32")[:, None]
    w = weights(x[:, 1].astype("float64"))
    z = unit[:, 0].astype("float64") @ (3 * unit[:, 1].T.astype("float64"))
    row = np.log(np.exp(z).sum(axis=1)) - (w * z).sum(axis=1)
    found = CWCLLoss(1.0, 0.0, normalize=False).call(np.zeros(4), longer)
    assert_close(found, row)


def test_extremes():
    value, grad = gradient(lambda x: CWCLLoss()(np.zeros(1), x), np.ones((1, 2, 3), "float32"))
    assert value == 0
    assert np.abs(grad).max() < 1e-6
    x = np.zeros((5, 2, 2), "float32")
    x[1:3], x[3] = 1.0, -1.0
    value, grad = gradient(lambda x: CWCLLoss(0.01)(np.zeros(5), x), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    x[2, 1, 0] = np.nan
    assert np.isnan(to_numpy(CWCLLoss().call(np.zeros(5), x))).all()
    assert to_numpy(CWCLLoss().call(np.zeros(0), np.zeros((0, 2, 3), "float32"))).shape == (0,)


def test_learns_to_follow_a_frozen_tower():
    from sklearn.datasets import load_digits

    x = load_digits().data[:256].astype("float32").reshape(-1, 2, 32) / 16
    keras.utils.set_random_seed(0)
    tops, frozen = keras.Input((32,)), keras.Input((32,))
    model = keras.Model(
        [tops, frozen], keras.ops.stack([keras.layers.Dense(32)(tops), frozen - 0.3], axis=1)
    )
    model.compile(keras.optimizers.Adam(0.02), CWCLLoss(0.2))
    inputs = [x[:, 0], x[:, 1]]
    losses = model.fit(inputs, np.zeros(256), batch_size=64, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"temperature": -1}, "temperature"),
        ({"reverse_weight": -0.5}, "reverse_weight"),
        ({"weights_from": "labels"}, "weights_from"),
        ({"normalize": None}, "normalize"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        CWCLLoss(**kwargs)


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"`y_pred` must hold views.*Received: "):
        CWCLLoss().call(np.zeros(4), np.zeros((4, 3, 2), "float32"))
    for y_true in (np.zeros(4), np.zeros((3, 2))):
        with pytest.raises(ValueError, match=r"`y_true` must be.*Received: "):
            CWCLLoss(weights_from="target").call(y_true, np.zeros((4, 2, 2), "float32"))
