import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo import layers
from keras_zoo.layers import WeightedConv1D, WeightedConv2D, WeightedConv3D
from tests.harness import (
    BACKEND,
    assert_close,
    channels_first,
    golden,
    gradient,
    numeric_gradient,
    to_numpy,
)

CLASSES = {1: WeightedConv1D, 2: WeightedConv2D, 3: WeightedConv3D}
PLAIN = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
FIXTURES = ["conv1d_k3", "conv2d_k5_stride2_valid", "conv3d_k3", "conv2d_k7_trainable"]
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def from_fixture(g, **kwargs):
    bias = g.get("bias", np.zeros(0))
    layer = CLASSES[int(g["rank"])](
        int(g["filters"]),
        int(g["kernel_size"]),
        density=g["density"],
        density_trainable="grad_density" in g,
        strides=int(g.get("strides", 1)),
        padding=str(g.get("padding", "same")),
        use_bias=bias.size > 0,
        **kwargs,
    )
    layer.build(g["x"].shape)
    layer.kernel.assign(g["kernel"])
    if bias.size:
        layer.bias.assign(bias)
    return layer


def gradient_by(layer, variable, x, upstream):
    def total(value):
        with keras.StatelessScope([(variable, value)]):
            return ops.sum(layer(x) * upstream)

    return gradient(total, variable.value)[1]


def density_weight(layer):
    return next(w for w in layer.weights if w.name == "density")


