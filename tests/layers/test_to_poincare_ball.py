import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import ToPoincareBall
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy
from tests.ops.test_poincare import naive_expmap, naive_expmap0, naive_project, norm

X = np.random.default_rng(0).normal(size=(6, 4)) * 2


def naive(x, origin, c, clip_radius):
    """The points of all rows, by plain loops in float64."""
    centre = None if origin is None else naive_project(naive_expmap0(origin, c), c)
    points = []
    for row in x:
        if clip_radius is not None:
            row = row * min(1.0, clip_radius / (norm(row) + 1e-5))
        point = naive_expmap0(row, c) if origin is None else naive_expmap(centre, row, c)
        points.append(naive_project(point, c))
    return np.array(points)


def built(origin=None, **kwargs):
    layer = ToPoincareBall(**kwargs)
    layer.build((None, 4 if origin is None else len(origin)))
    if origin is not None:
        layer.origin.assign(origin)
    return layer


def weight_gradient(layer, x, upstream):
    """Of `sum(layer(x) * upstream)` for the origin, with a tensor in its place."""
    variable = layer.origin

    def loss(w):
        layer._tracker.unlock()
        layer.origin = w
        try:
            return ops.sum(ops.multiply(layer.call(ops.convert_to_tensor(x)), upstream))
        finally:
            layer.origin = variable

    return gradient(loss, to_numpy(variable))[1]


@pytest.mark.parametrize("name", ["to_ball_default", "to_ball_plain"])
def test_matches_the_official_code(name):
    g = golden("hyp-oc", name)
    radius, learn = float(g["clip_radius"]), bool(len(g["origin"]))
    layer = ToPoincareBall(
        float(g["c"]), None if radius < 0 else radius, learn, bool(g["riemannian_gradient"])
    )
    layer.build(g["x"].shape)
    if learn:
        layer.origin.assign(g["origin"])
    assert_close(layer(g["x"]), g["y"])
    _, grad = gradient(lambda x: ops.sum(ops.multiply(layer(x), g["upstream"])), g["x"])
    assert_close(grad, g["grad_x"], rtol=1e-4, atol=1e-5)
    if learn:
        found = weight_gradient(layer, g["x"], g["upstream"])
        assert_close(found, g["grad_origin"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip_radius", [None, 1.0, 100.0])
@pytest.mark.parametrize("origin", [None, [0.3, -0.2, 0.1, 0.5]])
def test_matches_plain_loops(clip_radius, origin):
    arguments = origin, 0.5, clip_radius
    layer = built(
        origin,
        curvature=0.5,
        clip_radius=clip_radius,
        learn_origin=origin is not None,
        riemannian_gradient=False,
    )
    x = X.astype("float32")
    assert_close(layer(x), naive(x.astype("float64"), *arguments), 1e-5, 1e-5)
    expected = numeric_gradient(lambda x: np.sin(naive(x, *arguments)).sum(), X)
    found = gradient(lambda x: ops.sum(ops.sin(layer(x))), x)[1]
    assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_riemannian_gradient_is_a_factor_of_the_gradient_alone():
    x, upstream = X.astype("float32"), np.random.default_rng(1).normal(size=(6, 4))
    upstream = upstream.astype("float32")
    plain, scaled = (built(curvature=0.4, riemannian_gradient=r) for r in (False, True))
    z = to_numpy(plain(x))
    np.testing.assert_array_equal(to_numpy(scaled(x)), z)
    factor = np.array([(1 - 0.4 * norm(row) ** 2) ** 2 / 4 for row in z], "float32")[:, None]
    _, grad = gradient(lambda x: ops.sum(ops.multiply(scaled(x), upstream)), x)
    _, expected = gradient(lambda x: ops.sum(ops.multiply(plain(x), upstream * factor)), x)
    assert_close(grad, expected, 1e-4, 1e-6)


def test_starts_at_the_centre():
    fixed, learnt = built(learn_origin=False), built()
    assert fixed.weights == []
    assert to_numpy(learnt.origin).tolist() == 4 * [0.0]
    assert_close(learnt(X.astype("float32")), to_numpy(fixed(X.astype("float32"))))


@pytest.mark.slow
@pytest.mark.parametrize("clip_radius", [None, 2.0])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4, 1e30])
def test_extremes(clip_radius, size):
    """Zeros at an origin of zero, and features far beyond the edge."""
    layer = built(clip_radius=clip_radius)
    x = size * np.array([[1, 0, 0, 0], [1, -1, 0.5, 2]], "float32")
    value, grad = gradient(lambda x: ops.sum(layer(x)), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    assert np.isfinite(weight_gradient(layer, x, np.ones((2, 4), "float32"))).all()
    lengths = np.linalg.norm(to_numpy(layer(x)), axis=-1)
    assert (lengths <= 0.9991 / 0.1**0.5).all()


def test_nan_and_shapes():
    layer = built()
    x = X.astype("float32")
    x[2, 1] = np.nan
    assert np.isnan(to_numpy(layer(x))).any(axis=1).tolist() == [i == 2 for i in range(6)]
    assert layer(np.zeros((2, 3, 4), "float32")).shape == (2, 3, 4)
    assert to_numpy(layer(np.zeros((0, 4), "float32"))).shape == (0, 4)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float16"])
def test_half_precision_computes_in_float32(policy):
    layer = ToPoincareBall(curvature=1.0, clip_radius=None, dtype=policy)
    z = layer(ops.cast(X, "float16"))
    assert keras.backend.standardize_dtype(z.dtype) == "float32"
    exact = built(curvature=1.0, clip_radius=None)(ops.cast(ops.cast(X, "float16"), "float32"))
    assert_close(z, to_numpy(exact))


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"curvature": 0.0}, "curvature"),
        ({"curvature": float("inf")}, "curvature"),
        ({"clip_radius": 0.0}, "clip_radius"),
        ({"clip_radius": "2"}, "clip_radius"),
        ({"learn_origin": 1}, "learn_origin"),
        ({"riemannian_gradient": None}, "riemannian_gradient"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        ToPoincareBall(**kwargs)


def test_bad_inputs():
    for shape in ((), (None, None)):
        with pytest.raises(ValueError, match=r"`inputs` must be .*Received: shape"):
            ToPoincareBall().build(shape)
