import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import DynamicWeightedFusion
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
MAPS = [RNG.normal(size=(2, 3, 2, channels)) for channels in (4, 5, 3)]
FLOATS = [x.astype("float32") for x in MAPS]


def built(maps, filters=6, **kwargs):
    """A layer that has seen `maps`, with weights that are not their start."""
    keras.utils.set_random_seed(0)
    layer = DynamicWeightedFusion(filters, return_weights=True, **kwargs)
    layer([ops.convert_to_tensor(x, "float32") for x in maps])
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(0.3, 0.7, weight.shape))
    return layer


def by_name(layer):
    return {w.path.split("/", 1)[1]: to_numpy(w).astype("float64") for w in layer.weights}


def naive_project(x, kernel, gamma, beta, groups):
    """relu(GN(conv1x1)) of one image `(H, W, C)`, by plain loops."""
    height, width, _ = x.shape
    filters = kernel.shape[-1]
    out = np.zeros((height, width, filters))
    for i, j, f in np.ndindex(height, width, filters):
        out[i, j, f] = sum(x[i, j, c] * kernel[0, 0, c, f] for c in range(x.shape[2]))
    per_group = filters // groups
    for g in range(groups):
        part = out[:, :, g * per_group : (g + 1) * per_group]
        part[:] = (part - part.mean()) / np.sqrt(((part - part.mean()) ** 2).mean() + 1e-5)
    return np.maximum(gamma * out + beta, 0)


def naive(weights, maps, groups=1):
    """Mixture and weights of the levels by the formula, image by image."""
    fused, mixing = [], []
    for n in range(len(maps[0])):
        p = [
            naive_project(
                x[n],
                weights[f"projection_{level}/kernel"],
                weights[f"projection_norm_{level}/gamma"],
                weights[f"projection_norm_{level}/beta"],
                groups,
            )
            for level, x in enumerate(maps)
        ]
        means = [x.mean(axis=(0, 1)) for x in p]
        u = np.concatenate([g / (np.sqrt(sum(v * v for v in g)) + 1e-6) for g in means])
        hidden = np.maximum(u @ weights["weight_hidden/kernel"], 0)
        s = hidden @ weights["weight_output/kernel"] + weights["weight_output/bias"]
        tau = np.log1p(np.exp(weights["temperature"])) + 1e-6
        e = [np.exp((v - max(s)) / tau) for v in s]
        w = [v / sum(e) for v in e]
        fused.append(sum(a * x for a, x in zip(w, p, strict=True)))
        mixing.append(w)
    return np.array(fused), np.array(mixing)


def test_matches_the_official_code():
    g = golden("dwff-net", "fusion")
    maps = [g[f"x{level}"] for level in range(int(g["num_levels"]))]
    layer = DynamicWeightedFusion(32, entropy_weight=1.0, return_weights=True)
    layer(maps)
    stored = {key[2:]: value for key, value in g.items() if key.startswith("w:")}
    stored["temperature"] = g["temperature"]
    names = [weight.path.split("/", 1)[1] for weight in layer.weights]
    assert sorted(names) == sorted(stored)
    for name, weight in zip(names, layer.weights, strict=True):
        weight.assign(stored[name].reshape(weight.shape))
    fused, weights = layer(maps)
    assert_close(fused, g["fused"])
    assert_close(weights, g["weights"])
    assert_close(layer.losses[0], -g["entropy"])
    upstream = ops.convert_to_tensor(g["upstream"])
    for level, x in enumerate(maps):

        def product(x, level=level):
            return ops.sum(layer([*maps[:level], x, *maps[level + 1 :]])[0] * upstream)

        assert_close(gradient(product, x)[1], g[f"grad_x{level}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("filters", "groups"), [(6, 1), (64, 2), (70, 2), (97, 1)])
def test_matches_plain_loops(filters, groups):
    layer = built(MAPS, filters, hidden_units=7)
    fused, weights = layer(FLOATS)
    expected, mixing = naive(by_name(layer), MAPS, groups)
    assert_close(fused, expected, rtol=1e-4)
    assert_close(weights, mixing)
    assert layer.weight_hidden.kernel.shape == (3 * filters, 7)


def test_gradient_is_that_of_the_formula():
    layer = built(MAPS)
    weights = by_name(layer)

    def loss(x):
        return (naive(weights, [x, *MAPS[1:]])[0] ** 2).sum()

    _, grad = gradient(lambda x: ops.sum(layer([x, *FLOATS[1:]])[0] ** 2), FLOATS[0])
    assert_close(grad, numeric_gradient(loss, MAPS[0]), rtol=1e-3, atol=1e-3)


def test_channels_first_is_the_same():
    turned = [x.transpose(0, 3, 1, 2) for x in FLOATS]
    first = built(turned, data_format="channels_first")
    fused, weights = built(MAPS)(FLOATS)
    turned_fused, turned_weights = first(turned)
    assert_close(turned_weights, weights)
    assert_close(to_numpy(turned_fused).transpose(0, 2, 3, 1), fused)
    assert first.compute_output_shape([(None, 4, 3, 2)]) == ((None, 6, 3, 2), (None, 1))


def test_ablations():
    layer = built(MAPS, weighting="static")
    values = by_name(layer)
    p = [
        np.stack(
            [
                naive_project(
                    image,
                    values[f"projection_{level}/kernel"],
                    values[f"projection_norm_{level}/gamma"],
                    values[f"projection_norm_{level}/beta"],
                    1,
                )
                for image in x
            ]
        )
        for level, x in enumerate(MAPS)
    ]
    fused, weights = layer(FLOATS)
    assert_close(weights, [values["level_weights"]] * 2)
    assert_close(fused, sum(w * x for w, x in zip(values["level_weights"], p, strict=True)), 1e-4)
    fresh = DynamicWeightedFusion(6, weighting="static")
    fresh([*FLOATS, FLOATS[0]])
    assert_close(fresh.level_weights, [0.1, 0.2, 0.3, 0.4])
    total = built(MAPS, weighting="sum")
    assert_close(total(FLOATS)[1], np.ones((2, 3)))
    assert len(total.weights) == 9
    assert_close(built(MAPS[:1])(FLOATS[:1])[1], np.ones((2, 1)))


def test_temperature_starts_where_it_is_told():
    layer = DynamicWeightedFusion(4, initial_temperature=-0.5)
    layer(FLOATS)
    assert float(layer.temperature) == -0.5
    assert layer.weight_hidden.units == 32


def test_dead_maps_have_a_finite_gradient():
    layer = built(MAPS, entropy_weight=0.1)
    layer._norms[0].gamma.assign(np.zeros(6))
    layer._norms[0].beta.assign(-np.ones(6))
    value, grad = gradient(lambda x: ops.sum(layer([x, *FLOATS[1:]])[0]), FLOATS[0])
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))
    zeros = [0 * x for x in FLOATS]
    value, grad = gradient(lambda x: ops.sum(layer([x, *zeros[1:]])[0]), zeros[0])
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))


