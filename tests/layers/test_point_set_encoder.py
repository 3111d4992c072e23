import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import FourierPositionEncoding, PointSetEncoder
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

GOLDEN = golden("deeptfus", "conditioning_layers")
POINTS = GOLDEN["points"]


def naive_encoding(t, frequencies, include_input=True):
    """The encoding of one position by plain loops, in float64."""
    t = [float(v) for v in t]
    waves = [
        wave(2**j * math.pi * v)
        for wave in (math.sin, math.cos)
        for v in t
        for j in range(frequencies)
    ]
    return [*t, *waves] if include_input else waves


def naive_token(weights, points, frequencies, layers):
    """The token of one set by plain loops, in float64."""
    rows = []
    for point in points:
        z = np.array(naive_encoding(point, frequencies))
        for i in range(layers):
            z = z @ weights[f"dense_{i}/kernel"] + weights[f"dense_{i}/bias"]
            z = (z - z.mean()) / np.sqrt(((z - z.mean()) ** 2).mean() + 1e-5)
            z = np.maximum(z * weights[f"norm_{i}/gamma"] + weights[f"norm_{i}/beta"], 0)
        rows.append(z)
    scores = [sum(w * v for w, v in zip(weights["query"], z, strict=True)) for z in rows]
    e = [math.exp(s - max(scores)) for s in scores]
    return sum(v / sum(e) * z for v, z in zip(e, rows, strict=True))


def by_name(layer):
    return {w.path.split("/", 1)[1]: to_numpy(w).astype("float64") for w in layer.weights}


@pytest.fixture(scope="module")
def encoder():
    """With the fixture's weights."""
    layer = PointSetEncoder(int(GOLDEN["units"]), int(GOLDEN["num_frequencies"]))
    layer(POINTS)
    stored = {k[4:]: v for k, v in GOLDEN.items() if k.startswith("enc:")}
    assert sorted(by_name(layer)) == sorted(stored)
    for weight in layer.weights:
        weight.assign(stored[weight.path.split("/", 1)[1]])
    return layer


# The encoding of positions


def test_encoding_matches_the_fixture():
    layer = FourierPositionEncoding(int(GOLDEN["num_frequencies"]))
    assert_close(layer(POINTS), GOLDEN["encoding"])


@pytest.mark.parametrize("include_input", [True, False])
def test_encoding_matches_plain_loops(include_input):
    layer = FourierPositionEncoding(8, include_input)
    expected = [[naive_encoding(t, 8, include_input) for t in points] for points in POINTS]
    assert_close(layer(POINTS), np.array(expected), atol=1e-6)
    width = 3 * (16 + include_input)
    assert layer.compute_output_shape((None, None, 3)) == (None, None, width)


def test_high_frequencies_are_exact():
    """512 half turns from the middle a float32 angle would be off by 1e-4."""
    layer = FourierPositionEncoding(12, include_input=False)
    t = np.linspace(-1, 1, 33, dtype="float32")[:, None] * np.float32(0.999)
    expected = [naive_encoding(v, 12, include_input=False) for v in t]
    assert_close(layer(t), np.array(expected), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
def test_angles_of_half_precision_are_of_float32(dtype):
    """An angle of 128 pi that is rounded to half precision has nothing to do with itself."""
    full, half = FourierPositionEncoding(8)(POINTS), FourierPositionEncoding(8, dtype=dtype)
    found = half(POINTS)
    assert keras.backend.standardize_dtype(found.dtype) == half.compute_dtype != "float32"
    assert_close(ops.cast(found, "float32"), full, atol=5e-3)
    inputs = keras.Input(POINTS.shape[1:])
    model = keras.Model(inputs, half(inputs))
    assert_close(ops.cast(model(POINTS), "float32"), full, atol=5e-3)


def test_encoding_has_the_gradient_of_the_formula():
    layer, t = FourierPositionEncoding(3), POINTS[0, :4]

    def loss(t):
        return sum(np.sum(np.array(naive_encoding(row, 3)) ** 3) for row in t)

    _, grad = gradient(lambda t: ops.sum(layer(t) ** 3), t)
    assert_close(grad, numeric_gradient(loss, t), rtol=1e-4, atol=1e-3)


# The token


def test_token_matches_the_fixture(encoder):
    assert_close(encoder(POINTS), GOLDEN["token"])


def test_token_matches_plain_loops(encoder):
    weights = by_name(encoder)
    expected = [naive_token(weights, points, 4, 2) for points in POINTS]
    assert_close(encoder(POINTS), np.array(expected))


def test_order_of_the_points_does_not_matter(encoder):
    order = np.random.default_rng(0).permutation(POINTS.shape[1])
    assert_close(encoder(POINTS[:, order]), encoder(POINTS), atol=1e-6)
    doubled = np.concatenate([POINTS, POINTS], axis=1)
    assert_close(encoder(doubled), encoder(POINTS), atol=1e-6)


def test_extreme_scores(encoder):
    """A softmax in half precision would overflow."""
    query = to_numpy(encoder.query)
    encoder.query.assign(1e6 * query)
    try:
        token, grad = gradient(lambda t: ops.sum(encoder(t) ** 2), POINTS)
    finally:
        encoder.query.assign(query)
    assert np.isfinite(token)
    assert np.isfinite(grad).all()


def test_nan_stays_in_its_set(encoder):
    points = POINTS.copy()
    points[1, 0, 0] = np.nan
    found = to_numpy(encoder(points))
    assert np.isnan(found[1]).all()
    assert_close(found[0], GOLDEN["token"][0])


def test_whole_numbers_are_points(encoder):
    whole = np.array([[[0, 1, -1], [1, 0, 0]]])
    assert_close(encoder(whole), encoder(whole.astype("float32")))


def test_learns_where_points_are():
    """A linear head on the token tells where the middle of a cloud of points is."""
    rng = np.random.default_rng(0)
    middles = rng.uniform(-0.5, 0.5, (64, 3)).astype("float32")
    points = middles[:, None] + 0.2 * rng.normal(size=(64, 9, 3)).astype("float32")
    keras.utils.set_random_seed(0)
    encoder = PointSetEncoder(16, num_frequencies=2)
    model = keras.Sequential([keras.Input((9, 3)), encoder, keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(points, middles, batch_size=64, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.slow
def test_quantized_layer_comes_back(encoder):
    """The config tells which sublayers were quantized."""
    layer = PointSetEncoder(8, 4)
    layer(POINTS)
    layer.set_weights(encoder.get_weights())
    for dense in layer._dense:
        dense.quantize("int8")
    config = json.loads(json.dumps(layer.get_config()))
    again = PointSetEncoder.from_config(config)
    again(POINTS)
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]
    for new, old in zip(again.weights, layer.weights, strict=True):
        new.assign(old)
    assert_close(again(POINTS), layer(POINTS))
    assert_close(layer(POINTS), encoder(POINTS), atol=0.05)


@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (FourierPositionEncoding, {"num_frequencies": 0}),
        (FourierPositionEncoding, {"include_input": None}),
        (PointSetEncoder, {"units": 0}),
        (PointSetEncoder, {"num_frequencies": 2.0}),
        (PointSetEncoder, {"num_layers": 0}),
    ],
)
def test_bad_arguments(cls, kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must be .*Received: "):
        cls(**kwargs)


def test_bad_inputs():
    for shape in ((4, 3), (2, 4, 3, 1)):
        with pytest.raises(ValueError, match=r"`inputs` must be points .*Received: inputs of"):
            PointSetEncoder()(np.zeros(shape, "float32"))
