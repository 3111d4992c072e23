import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.ops import (
    mobius_add,
    poincare_distance,
    poincare_expmap,
    poincare_expmap0,
    poincare_project,
)
from keras_zoo.ops.poincare import clip_norm
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
U, V = RNG.normal(size=(2, 6, 5))
X, Y = (0.3 * RNG.normal(size=(2, 6, 5))).clip(-0.4, 0.4)
C = 0.7


# The formulas for one point, by plain loops in float64


def norm(x):
    return math.sqrt(sum(v * v for v in x))


def naive_project(x, c):
    n, limit = max(norm(x), 1e-5), (1 - 1e-3) / math.sqrt(c)
    return np.array([v / n * limit if n > limit else v for v in x])


def naive_add(x, y, c):
    xy = sum(a * b for a, b in zip(x, y, strict=True))
    xx, yy = norm(x) ** 2, norm(y) ** 2
    below = 1 + 2 * c * xy + c * c * xx * yy + 1e-5
    left, right = (1 + 2 * c * xy + c * yy) / below, (1 - c * xx) / below
    return np.array([left * a + right * b for a, b in zip(x, y, strict=True)])


def naive_expmap0(u, c):
    n = max(norm(u), 1e-5)
    return np.array([math.tanh(math.sqrt(c) * n) * v / (math.sqrt(c) * n) for v in u])


def naive_expmap(x, u, c):
    n, stretch = max(norm(u), 1e-5), 1 / (1 - c * norm(x) ** 2)
    length = math.sqrt(c) * n
    step = [math.tanh(min(stretch * length, 15.0)) * v / length for v in u]
    return naive_add(x, step, c)


def naive_distance(x, y, c):
    chord = math.sqrt(c) * norm(naive_add([-v for v in x], y, c))
    return np.array(2 / math.sqrt(c) * math.atanh(min(chord, 1 - 1e-5)))


CASES = [
    (poincare_project, naive_project, (2 * U,)),
    (mobius_add, naive_add, (X, Y)),
    (poincare_expmap0, naive_expmap0, (U,)),
    (poincare_expmap, naive_expmap, (X, V)),
    (poincare_distance, naive_distance, (X, Y)),
]
each = pytest.mark.parametrize(
    ("fn", "naive", "points"), CASES, ids=[case[0].__name__ for case in CASES]
)


def test_matches_the_official_code():
    g = golden("hyp-oc", "poincare_ops")
    c = float(g["c"])
    assert_close(poincare_expmap0(g["u"], c), g["expmap0"])
    assert_close(poincare_expmap(g["x"], g["v"], c), g["expmap"])
    assert_close(mobius_add(g["x"], g["y"], c), g["mobius_add"])
    assert_close(poincare_distance(g["x"], g["y"], c), g["distance"])
    assert_close(poincare_project(g["far"], c), g["projected"])


@each
def test_matches_plain_loops(fn, naive, points):
    points = [p.astype("float32") for p in points]
    rows = zip(*(p.astype("float64") for p in points), strict=True)
    assert_close(fn(*points, C), np.array([naive(*row, C) for row in rows], "float32"))


@each
def test_gradients_match_plain_loops(fn, naive, points):
    for i in range(len(points)):

        def at(x, i=i):
            return [*points[:i], x, *points[i + 1 :]]

        def total(x, at=at):
            rows = at(ops.cast(x, "float32"))
            return ops.sum(ops.sin(fn(*(ops.cast(p, "float32") for p in rows), C)))

        def naive_total(x, at=at):
            return sum(np.sin(naive(*row, C)).sum() for row in zip(*at(x), strict=True))

        _, grad = gradient(total, points[i].astype("float32"))
        assert_close(grad, numeric_gradient(naive_total, points[i]), 1e-4, 1e-4)


