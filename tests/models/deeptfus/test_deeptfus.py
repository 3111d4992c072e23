import math

import keras
import numpy as np
import pytest
from keras import ops

pytest.importorskip("keras_hub")

import keras_hub

from keras_zoo.losses import PressureFieldLoss
from keras_zoo.metrics import FocalPositionError, MaxPressureError, RelativeL2Error
from keras_zoo.models import (
    DeepTFUSBackbone,
    DeepTFUSPressureEstimator,
    DeepTFUSPressureEstimatorPreprocessor,
    golden_difference,
)
from keras_zoo.models.deeptfus.deeptfus_layers import Conv3D, TrilinearUpsampling3D
from tests.harness import assert_close, gradient, to_numpy

RNG = np.random.default_rng(0)
SHAPE = (4, 8, 4, 1)
HEAD = RNG.uniform(-500, 2500, (4, *SHAPE)).astype("float32")
VOXELS = RNG.integers(0, 4, (4, 7, 3))
RAW = {"images": HEAD, "transducer_points": VOXELS}
PRESSURE = RNG.uniform(1e3, 1e6, (4, *SHAPE[:3])).astype("float32")


def scaled(raw=RAW):
    sides = np.array(raw["images"].shape[1:4])
    return {
        "images": np.clip(raw["images"] / 2000, 0, 1),
        "transducer_points": (2 * raw["transducer_points"] / (sides - 1) - 1).astype("float32"),
    }


X = scaled()


def backbone(**kwargs):
    keras.utils.set_random_seed(0)
    options = {"image_shape": (None, None, None, 1), "filters": (4, 6), "units": 8}
    options = {**options, "attention_levels": (1,), "num_frequencies": 3, **kwargs}
    return DeepTFUSBackbone(**options)


@pytest.fixture(scope="module")
def model():
    """With weights that let the points count: at its start each layer is the identity."""
    task = DeepTFUSPressureEstimator(backbone(), DeepTFUSPressureEstimatorPreprocessor())
    rng = np.random.default_rng(1)
    for weight in task.weights:
        if any(part in weight.path for part in ("dynamic", "attention", "film")):
            weight.assign(to_numpy(weight) + 0.2 * rng.normal(size=weight.shape))
    return task


@pytest.fixture(scope="module")
def found(model):
    """What the network makes of scaled inputs, compiled once."""
    return compiled(model)


def compiled(model):
    """The network without what a task does to its inputs."""
    net = keras.Model(model.input, model.output)
    return lambda x: net.predict(x, verbose=0)


# Doubling


def naive_double(x):
    """Trilinear doubling of `(D, H, W)` with half-pixel centres, by plain loops."""
    out = np.zeros([2 * n for n in x.shape])
    for place in np.ndindex(out.shape):
        centre = [(v + 0.5) / 2 - 0.5 for v in place]
        corner = [math.floor(c) for c in centre]
        for step in np.ndindex(2, 2, 2):
            share = math.prod(
                1 - abs(c - k - s) for c, k, s in zip(centre, corner, step, strict=True)
            )
            source = (
                min(max(k + s, 0), n - 1) for k, s, n in zip(corner, step, x.shape, strict=True)
            )
            out[place] += share * x[tuple(source)]
    return out