def test_weights_near_nothing_have_a_finite_entropy():
    layer = built(MAPS, entropy_weight=0.1)
    layer.weight_output.bias.assign([0.0, 500.0, -500.0])
    layer.temperature.assign(-30.0)
    fused, weights = layer(FLOATS)
    assert np.all(np.isfinite(to_numpy(fused)))
    assert_close(weights, [[0, 1, 0]] * 2)
    assert_close(layer.losses[0], 0.0, atol=1e-6)


def test_nan_stays_in_its_image():
    maps = [x.copy() for x in FLOATS]
    maps[1][0, 0, 0, 0] = np.nan
    fused, weights = (to_numpy(x) for x in built(MAPS)(maps))
    assert np.isnan(weights[0]).all()
    assert np.isnan(fused[0]).all()
    assert np.isfinite(fused[1]).all()


def test_entropy_spreads_the_weights_in_fit():
    """The bonus alone, with nothing else to learn, makes the weights equal."""
    inputs = [keras.Input(x.shape[1:]) for x in FLOATS]
    layer = DynamicWeightedFusion(6, entropy_weight=1.0, return_weights=True)
    _, weights = layer(inputs)
    model = keras.Model(inputs, weights)
    layer.weight_output.bias.assign([2.0, -1.0, 0.0])
    before = model.predict(FLOATS, verbose=0)
    model.compile(keras.optimizers.Adam(0.05), loss=lambda y, p: 0.0 * ops.mean(p, axis=-1))
    losses = model.fit(FLOATS, np.zeros((2, 3)), epochs=30, verbose=0).history["loss"]
    after = model.predict(FLOATS, verbose=0)
    assert losses[-1] < losses[0]
    assert np.abs(after - 1 / 3).max() < np.abs(before - 1 / 3).max() / 2
    assert losses[-1] >= -np.log(3) - 1e-5


def test_low_precision():
    for policy in ("mixed_float16", "mixed_bfloat16"):
        layer = built(MAPS, dtype=policy)
        fused, weights = layer(FLOATS)
        full = built(MAPS)(FLOATS)
        assert keras.backend.standardize_dtype(fused.dtype) == layer.compute_dtype
        for low, high in zip((fused, weights), full, strict=True):
            assert_close(ops.cast(low, "float32"), high, rtol=0.05, atol=0.1)


@pytest.mark.slow
def test_quantized_and_reloaded(tmp_path):
    inputs = [keras.Input(x.shape[1:]) for x in FLOATS]
    model = keras.Model(inputs, DynamicWeightedFusion(8, name="fusion")(inputs))
    plain = model.predict(FLOATS, verbose=0)
    model.quantize("int8")
    expected = model.predict(FLOATS, verbose=0)
    assert_close(expected, plain, rtol=0.05, atol=0.05)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(FLOATS, verbose=0), expected)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"filters": 0},
        {"filters": 2.5},
        {"hidden_units": 0},
        {"initial_temperature": float("nan")},
        {"entropy_weight": -0.1},
        {"return_weights": 1},
        {"data_format": "NHWC"},
        {"weighting": "mean"},
        {"entropy_weight": 0.1, "weighting": "static"},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must be .*Received: "):
        DynamicWeightedFusion(**kwargs)


def test_bad_inputs():
    bad = [
        FLOATS[0],
        [FLOATS[0], FLOATS[1][:, :2]],
        [FLOATS[0][:, 0]],
        [keras.Input((3, 2, None))],
    ]
    for maps in bad:
        with pytest.raises(ValueError, match=r"`inputs` must be a list of maps.*Received: "):
            DynamicWeightedFusion(4)(maps)