def test_the_geometry():
    x, y, u = (p.astype("float32") for p in (X, Y, U))
    zero = np.zeros_like(x)
    assert_close(mobius_add(zero, y, C), y)
    assert_close(mobius_add(-x, x, C), zero)
    assert_close(mobius_add(-x, mobius_add(x, y, C), C), y, 1e-4, 1e-4)
    assert_close(mobius_add(x, y, 1e-8), x + y, 1e-4, 1e-4)
    assert_close(poincare_expmap(zero, u, C), poincare_expmap0(u, C))
    assert_close(poincare_distance(x, y, C), to_numpy(poincare_distance(y, x, C)), 1e-4, 1e-4)
    # A way of the length |u| in the tangent space of the centre is twice as long in the ball.
    there = poincare_expmap0(0.5 * u, C)
    assert_close(poincare_distance(zero, there, C), np.linalg.norm(u, axis=-1), 1e-4, 1e-4)
    inside = poincare_project(1e6 * x, C)
    assert_close(np.linalg.norm(to_numpy(inside), axis=-1), np.full(6, 0.999 / C**0.5, "float32"))


def test_leading_axes_broadcast():
    x, y = X.astype("float32"), Y.astype("float32")
    found = to_numpy(poincare_distance(x[:, None], y[None], C))
    assert found.shape == (6, 6)
    assert_close(found[2, 3], poincare_distance(x[2], y[3], C))
    assert to_numpy(mobius_add(x[:, None], y[0], C)).shape == (6, 1, 5)


EXTREMES = np.array([[0.0, 0], [1e-40, 0], [1e-20, 1e-20], [1e10, -1], [1e30, 1e30], [0.9999, 0]])


@pytest.mark.parametrize("name", ["project", "expmap0", "expmap", "from_edge", "distance", "clip"])
def test_extremes_are_finite(name):
    """At the origin, at equal points, beside the edge, far beyond it: values and gradients."""
    x = EXTREMES.astype("float32")
    edge = np.array([[1.0, 0]] * 6, "float32")
    functions = {
        "project": poincare_project,
        "expmap0": poincare_expmap0,
        "expmap": lambda u: poincare_expmap(0 * u, u),
        "from_edge": lambda u: poincare_expmap(edge, u),
        "distance": lambda u: poincare_distance(poincare_project(u), poincare_project(0 * u)),
        "clip": lambda u: clip_norm(u, 2.0),
    }
    value, grad = gradient(lambda x: ops.sum(functions[name](x)), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_equal_points():
    x = np.array([[0.0, 0.0], [0.3, -0.4]], "float32")
    value, grad = gradient(lambda y: ops.sum(poincare_distance(x, y)), x)
    assert value == 0
    assert (grad == 0).all()
    assert_close(gradient(lambda u: ops.sum(poincare_expmap0(u)), 0 * x)[1], np.ones((2, 2)))


def test_the_edge():
    near = np.array([[1 - 1e-7, 0.0]], "float32")
    longest = 2 * np.arctanh(1 - 1e-5)
    assert_close(poincare_distance(near, -near), [longest], 1e-2)


@each
def test_nan_stays_nan(fn, naive, points):
    for i in range(len(points)):
        bad = [p.astype("float32") for p in points]
        bad[i][1, 2] = np.nan
        result = to_numpy(fn(*bad, C)).reshape(6, -1)
        assert np.isnan(result).any(axis=1).tolist() == [False, True] + 4 * [False]


def test_dtypes():
    for dtype in ("float16", "bfloat16", "float32", "int32"):
        x = ops.cast(ops.zeros((2, 3)), dtype)
        assert keras.backend.standardize_dtype(poincare_expmap0(x).dtype) == "float32"
    if keras.backend.backend() != "jax":  # which has no float64, unless told to
        y = Y.astype("float32")
        found = mobius_add(ops.cast(X, "float64"), y, C)
        assert keras.backend.standardize_dtype(found.dtype) == "float64"
        expected = [naive_add(*row, C) for row in zip(X, y.astype("float64"), strict=True)]
        assert_close(found, np.array(expected), 1e-12, 1e-12)


@each
def test_bad_input(fn, naive, points):
    for bad in (0.0, -1.0, float("nan"), None, True, "1"):
        with pytest.raises(ValueError, match=r"`c` must be a positive number.*Received: c="):
            fn(*points, bad)
    with pytest.raises(ValueError, match=r"must be `\(\.\.\., d\)`.*Received: .* of shape"):
        fn(*[1.0 for _ in points])
    if len(points) == 2:
        with pytest.raises(ValueError, match=r"one and the same d\. Received: x of shape \(6, 5\)"):
            fn(points[0], points[1][:, :1])