def naive_conv(x, kernel, density, stride=1, dilation=1, groups=1):
    """Unpadded convolution of `(N, .., C)`, tap by tap, written from the formula."""
    rank = x.ndim - 2
    k = kernel.shape[0]
    r = (k - 1) // 2
    per_group = kernel.shape[-1] // groups
    sides = [(n - dilation * (k - 1) - 1) // stride + 1 for n in x.shape[1:-1]]
    y = np.zeros((len(x), *sides, kernel.shape[-1]))
    for n, *at, f in np.ndindex(y.shape):
        first = f // per_group * kernel.shape[-2]
        for tap in itertools.product(range(k), repeat=rank):
            weight = 1.0
            for t in tap:
                ring = abs(t - r)  # 0 is the centre, r the outermost
                weight *= 1.0 if ring == 0 else density[r - ring]
            source = tuple(a * stride + t * dilation for a, t in zip(at, tap, strict=True))
            for c in range(kernel.shape[-2]):
                y[(n, *at, f)] += x[(n, *source, first + c)] * weight * kernel[(*tap, c, f)]
    return y


@pytest.mark.parametrize("name", FIXTURES)
def test_equals_the_official_layer(name):
    g = golden("weighted-conv", name)
    layer = from_fixture(g)
    assert_close(layer(g["x"]), g["y"], 1e-5, 1e-5)
    if "phi" in g:
        np.testing.assert_allclose(layer.phi, g["phi"], rtol=1e-6)
    upstream = ops.convert_to_tensor(g["upstream"])
    assert_close(gradient_by(layer, layer.kernel, g["x"], upstream), g["grad_kernel"], 1e-4, 1e-4)
    if "grad_x" in g:
        got = gradient(lambda x: ops.sum(layer(x) * upstream), g["x"])[1]
        assert_close(got, g["grad_x"], 1e-4, 1e-4)
    if "grad_density" in g:
        got = gradient_by(layer, density_weight(layer), g["x"], upstream)
        assert_close(got, g["grad_density"].astype("float32"), 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("rank", "k", "kwargs"),
    [
        (1, 5, {"strides": 2}),
        (1, 3, {"dilation_rate": 3}),
        (1, 9, {}),
        (2, 3, {"groups": 2}),
        (2, 3, {"strides": 3}),
        (2, 5, {"dilation_rate": 2}),
        (3, 3, {}),
        (2, 1, {}),
    ],
)
def test_equals_loops_over_taps(rank, k, kwargs):
    groups = kwargs.get("groups", 1)
    side = {1: 13, 2: 11, 3: 4}[rank]
    x = normal(2, *[side + i for i in range(rank)], 2)
    density = list(RNG.uniform(-0.5, 1.5, (k - 1) // 2))
    layer = CLASSES[rank](4, k, density=density, **kwargs)
    y = to_numpy(layer(x))
    kernel = to_numpy(layer.kernel)
    assert kernel.shape == (k,) * rank + (2 // groups, 4)
    stride, dilation = kwargs.get("strides", 1), kwargs.get("dilation_rate", 1)
    assert_close(y, naive_conv(x, kernel, density, stride, dilation, groups), 1e-5, 1e-5)
    assert layer.compute_output_shape(x.shape) == y.shape


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize("how", [{}, {"strides": 2}, {"dilation_rate": 2}])
def test_ones_are_keras_convolution_to_the_bit(rank, padding, how):
    if padding == "causal" and rank > 1:
        pytest.skip("Keras has causal convolutions along one axis alone")
    kwargs = {"padding": padding, "use_bias": True, "activation": "tanh", **how}
    plain = PLAIN[rank](3, 3, bias_initializer="normal", **kwargs)
    weighted = CLASSES[rank](3, 3, density=[1.0], **kwargs)
    x = normal(2, *([7, 6, 5][:rank]), 2)
    expected = plain(x)
    weighted.build(x.shape)
    weighted.kernel.assign(plain.kernel)
    weighted.bias.assign(plain.bias)
    np.testing.assert_array_equal(to_numpy(weighted(x)), to_numpy(expected))
    assert weighted.compute_output_shape(x.shape) == tuple(expected.shape)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_first(rank):
    last = CLASSES[rank](4, 3, padding="same", use_bias=True, bias_initializer="normal")
    first = CLASSES[rank](4, 3, padding="same", use_bias=True, data_format="channels_first")
    x = normal(2, *([7, 6, 5][:rank]), 2)
    expected = np.moveaxis(to_numpy(last(x)), -1, 1)
    turned = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    first.build(turned.shape)
    first.kernel.assign(last.kernel)
    first.bias.assign(last.bias)
    assert first.compute_output_shape(turned.shape) == expected.shape
    assert_close(channels_first(first)(turned), expected)


def test_causal_sees_no_future_in_both_data_formats():
    for data_format in ("channels_last", "channels_first"):
        layer = WeightedConv1D(2, 5, padding="causal", data_format=data_format, dilation_rate=2)
        x = normal(1, 12, 12)
        changed = x.copy()
        where = (0, 7) if data_format == "channels_last" else (0, slice(None), 7)
        changed[where] += 1.0
        call = channels_first(layer) if data_format == "channels_first" else layer
        difference = np.abs(to_numpy(call(x)) - to_numpy(call(changed)))
        time_axis = difference.max(axis=(0, 2 if data_format == "channels_last" else 1))
        assert np.all(time_axis[:7] == 0)
        assert np.all(time_axis[[7, 9, 11]] > 0)


def test_default_densities():
    expected = {1: [], 3: [0.8], 5: [0.2, 0.8], 7: [0.25, 0.15, 0.55]}
    expected[11] = np.linspace(0.2, 0.8, 5)
    for k, density in expected.items():
        layer = WeightedConv2D(2, k)
        np.testing.assert_allclose(layer.density, density)
        np.testing.assert_allclose(layer.phi.shape, (k, k))
        assert layer.phi[(k - 1) // 2, (k - 1) // 2] == 1.0
        layer.build((None, 20, 20, 1))
        np.testing.assert_allclose(layer.density, density, rtol=1e-6)


def test_phi_puts_the_first_number_outermost():
    alpha = [0.1, 0.2, 1.0, 0.2, 0.1]
    np.testing.assert_allclose(WeightedConv1D(1, 5, density=[0.1, 0.2]).phi, alpha)
    np.testing.assert_allclose(
        WeightedConv3D(1, 5, density=[0.1, 0.2]).phi,
        np.einsum("i,j,k->ijk", alpha, alpha, alpha),
    )


def test_weights():
    fixed = WeightedConv2D(4, 7, use_bias=True)
    fixed.build((None, 9, 9, 2))
    assert [w.name for w in fixed.trainable_weights] == ["kernel", "bias"]
    assert [w.name for w in fixed.non_trainable_weights] == ["density"]
    trained = WeightedConv2D(4, 7, density_trainable=True, density_lr_multiplier=100.0)
    trained.build((None, 9, 9, 2))
    assert [w.name for w in trained.trainable_weights] == ["kernel", "density"]
    stored = to_numpy(density_weight(trained))
    np.testing.assert_allclose(stored, [0.0025, 0.0015, 0.0055], rtol=1e-6)
    np.testing.assert_allclose(trained.density, [0.25, 0.15, 0.55], rtol=1e-6)
    single = WeightedConv2D(4, 1, density_trainable=True)
    single.build((None, 9, 9, 2))
    assert [w.name for w in single.weights] == ["kernel"]


def test_kernel_start_is_he_normal_over_the_fan_out():
    layer = WeightedConv2D(32, 7)
    layer.build((None, 9, 9, 16))
    kernel = to_numpy(layer.kernel)
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (32 * 49)), rel=0.02)
    # Not truncated: at two standard deviations, where Keras's own He normal ends.
    assert np.max(np.abs(kernel)) > 3 * np.std(kernel)


@pytest.mark.parametrize("multiplier", [1.0, 100.0])
def test_multiplier_moves_the_density_that_much_further(multiplier):
    layer = WeightedConv2D(
        2, 3, density=[0.8], density_trainable=True, density_lr_multiplier=multiplier
    )
    model = keras.Sequential([keras.Input((5, 5, 1)), layer])
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-12), "mse")
    x = normal(4, 5, 5, 1)
    model.train_on_batch(x, 1 + np.zeros((4, 3, 3, 2), "float32"))
    assert abs(layer.density[0] - 0.8) == pytest.approx(1e-3 * multiplier, rel=1e-3)


def test_fixed_density_does_not_move_and_trained_one_does():
    x, y = normal(16, 8, 1), normal(16, 6, 2)
    for trainable in (False, True):
        layer = WeightedConv1D(2, 3, density=[0.5], density_trainable=trainable)
        model = keras.Sequential([keras.Input((8, 1)), layer])
        model.compile("sgd", "mse")
        kernel = None
        losses = []
        for _ in range(5):
            losses.append(float(model.train_on_batch(x, y)))
            kernel = to_numpy(layer.kernel) if kernel is None else kernel
        assert losses[-1] < losses[0]
        assert (layer.density[0] != np.float32(0.5)) == trainable
        assert np.any(to_numpy(layer.kernel) != kernel)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="float64 gradients are checked on TensorFlow")