def test_doubling_matches_plain_loops():
    x = RNG.normal(size=(2, 3, 1, 2, 2)).astype("float32")
    expected = [[naive_double(v[..., c]) for c in range(2)] for v in x]
    layer = TrilinearUpsampling3D()
    assert_close(layer(x), np.moveaxis(np.array(expected), 1, -1))
    assert layer.compute_output_shape((None, 3, None, 2, 5)) == (None, 6, None, 4, 5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_of_a_kernel_over_two_slices(dtype):
    """Against plain loops: torch on CPUs gives what memory holds, in bfloat16, with Keras's layer.

    The numbers are whole and few, so that bfloat16 holds each.
    """
    x, upstream = (RNG.integers(-2, 3, (2, 2, 2, 2, 4)).astype("float32") for _ in range(2))
    expected = np.zeros((3, 3, 3, 4, 4))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
    for d, h, w in np.ndindex(3, 3, 3):
        part = padded[:, d : d + 2, h : h + 2, w : w + 2]
        expected[d, h, w] = np.einsum("bdhwi,bdhwo->io", part, upstream)
    layer = Conv3D(4, 3, padding="same", data_format="channels_last", dtype=dtype)
    layer.build(x.shape)

    def weighted(kernel):
        y = layer.convolution_op(ops.cast(x, dtype), ops.cast(kernel, dtype))
        return ops.sum(ops.cast(y, "float32") * ops.convert_to_tensor(upstream))

    assert_close(gradient(weighted, np.zeros((3, 3, 3, 4, 4), "float32"))[1], expected)


# The network


def gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def naive_block(net, name, step, x):
    """gelu(GN(conv)) of `(D, H, W, C)` with the weights of a network, by plain loops."""
    kernel, bias = (to_numpy(w) for w in net.get_layer(f"{name}_conv_{step}").weights)
    gamma, beta = (to_numpy(w) for w in net.get_layer(f"{name}_norm_{step}").weights)
    out = np.zeros((*x.shape[:3], kernel.shape[-1])) + bias
    for place in np.ndindex(x.shape[:3]):
        for step_ in np.ndindex(3, 3, 3):
            source = [p + s - 1 for p, s in zip(place, step_, strict=True)]
            if all(0 <= v < n for v, n in zip(source, x.shape, strict=False)):
                out[place] += x[tuple(source)] @ kernel[step_]
    groups = next(g for g in (8, 4, 2, 1) if out.shape[-1] % g == 0)
    width = out.shape[-1] // groups
    for g in range(groups):
        part = out[..., g * width : (g + 1) * width]
        part[:] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    return gelu(out * gamma + beta)


def test_network_is_its_parts(model):
    """Blocks by plain loops; the layers that the token leads have tests of their own."""
    net = model.backbone
    x = {name: array[:1] for name, array in X.items()}
    token = net.get_layer("point_encoder")(x["transducer_points"])

    def led(name, volume):
        volume = ops.convert_to_tensor(volume[None], "float32")
        return to_numpy(net.get_layer(name)([volume, token]))[0]

    def encode(level, volume):
        for step in (1, 2):
            volume = naive_block(net, f"encoder_{level}", step, volume)
            volume = led(f"encoder_{level}_dynamic_{step}", volume)
        return volume

    skip = encode(0, x["images"][0])
    pooled = skip.reshape(2, 2, 4, 2, 2, 2, 4).mean(axis=(1, 3, 5))
    deep = led("encoder_1_attention", encode(1, pooled))
    up = np.stack([naive_double(deep[..., c]) for c in range(6)], axis=-1)
    volume = np.concatenate([up, skip], axis=-1)
    for step in (1, 2):
        volume = naive_block(net, "decoder_0", step, volume)
    volume = led("decoder_0_film", volume)
    assert_close(net(x), volume[None], 1e-4, 1e-4)
    kernel, bias = (to_numpy(w) for w in model.get_layer("pressure").weights)
    assert_close(model(x), (volume @ kernel[0, 0, 0] + bias)[None], 1e-4, 1e-4)


def test_points_count_and_their_order_does_not(found):
    moved = {**X, "transducer_points": -X["transducer_points"]}
    assert np.abs(found(moved) - found(X)).max() > 0.01
    turned = {**X, "transducer_points": X["transducer_points"][:, ::-1]}
    assert_close(found(turned), found(X), atol=1e-5)


def test_plain_net_takes_the_points_and_leaves_them():
    net = backbone(attention_levels=(), use_dynamic_convolution=False, use_film=False)
    parts = {type(layer).__name__ for layer in net.layers}
    assert not parts & {"PointSetEncoder", "DynamicDepthwiseConv3D", "FeatureWiseModulation"}
    moved = {**X, "transducer_points": -X["transducer_points"]}
    found = compiled(net)
    np.testing.assert_array_equal(found(moved), found(X))


def test_switches_and_heads():
    net = backbone(filters=(4, 6), attention_levels=(0, 1), num_heads=4, use_film=False)
    assert net.get_layer("encoder_0_attention").num_heads == 4
    assert net.get_layer("encoder_1_attention").num_heads == 2
    names = [layer.name for layer in net.layers]
    assert not [n for n in names if n.endswith("film")]
    assert [n for n in names if n.endswith("_dynamic_1")]
    again = DeepTFUSBackbone.from_config(net.get_config())
    assert again.get_config() == net.get_config()


def test_any_size_that_the_levels_can_halve(model, found):
    assert model.backbone.stride == 2
    x = {**X, "images": np.zeros((4, 2, 10, 6, 1), "float32")}
    assert found(x).shape == x["images"].shape
    for shape in ((4, 5, 4, 1), (3, 4, 4, 1)):
        x = {**RAW, "images": np.zeros((4, *shape), "float32")}
        for road in (model, model.predict):
            with pytest.raises(ValueError, match=r"multiples of 2.*Received: sides"):
                road(x)
    for shape in ((6, 8, 8, 1), (8, 8, None, None), (8, 8, 1), (0, 8, 8, 1), 8):
        with pytest.raises(ValueError, match=r"`image_shape` must .*Received: "):
            DeepTFUSBackbone(shape, (4, 4, 4), attention_levels=())


@pytest.mark.parametrize(
    "kwargs",
    [
        {"filters": ()},
        {"filters": (4, 0)},
        {"filters": 4},
        {"units": 0},
        {"num_frequencies": 0},
        {"kernel_size": 2},
        {"num_heads": 0},
        {"attention_levels": (2,)},
        {"attention_levels": (1, 1)},
        {"attention_levels": 1},
        {"attention_levels": (True,)},
        {"use_dynamic_convolution": None},
        {"use_film": 1},
        {"bidirectional": "yes"},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must be .*Received: "):
        backbone(**kwargs)


def test_no_backbone():
    with pytest.raises(ValueError, match=r"`backbone` must be .*Received: backbone="):
        DeepTFUSPressureEstimator(keras.Sequential([keras.layers.Dense(1)]))


# Normalisation


def test_preprocessor():
    pressure = PRESSURE.copy()
    pressure[2] = 0
    preprocessor = DeepTFUSPressureEstimatorPreprocessor()
    x, y, weight = preprocessor(RAW, y=pressure, sample_weight=np.arange(4.0))
    for name, expected in X.items():
        assert_close(np.asarray(x[name]), expected, atol=1e-6)
    for p, log in zip(pressure, np.asarray(y), strict=True):
        expected = np.log1p(p / p.max()) if p.max() else p
        assert_close(log, expected, atol=1e-6)
    assert np.asarray(y).max() == pytest.approx(math.log(2))
    assert_close(np.asarray(weight), np.arange(4.0))
    flat = preprocessor({**RAW, "images": HEAD[..., 0]})
    assert_close(np.asarray(flat["images"]), X["images"], atol=1e-6)
    half = DeepTFUSPressureEstimatorPreprocessor(hu_max=1000.0)
    again = DeepTFUSPressureEstimatorPreprocessor.from_config(half.get_config())
    assert_close(np.asarray(again(RAW)["images"]), np.clip(HEAD / 1000, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (HEAD, "`x` must be a dict"),
        ({"images": HEAD}, "`x` must be a dict"),
        ({**RAW, "images": HEAD[0, ..., 0]}, "`images` must be"),
        ({**RAW, "transducer_points": VOXELS[..., :2]}, "`images` must be"),
    ],
)
def test_bad_input_of_the_preprocessor(x, words):
    with pytest.raises(ValueError, match=rf"{words}[\s\S]*Received: "):
        DeepTFUSPressureEstimatorPreprocessor()(x)


def test_bad_pressure_and_range():
    with pytest.raises(ValueError, match=r"`y` must be pressure .*Received: y of shape"):
        DeepTFUSPressureEstimatorPreprocessor()(RAW, y=PRESSURE[0])
    for bad in (0.0, -1.0, None):
        with pytest.raises(ValueError, match=r"`hu_max` must be .*Received: hu_max="):
            DeepTFUSPressureEstimatorPreprocessor(bad)


# The task


def test_default_compilation(model):
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)
    assert type(model.loss) is PressureFieldLoss
    kinds = {type(m) for m in model._compile_metrics._user_metrics}
    assert kinds == {RelativeL2Error, FocalPositionError, MaxPressureError}


def test_predicts_shares_of_the_peak(model, found):
    assert_close(model.predict_pressure(RAW), np.expm1(found(X)[..., 0]), 1e-4, 1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(model, found, dtype):
    """Near the float32 output, which the encoding of the points would not be in half precision."""
    config = {**model.backbone.get_config(), "dtype": dtype}
    half = DeepTFUSPressureEstimator(DeepTFUSBackbone.from_config(config), compile=False)
    half.set_weights(model.get_weights())
    low, expected = compiled(half)(X), found(X)
    assert low.dtype == "float32"
    share = 0.02 if dtype == "mixed_float16" else 0.1
    assert_close(low, expected, 0, share * np.abs(expected).max())


def test_learns_and_comes_back(tmp_path):
    """The peak lies where the points are; files and presets give the same network."""
    points = np.array([[[i, j, k]] * 3 for i in (0, 3) for j in (0, 7) for k in (0, 3)])
    fields = np.full((8, *SHAPE[:3]), 0.1, "float32")
    for field, (i, j, k) in zip(fields, points[:, 0], strict=True):
        field[i, j, k] = 1.0
    raw = {"images": np.zeros((8, *SHAPE)), "transducer_points": points}
    net = backbone(kernel_size=1)  # Quick to compile.
    task = DeepTFUSPressureEstimator(net, DeepTFUSPressureEstimatorPreprocessor())
    task.compile(keras.optimizers.Adam(0.03), metrics=[])
    losses = task.fit(raw, fields, batch_size=8, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    expected = compiled(task)(X)
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    assert type(loaded) is DeepTFUSPressureEstimator
    for new, old in zip(loaded.weights, task.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(new), to_numpy(old))
    task.save_to_preset(tmp_path / "preset")
    folder = str(tmp_path / "preset")
    again = DeepTFUSPressureEstimator.from_preset(folder, image_shape=SHAPE)
    assert again.backbone.image_shape == SHAPE
    assert type(again.preprocessor) is DeepTFUSPressureEstimatorPreprocessor
    assert_close(compiled(again)(X), expected, 1e-5, 1e-5)
    net = keras_hub.models.Backbone.from_preset(folder)
    for new, old in zip(net.weights, task.backbone.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(new), to_numpy(old))


def test_golden_output_of_a_model_with_named_inputs(model, found, tmp_path):
    arrays = {f"x:{name}": array for name, array in X.items()}
    np.savez(tmp_path / "golden.npz", y=found(X) + 0.5, **arrays)
    assert golden_difference(model, tmp_path) == pytest.approx(0.5, abs=1e-5)
