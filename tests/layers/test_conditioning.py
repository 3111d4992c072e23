"""The layers that a token leads: modulation, dynamic convolution, cross-attention."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import (
    DynamicDepthwiseConv3D,
    FeatureWiseModulation,
    GlobalTokenCrossAttention3D,
)
from keras_zoo.layers.dynamic_depthwise_conv_3d import depthwise_correlation
from keras_zoo.ops import input_gradient
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

GOLDEN = golden("deeptfus", "conditioning_layers")
X, Z = GOLDEN["x"], GOLDEN["z"]
RNG = np.random.default_rng(0)

# Of each layer: how it is made, prefix of its stored weights, key of its stored output.
MAKERS = {
    "film": (FeatureWiseModulation, "film", "film_out"),
    "dynamic": (DynamicDepthwiseConv3D, "dyn", "dyn_out"),
    "both ways": (lambda: GlobalTokenCrossAttention3D(2), "att", "att_out_bidirectional"),
    "one way": (lambda: GlobalTokenCrossAttention3D(2, False), "att", "att_out_unidirectional"),
}
# Softmax over one key is 1: these stored weights cannot matter, and are not made.
NOT_MADE = {"feature_query", "token_key"}


def by_name(layer):
    return {w.path.split("/", 1)[1]: to_numpy(w).astype("float64") for w in layer.weights}


@pytest.fixture(scope="module")
def layers():
    """Each layer with the fixture's weights, after it was seen to start as the identity."""
    made = {}
    for name, (make, prefix, _) in MAKERS.items():
        layer = make()
        np.testing.assert_array_equal(to_numpy(layer([X, Z])), X)
        stored = {
            k.split(":")[1]: v
            for k, v in GOLDEN.items()
            if k.startswith(prefix + ":") and k.split(":")[1].split("/")[0] not in NOT_MADE
        }
        names = set(by_name(layer))
        if name == "one way":
            assert not any(n.startswith(("token_value", "feature_output")) for n in names)
            stored = {k: v for k, v in stored.items() if k in names}
        assert names == set(stored)
        for weight in layer.weights:
            weight.assign(stored[weight.path.split("/", 1)[1]])
        made[name] = layer
    return made


@pytest.mark.parametrize("name", MAKERS)
def test_matches_the_fixture(layers, name):
    assert_close(layers[name]([X, Z]), GOLDEN[MAKERS[name][2]])
    assert layers[name].compute_output_shape([(None, 4, None, 3, 4), (None, 8)]) == (
        (None, 4, None, 3, 4)
    )


def dense(weights, name, x):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def naive_film(weights, x, z):
    gamma, beta = dense(weights, "gamma", z), dense(weights, "beta", z)
    out = np.zeros(x.shape)
    for *place, c in np.ndindex(x.shape):
        out[*place, c] = gamma[c] * x[*place, c] + beta[c]
    return out


def naive_correlation(x, filters):
    out = np.zeros(x.shape)
    size = len(filters)
    for i, j, k, c in np.ndindex(x.shape):
        for o in np.ndindex(size, size, size):
            place = [v + w - size // 2 for v, w in zip((i, j, k), o, strict=True)]
            if all(0 <= v < n for v, n in zip(place, x.shape, strict=False)):
                out[i, j, k, c] += filters[*o, c] * x[*place, c]
    return out


def naive_dynamic(weights, x, z, size=3):
    hidden = dense(weights, "hidden", z)
    hidden = np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in hidden])
    filters = dense(weights, "kernel_generator", hidden)
    filters = filters.reshape(size, size, size, x.shape[-1])
    return naive_correlation(x, filters)