def test_gradients_in_float64():
    layer = WeightedConv2D(2, 5, density_trainable=True, density_lr_multiplier=3.0, dtype="float64")
    x = RNG.standard_normal((1, 6, 5, 2))
    layer.build(x.shape)
    assert layer.density.tolist() == [0.2, 0.8]
    upstream = RNG.standard_normal(layer.compute_output_shape(x.shape))

    def total(kernel, stored):
        return np.sum(naive_conv(x, kernel, 3.0 * stored) * upstream)

    kernel, stored = to_numpy(layer.kernel), to_numpy(density_weight(layer))
    got = gradient_by(layer, density_weight(layer), x, upstream)
    expected = numeric_gradient(lambda v: total(kernel, v), stored, 1e-5)
    np.testing.assert_allclose(got, expected, rtol=1e-7)
    got = gradient_by(layer, layer.kernel, x, upstream)
    phi = layer.phi[..., None, None]
    plain = WeightedConv2D(2, 5, density=[1.0, 1.0], dtype="float64")
    plain.build(x.shape)
    plain.kernel.assign(kernel * phi)
    np.testing.assert_allclose(got, phi * gradient_by(plain, plain.kernel, x, upstream), rtol=1e-9)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    density=st.lists(st.floats(-2, 2), min_size=2, max_size=2),
    scale=st.floats(-3, 3),
)
def test_linear_in_the_input_and_symmetric_in_space(density, scale):
    layer, x = PROPERTY_LAYER, PROPERTY_X
    density_weight(layer).assign(np.array(density, "float32"))
    y = to_numpy(layer(x))
    assert_close(layer(np.float32(scale) * x), np.float32(scale) * y, 1e-4, 1e-4)
    # Mirroring input and raw kernel mirrors the output: Phi is symmetric.
    kernel = to_numpy(layer.kernel)
    layer.kernel.assign(kernel[::-1])
    mirrored = to_numpy(layer(np.ascontiguousarray(x[:, ::-1])))
    layer.kernel.assign(kernel)
    assert_close(mirrored[:, ::-1], y, 1e-4, 1e-4)
    np.testing.assert_allclose(layer.density, np.float32(density))


