import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import HyperbolicMLR
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy
from tests.ops.test_poincare import naive_add, naive_expmap0, norm

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)) * 0.4
NORMAL, POINT = RNG.normal(size=(2, 4, 3)) * 0.6


def naive(x, normal, point, c):
    """Logits `(N, K)` in the form of the official code, by plain loops in float64."""
    logits = np.zeros((len(x), normal.shape[1]))
    for i, row in enumerate(x):
        for k in range(normal.shape[1]):
            p = naive_expmap0(point[:, k], c)
            conformal = 1 - c * norm(p) ** 2
            a = normal[:, k] * conformal
            m = naive_add(-p, row, c)
            inner = sum(m * a)
            ratio = 2 * math.sqrt(c) * inner / (norm(a) * (1 - c * norm(m) ** 2))
            logits[i, k] = 2 / conformal * norm(a) / math.sqrt(c) * math.asinh(ratio)
    return logits


def built(normal, point, c):
    layer = HyperbolicMLR(normal.shape[1], c)
    layer.build((None, len(normal)))
    layer.set_weights([normal, point])
    return layer


def gradients(layer, x, upstream):
    """Of `sum(layer(x) * upstream)` for input, normal and point."""
    variables = layer.normal, layer.point

    def loss(x, normal, point):
        layer._tracker.unlock()
        layer.normal, layer.point = normal, point
        try:
            return ops.sum(ops.multiply(layer.call(x), upstream))
        finally:
            layer.normal, layer.point = variables

    parts = [ops.convert_to_tensor(p) for p in (x, *map(to_numpy, variables))]
    return [
        gradient(lambda t, i=i: loss(*parts[:i], t, *parts[i + 1 :]), parts[i])[1] for i in range(3)
    ]


def test_matches_the_official_code():
    g = golden("hyp-oc", "mlr")
    layer = built(g["normal"], g["point"], float(g["c"]))
    assert_close(layer(g["x"]), g["logits"])
    found = gradients(layer, g["x"], g["upstream"])
    for name, grad in zip(("grad_x", "grad_normal", "grad_point"), found, strict=True):
        assert_close(grad, g[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("c", [0.1, 0.9])
def test_matches_plain_loops(c):
    parts = [p.astype("float32") for p in (X, NORMAL, POINT)]
    layer = built(*parts[1:], c)
    assert_close(layer(parts[0]), naive(*(p.astype("float64") for p in parts), c))
    found = gradients(layer, parts[0], np.ones((6, 3), "float32"))
    for i, grad in enumerate(found):

        def total(t, i=i):
            own = [X, NORMAL, POINT]
            own[i] = t
            return naive(*own, c).sum()

        assert_close(grad, numeric_gradient(total, (X, NORMAL, POINT)[i]), 1e-4, 1e-4)


def test_the_sign_is_the_side_of_the_hyperplane():
    layer = built(NORMAL.astype("float32"), POINT.astype("float32"), 0.5)
    on = np.array([naive_expmap0(POINT[:, k], 0.5) for k in range(3)], "float32")
    logits = to_numpy(layer(on))
    assert_close(np.diag(logits), np.zeros(3), atol=1e-5)
    flat = built(NORMAL.astype("float32"), POINT.astype("float32"), 1e-6)
    expected = 4 * (X[:, None] - POINT.T[None]) * NORMAL.T[None]
    assert_close(flat(X.astype("float32")), expected.sum(-1), 1e-3, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4, 1e20])
def test_extremes(size):
    """Hyperplanes from the centre to the edge, normals of zero, points from 0 to the edge."""
    direction = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], "float32")
    radius = np.float32(0.999 / 0.1**0.5)
    for x in (0 * direction, radius * direction):
        for normal in (0 * direction, direction, 1e10 * direction):
            layer = built(normal.T.copy(), size * direction.T, 0.1)
            assert np.isfinite(to_numpy(layer(x))).all()
            for grad in gradients(layer, x, np.ones((2, 2), "float32")):
                assert np.isfinite(grad).all()
    assert_close(built(0 * direction.T, direction.T, 0.1)(direction), np.zeros((2, 2)))


def test_both_weights_start_alike_but_not_the_same():
    keras.utils.set_random_seed(0)
    for initializer in (None, "glorot_uniform", keras.initializers.RandomNormal()):
        layer = HyperbolicMLR(3, kernel_initializer=initializer)
        layer.build((None, 400))
        normal, point = to_numpy(layer.normal), to_numpy(layer.point)
        assert (normal != point).any()
        if initializer is None:
            assert np.abs(normal).max() <= 0.05
            assert 0.02 < normal.std() < 0.04
    again = HyperbolicMLR.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_nan_and_shapes():
    layer = built(NORMAL.astype("float32"), POINT.astype("float32"), 0.1)
    x = X.astype("float32")
    x[2, 1] = np.nan
    assert np.isnan(to_numpy(layer(x))).all(axis=1).tolist() == [i == 2 for i in range(6)]
    stacked = np.stack([X, X]).astype("float32")
    assert_close(layer(stacked)[1], to_numpy(layer(stacked[0])))
    assert to_numpy(layer(np.zeros((0, 4), "float32"))).shape == (0, 3)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float16"])
def test_half_precision_computes_in_float32(policy):
    layer = HyperbolicMLR(3, dtype=policy)
    logits = layer(ops.cast(X, "float32"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    twin = built(*(to_numpy(ops.cast(w, "float32")) for w in layer.weights), 0.1)
    assert_close(logits, to_numpy(twin(X.astype("float32"))))


def test_bad_arguments():
    for units in (0, 2.0, True):
        with pytest.raises(ValueError, match=r"`units` must be .*Received: units="):
            HyperbolicMLR(units)
    with pytest.raises(ValueError, match=r"`curvature` must be .*Received: curvature="):
        HyperbolicMLR(2, curvature=-1.0)
    for shape in ((), (None, None)):
        with pytest.raises(ValueError, match=r"`inputs` must be .*Received: shape"):
            HyperbolicMLR(2).build(shape)