def naive_attention(weights, x, z, heads=2, both_ways=True):
    voxels = x.reshape(-1, x.shape[-1])
    query, width = dense(weights, "token_query", z), x.shape[-1] // heads
    found = np.zeros(x.shape[-1])
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        key = [dense(weights, "feature_key", f)[part] for f in voxels]
        value = [dense(weights, "feature_value", f)[part] for f in voxels]
        e = [math.exp(sum(query[part] * k) / math.sqrt(width)) for k in key]
        found[part] = sum(a / sum(e) * v for a, v in zip(e, value, strict=True))
    token = dense(weights, "token_output", found)
    out = np.zeros(voxels.shape)
    for t, f in enumerate(voxels):
        side = dense(weights, "feature_output", dense(weights, "token_value", z))
        side = side if both_ways else f
        out[t] = f + dense(weights, "fusion", np.concatenate([side, token]))
    return out.reshape(x.shape)


def test_match_plain_loops(layers):
    x, z = X.astype("float64"), Z.astype("float64")
    attention = by_name(layers["both ways"])
    expected = {
        "film": [naive_film(by_name(layers["film"]), *pair) for pair in zip(x, z, strict=True)],
        "dynamic": [
            naive_dynamic(by_name(layers["dynamic"]), *pair) for pair in zip(x, z, strict=True)
        ],
        "both ways": [naive_attention(attention, *pair) for pair in zip(x, z, strict=True)],
        "one way": [
            naive_attention(attention, *pair, both_ways=False) for pair in zip(x, z, strict=True)
        ],
    }
    for name, values in expected.items():
        assert_close(layers[name]([X, Z]), np.array(values))


@pytest.mark.parametrize("size", [1, 3])
def test_gradient_of_the_correlation(size):
    """It is written by hand; here against differences of the plain loops."""
    x = RNG.normal(size=(2, 3, 1, 2, 2)).astype("float32")
    filters = RNG.normal(size=(2, size, size, size, 2)).astype("float32")

    def loss(x, filters):
        pairs = zip(x, filters, strict=True)
        return sum((naive_correlation(*pair) ** 3).sum() for pair in pairs)

    def ours(x, filters):
        return ops.sum(depthwise_correlation(x, filters) ** 3)

    value, by_x = gradient(lambda v: ours(v, ops.convert_to_tensor(filters)), x)
    assert value == pytest.approx(loss(x.astype("float64"), filters.astype("float64")), rel=1e-4)
    assert_close(by_x, numeric_gradient(lambda v: loss(v, filters), x), 1e-4, 1e-3)
    _, by_filters = gradient(lambda v: ours(ops.convert_to_tensor(x), v), filters)
    expected = numeric_gradient(lambda v: loss(x, v), filters)
    assert_close(by_filters, expected, 1e-4, 1e-3)


def test_second_derivative_of_the_correlation():
    """The slope along some filters, of a sum linear in them, is that sum for these filters."""
    x, weights = RNG.normal(size=(2, 2, 3, 2, 2, 2)).astype("float32")
    filters, along = RNG.normal(size=(2, 2, 3, 3, 3, 2)).astype("float32")

    def total(x, filters):
        product = ops.multiply(weights, depthwise_correlation(x, filters))
        return ops.reshape(ops.sum(product), (1,))

    def slope(x):
        by_filters = input_gradient(lambda v: total(x, v), filters, create_graph=True)
        return ops.sum(ops.multiply(along, by_filters))

    _, expected = gradient(lambda x: total(x, ops.convert_to_tensor(along))[0], x)
    assert_close(gradient(slope, x)[1], expected)


def test_filters_wider_than_the_volume():
    inputs = [keras.Input((3, 1, 2, 2)), keras.Input((8,))]
    layer = DynamicDepthwiseConv3D(5, hidden_units=4)
    model = keras.Model(inputs, layer(inputs))
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    x = RNG.normal(size=(2, 3, 1, 2, 2)).astype("float32")
    pairs = zip(x.astype("float64"), Z.astype("float64"), strict=True)
    expected = [naive_dynamic(by_name(layer), *pair, size=5) for pair in pairs]
    assert_close(model.predict([x, Z], verbose=0), np.array(expected), 1e-4, 1e-4)