PROPERTY_LAYER = WeightedConv1D(2, 5)
PROPERTY_LAYER.build((None, 9, 2))
PROPERTY_X = normal(1, 9, 2)


def test_mixed_precision_rounds_the_weighted_kernel_once():
    x = normal(2, 9, 9, 2)
    density = [0.05, 0.3, 0.9]
    for policy, tolerance in (("mixed_float16", 2e-3), ("mixed_bfloat16", 2e-2)):
        layer = WeightedConv2D(3, 7, density=density, use_bias=True, dtype=policy)
        y = layer(x)
        assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
        assert {w.dtype for w in layer.weights} == {"float32"}
        exact = WeightedConv2D(3, 7, density=density)
        exact.build(x.shape)
        exact.kernel.assign(layer.kernel)
        assert_close(ops.cast(y, "float32"), exact(x), tolerance, tolerance)
    # The rim of a volume: 0.05^3 times a small weight is no number of float16, but its product is.
    layer = WeightedConv3D(1, 7, density=[0.05] * 3, dtype="mixed_float16")
    layer.build((None, 7, 7, 7, 1))
    np.testing.assert_allclose(layer.phi[0, 0, 0], 0.05**3, rtol=1e-6)
    layer.kernel.assign(np.full(layer.kernel.shape, 1.0))
    corner = np.zeros((1, 7, 7, 7, 1), "float32")
    corner[0, 0, 0, 0] = 100.0
    np.testing.assert_allclose(to_numpy(layer(corner)).item(), 100 * 0.05**3, rtol=2e-2)


def test_nan_goes_where_it_is_seen():
    x = normal(1, 12, 1)
    x[0, 0] = np.nan
    y = to_numpy(WeightedConv1D(2, 3)(x))
    assert np.all(np.isnan(y[0, 0]))
    assert np.all(np.isfinite(y[0, 1:]))


def test_to_conv_is_equal_to_the_bit():
    x = normal(2, 9, 8, 4)
    for policy in ("float32", "mixed_float16"):
        layer = WeightedConv2D(
            6, 5, density_trainable=True, density_lr_multiplier=7.0, groups=2, use_bias=True,
            bias_initializer="normal", strides=2, padding="same", activation="tanh", dtype=policy,
            name="some",
        )  # fmt: skip
        y = layer(x)
        plain = layer.to_conv()
        assert type(plain) is keras.layers.Conv2D
        assert plain.name == "some"
        np.testing.assert_array_equal(to_numpy(plain(x)), to_numpy(y))
    with pytest.raises(ValueError, match=r"Received: 'some'"):
        WeightedConv2D(2, 3, name="some").to_conv()


