import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import ToPoincareBall
from keras_zoo.losses import HyperbolicPairwiseConfusionLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy
from tests.ops.test_poincare import naive_add, naive_distance, norm

Z = np.random.default_rng(0).normal(size=(7, 4)) * 0.4
both = pytest.mark.parametrize("distance", ["arctan", "geodesic"])


def naive(z, c, distance):
    """Losses `(N,)` by plain loops in float64."""
    losses, half = np.zeros(len(z)), len(z) // 2
    for i in range(half):
        if distance == "geodesic":
            delta = naive_distance(z[i], z[i + half], c)
        else:
            chord = math.sqrt(c) * norm(naive_add(-z[i], z[i + half], c))
            delta = 2 / math.sqrt(c) * math.atan(chord)
        losses[i] = losses[i + half] = delta / 2
    return losses


@both
def test_matches_the_official_code(distance):
    g = golden("hyp-oc", "pairwise_confusion")
    loss = HyperbolicPairwiseConfusionLoss(float(g["c"]), distance)
    value, grad = gradient(lambda x: loss(np.zeros(8), x), g["x"])
    assert_close(value, g[f"loss_{distance}"].astype("float32"))
    assert_close(grad, g[f"grad_{distance}"], rtol=1e-4, atol=1e-6)


@both
@pytest.mark.parametrize("rows", [2, 6, 7])
def test_matches_plain_loops(distance, rows):
    z = Z[:rows].astype("float32")
    loss = HyperbolicPairwiseConfusionLoss(0.6, distance)
    assert_close(loss.call(np.zeros(rows), z), naive(z.astype("float64"), 0.6, distance))
    expected = numeric_gradient(lambda z: naive(z, 0.6, distance).mean(), Z[:rows])
    assert_close(gradient(lambda z: loss(np.zeros(rows), z), z)[1], expected, 1e-4, 1e-5)


@both
def test_one_row_no_row_and_equal_rows(distance):
    loss = HyperbolicPairwiseConfusionLoss(distance=distance)
    z = Z.astype("float32")
    value, grad = gradient(lambda z: loss(np.zeros(1), z), z[:1])
    assert value == 0
    assert (grad == 0).all()
    assert to_numpy(loss.call(np.zeros(0), z[:0])).shape == (0,)
    same = np.concatenate([z[:3], z[:3]])
    for x in (same, np.zeros((4, 3), "float32")):
        value, grad = gradient(lambda x: loss(np.zeros(len(x)), x), x)
        assert abs(value) < 1e-6
        assert np.isfinite(grad).all()


@both
def test_the_edge(distance):
    """Opposite points of the edge: finite; arctan stays below its bound."""
    z = 0.999 / 0.1**0.5 * np.array([[1, 0], [-1, 0]], "float32")
    value, grad = gradient(
        lambda z: HyperbolicPairwiseConfusionLoss(distance=distance)(np.zeros(2), z), z
    )
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    if distance == "arctan":
        assert value < math.pi / (4 * 0.1**0.5)


@both
def test_nan_reaches_the_pair(distance):
    z = Z.astype("float32")
    z[1, 0] = np.nan
    losses = HyperbolicPairwiseConfusionLoss(distance=distance).call(np.zeros(7), z)
    assert np.isnan(to_numpy(losses)).tolist() == [i in (1, 4) for i in range(7)]
    z[6, 0] = np.nan
    assert np.isnan(to_numpy(HyperbolicPairwiseConfusionLoss().call(np.zeros(7), z))[6])


def test_labels_are_not_looked_at():
    loss, z = HyperbolicPairwiseConfusionLoss(), Z.astype("float32")
    expected = float(loss(np.zeros(7), z))
    for y in (np.full(7, np.nan), np.arange(7)[:, None]):
        assert float(loss(y, z)) == expected
    half = loss(np.zeros(7), ops.cast(z, "float16"))
    assert_close(half, expected, rtol=1e-3)


def test_learns_digits():
    """Digits of one class come together in the ball."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x[y == 3][:64] / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(4), ToPoincareBall()])
    model.compile(keras.optimizers.Adam(0.01), HyperbolicPairwiseConfusionLoss())
    history = model.fit(x, np.zeros(64), batch_size=32, epochs=3, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


def test_bad_input():
    with pytest.raises(ValueError, match=r"`curvature` must be .*Received: curvature="):
        HyperbolicPairwiseConfusionLoss(curvature=0.0)
    with pytest.raises(ValueError, match=r"`distance` must be .*Received: distance="):
        HyperbolicPairwiseConfusionLoss(distance="artanh")
    for shape in ((4,), (4, 2, 2)):
        with pytest.raises(ValueError, match=r"`y_pred` must be points.*Received: y_pred of shape"):
            HyperbolicPairwiseConfusionLoss().call(np.zeros(4), np.zeros(shape, "float32"))