def test_order_of_the_generator_is_that_of_its_start():
    """A fresh layer whose bias is moved from the centre by one along the last side of the filter
    moves the volume."""
    layer = DynamicDepthwiseConv3D()
    layer([X, Z])
    bias = to_numpy(layer.kernel_generator.bias).reshape(3, 3, 3, 4)
    assert np.argwhere(bias[..., 0]).tolist() == [[1, 1, 1]]
    layer.kernel_generator.bias.assign(np.roll(bias, 1, axis=2).reshape(-1))
    moved = np.zeros_like(X)
    moved[:, :, :, :-1] = X[:, :, :, 1:]
    assert_close(layer([X, Z]), moved)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(layers, name, dtype):
    make = {
        "film": FeatureWiseModulation,
        "dynamic": DynamicDepthwiseConv3D,
        "both ways": GlobalTokenCrossAttention3D,
        "one way": GlobalTokenCrossAttention3D,
    }[name]
    half = make.from_config({**layers[name].get_config(), "dtype": dtype})
    half([X, Z])
    half.set_weights(layers[name].get_weights())
    found = half([X, Z])
    assert keras.backend.standardize_dtype(found.dtype) == half.compute_dtype
    expected = to_numpy(layers[name]([X, Z]))
    share = 0.01 if dtype == "mixed_float16" else 0.06
    assert_close(ops.cast(found, "float32"), expected, 0, share * np.abs(expected).max())
    if dtype == "mixed_bfloat16":
        return
    _, grad = gradient(lambda x: ops.sum(ops.cast(half([x, Z]), "float32") ** 2), X)
    _, full = gradient(lambda x: ops.sum(layers[name]([x, Z]) ** 2), X)
    assert_close(grad, full, 0, 3 * share * np.abs(full).max())


def test_attention_of_large_scores(layers):
    layer = layers["both ways"]
    value, grad = gradient(lambda x: ops.sum(layer([x, 1e4 * Z])), 1e3 * X)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_nan_stays_in_its_example(layers):
    x = X.copy()
    x[1, 0, 0, 0] = np.nan
    for name, layer in layers.items():
        found = to_numpy(layer([x, Z]))
        assert np.isnan(found[1]).any(), name
        assert np.isfinite(found[0]).all(), name


def test_modulation_of_rows():
    layer = FeatureWiseModulation()
    rows = RNG.normal(size=(2, 4)).astype("float32")
    assert_close(layer([rows, Z]), rows)


def test_learns_to_follow_the_token():
    """Each example's blob moves by as much as its token says: no fixed filter can do that."""
    rng = np.random.default_rng(0)
    moves = rng.integers(-1, 2, (48, 3))
    x = rng.normal(size=(48, 5, 5, 5, 1)).astype("float32")
    y = np.stack([np.roll(v, m, axis=(0, 1, 2)) for v, m in zip(x, moves, strict=True)])
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((5, 5, 5, 1)), keras.Input((9,))]
    model = keras.Model(inputs, DynamicDepthwiseConv3D(hidden_units=16)(inputs))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    z = np.eye(3)[moves + 1].reshape(48, 9).astype("float32")
    losses = model.fit([x, z], y, batch_size=48, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (DynamicDepthwiseConv3D, {"kernel_size": 2}),
        (DynamicDepthwiseConv3D, {"kernel_size": 0}),
        (DynamicDepthwiseConv3D, {"hidden_units": 0}),
        (GlobalTokenCrossAttention3D, {"num_heads": 0}),
        (GlobalTokenCrossAttention3D, {"bidirectional": 1}),
    ],
)
def test_bad_arguments(cls, kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must be .*Received: "):
        cls(**kwargs)


def test_bad_inputs():
    for cls in (DynamicDepthwiseConv3D, FeatureWiseModulation, GlobalTokenCrossAttention3D):
        for bad in ([X], [X, X], X):
            with pytest.raises(ValueError, match=r"`inputs` must be a list of .*Received: shapes"):
                cls()(bad)
        if cls is not FeatureWiseModulation:
            with pytest.raises(ValueError, match=r"features `\(B, D, H, W, C\)`.*Received: shapes"):
                cls()([X[:, 0], Z])
    with pytest.raises(ValueError, match=r"`num_heads` must divide .*Received: num_heads=3"):
        GlobalTokenCrossAttention3D(3)([X, Z])