def test_file_holds_the_raw_kernel(tmp_path):
    layer = WeightedConv2D(2, 7, density_trainable=True, density_lr_multiplier=10.0)
    model = keras.Sequential([keras.Input((9, 9, 1)), layer])
    density_weight(layer).assign([0.1, -0.2, 0.3])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(to_numpy(loaded.layers[0].kernel), to_numpy(layer.kernel))
    np.testing.assert_allclose(loaded.layers[0].density, [1.0, -2.0, 3.0], rtol=1e-6)
    x = normal(1, 9, 9, 1)
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))


def test_config_holds_what_was_given():
    for density in (None, [0.3, 0.4]):
        config = WeightedConv2D(2, 5, density=density, kernel_regularizer="l2").get_config()
        assert config["density"] == density
        again = WeightedConv2D.from_config(config)
        assert again.get_config() == config
    given = WeightedConv2D(2, 5, density=np.array([0.3, 0.4])).get_config()
    assert given["density"] == [0.3, 0.4]


def test_regularizers_and_constraints():
    layer = WeightedConv1D(
        2, 3, use_bias=True, bias_initializer="ones", kernel_regularizer=keras.regularizers.L2(1.0),
        bias_regularizer=keras.regularizers.L1(1.0), activity_regularizer="l2",
        kernel_constraint="non_neg", bias_constraint="unit_norm",
    )  # fmt: skip
    layer(normal(2, 9, 1))
    expected = np.sum(to_numpy(layer.kernel) ** 2) + 2.0
    losses = sorted(float(to_numpy(loss)) for loss in layer.losses)
    assert len(losses) == 3
    assert any(loss == pytest.approx(expected - 2.0, rel=1e-5) for loss in losses)
    assert layer.kernel.constraint is not None
    assert layer.bias.constraint is not None


BAD = [
    ({"kernel_size": 4}, "kernel_size"),
    ({"kernel_size": (3, 5)}, "kernel_size"),
    ({"kernel_size": 0}, "kernel_size"),
    ({"kernel_size": 3.0}, "kernel_size"),
    ({"kernel_size": (3, 3, 3)}, "kernel_size"),
    ({"density": [0.1, 0.2]}, "density"),
    ({"density": []}, "density"),
    ({"density": [float("nan")]}, "density"),
    ({"density": [float("inf")]}, "density"),
    ({"density": 0.8}, "density"),
    ({"density": ["x"]}, "density"),
    ({"density_trainable": "yes"}, "density_trainable"),
    ({"density_lr_multiplier": 0.0}, "density_lr_multiplier"),
    ({"density_lr_multiplier": float("inf")}, "density_lr_multiplier"),
    ({"density_lr_multiplier": "1"}, "density_lr_multiplier"),
    ({"strides": 2, "dilation_rate": 2}, "strides"),
    ({"strides": 0}, "strides"),
    ({"dilation_rate": -1}, "dilation_rate"),
    ({"filters": 5, "groups": 2}, "filters"),
    ({"filters": 0}, "filters"),
    ({"groups": 0}, "groups"),
    ({"padding": "causal"}, "padding"),
    ({"padding": 1}, "padding"),
    ({"data_format": "NHWC"}, "data_format"),
]


@pytest.mark.parametrize(("kwargs", "name"), BAD)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: "):
        WeightedConv2D(**{"filters": 4, "kernel_size": 3, **kwargs})


def test_bad_input_shapes():
    for shape, kwargs in (
        ((None, 9, 9, 3), {"groups": 2}),
        ((None, 9, 9, None), {}),
        ((None, 9, 2, 2), {}),
    ):
        with pytest.raises(ValueError, match="Received: "):
            WeightedConv2D(4, 3, **kwargs).build(shape)
    with pytest.raises(ValueError, match="ndim"):
        WeightedConv2D(4, 3)(normal(2, 9, 9))


def test_dynamic_shapes():
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, WeightedConv2D(3, 5, padding="same", strides=2)(inputs))
    assert model.output_shape == (None, None, None, 3)
    assert model(normal(2, 9, 8, 2)).shape == (2, 5, 4, 3)


def test_room_exports():
    assert {"WeightedConv1D", "WeightedConv2D", "WeightedConv3D"} <= set(layers.__all__)
