import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("keras_hub")

import keras_hub

from keras_zoo.layers import WeightedConv2D
from keras_zoo.models import DnCNNBackbone, DnCNNDenoiser
from tests.harness import assert_close, to_numpy

RNG = np.random.default_rng(0)


def uniform(*shape):
    return RNG.random(shape).astype("float32")


def tiny(channels=1, **kwargs):
    keras.utils.set_random_seed(0)
    options = {"num_layers": 3, "filters": 4, "kernel_size": 3, **kwargs}
    return DnCNNBackbone(image_shape=(None, None, channels), **options)


@pytest.fixture(scope="module")
def denoiser():
    return DnCNNDenoiser(tiny())


def test_backbone_is_its_layers():
    backbone = tiny(num_layers=4, kernel_size=5, density=[0.3, 0.7])
    convs = [layer for layer in backbone.layers if isinstance(layer, WeightedConv2D)]
    assert [layer.filters for layer in convs] == [4, 4, 4, 1]
    assert [layer.use_bias for layer in convs] == [True, False, False, True]
    assert backbone.receptive_radius == 8
    x = uniform(2, 9, 7, 1)
    h = np.maximum(to_numpy(convs[0](x)), 0)
    for conv, norm in ((convs[1], "norm_2"), (convs[2], "norm_3")):
        h = np.maximum(to_numpy(backbone.get_layer(norm)(conv(h), training=False)), 0)
    assert_close(backbone(x, training=False), to_numpy(convs[3](h)), 1e-5, 1e-6)


def test_ones_are_a_plain_network():
    backbone = tiny(density=[1.0], use_batch_norm=False)
    inputs = x = keras.Input((None, None, 1))
    for i, layer in enumerate(la for la in backbone.layers if isinstance(la, WeightedConv2D)):
        x = keras.layers.Conv2D(
            layer.filters, 3, padding="same", activation="relu" if i < 2 else None
        )(x)
    plain = keras.Model(inputs, x)
    plain.set_weights([w for w in backbone.get_weights() if w.shape != (1,) or w[0] != 1.0])
    image = uniform(1, 8, 8, 1)
    np.testing.assert_array_equal(to_numpy(plain(image)), to_numpy(backbone(image)))


def test_layers_do_not_start_alike():
    for initializer in (None, "glorot_uniform", keras.initializers.HeNormal()):
        backbone = tiny(num_layers=4, kernel_initializer=initializer)
        second, third = (to_numpy(backbone.get_layer(f"conv_{i}").kernel) for i in (2, 3))
        assert np.any(second != third)


def test_config_round_trip():
    backbone = tiny(
        density=(0.7,), density_trainable=True, density_lr_multiplier=10.0, use_batch_norm=False,
        kernel_initializer="glorot_uniform",
    )  # fmt: skip
    again = DnCNNBackbone.from_config(backbone.get_config())
    assert again.get_config() == backbone.get_config()
    conv = again.get_layer("conv_2")
    assert conv.density_trainable
    assert conv.density_lr_multiplier == 10.0
    task = DnCNNDenoiser.from_config(DnCNNDenoiser(backbone).get_config())
    assert task.backbone.get_config() == backbone.get_config()


def test_output_is_image_minus_noise(denoiser):
    x = uniform(2, 8, 6, 1)
    noise = to_numpy(denoiser.backbone(x, training=False))
    assert_close(denoiser(x, training=False), x - noise, 1e-6, 1e-6)
    assert_close(denoiser.predict(x, verbose=0), x - noise, 1e-6, 1e-6)


def test_integers_are_scaled_everywhere(denoiser):
    x = RNG.integers(0, 256, (2, 8, 6, 1))
    expected = to_numpy(denoiser((x / 255).astype("float32")))
    for dtype in ("uint8", "int32"):
        assert_close(denoiser(x.astype(dtype)), expected, 1e-5, 1e-6)
        assert_close(denoiser.predict(x.astype(dtype), verbose=0), expected, 1e-5, 1e-6)
    bytes_ = x.astype("uint8")
    loss = denoiser.evaluate(bytes_, bytes_, verbose=0)
    assert loss == pytest.approx(np.mean((expected - x / 255) ** 2), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (2, 9, 7, 1), (2, 9, 7, 3)])
def test_denoise_keeps_shape_and_dtype(denoiser, shape, dtype):
    image = uniform(*shape)
    image = (255 * image if "int" in dtype else image).astype(dtype)
    before = image.copy()
    out = denoiser.denoise(image)
    np.testing.assert_array_equal(image, before)
    assert isinstance(out, np.ndarray)
    assert out.shape == shape
    assert out.dtype == dtype
    # Channel by channel, image by image.
    stack = image.reshape((-1, 9, 7, 1 if len(shape) == 2 else shape[-1]))
    expected = np.empty(stack.shape)
    for n, c in np.ndindex(len(stack), stack.shape[-1]):
        plane = stack[n, :, :, c].astype("float32") / (255 if "int" in dtype else 1)
        expected[n, :, :, c] = to_numpy(denoiser(plane[None, ..., None]))[0, ..., 0]
    if "int" in dtype:
        expected = np.clip(np.rint(255 * expected), 0, 255)
        assert np.max(np.abs(out.reshape(stack.shape) - expected)) <= 1
        assert np.mean(out.reshape(stack.shape) == expected) > 0.99
    else:
        tolerance = 2e-3 if dtype == "float16" else 1e-5
        assert_close(out.reshape(stack.shape), expected, tolerance, tolerance)


def test_colour_model_sees_all_channels():
    denoiser = DnCNNDenoiser(tiny(3))
    image = uniform(8, 8, 3)
    assert_close(denoiser.denoise(image), to_numpy(denoiser(image[None]))[0], 1e-5, 1e-6)
    for bad in (uniform(8, 8), uniform(8, 8, 1)):
        with pytest.raises(ValueError, match=r"`image` must have 3 channels.*Received: "):
            denoiser.denoise(bad)


@pytest.mark.parametrize("tile", [1, 5, 16, 100])
def test_tiles_leave_no_seams(denoiser, tile):
    image = uniform(13, 18, 2) if tile > 1 else uniform(5, 4)
    assert_close(denoiser.denoise(image, tile=tile, verbose=0), denoiser.denoise(image), 0, 1e-5)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(length=st.integers(1, 200), tile=st.integers(1, 250), radius=st.integers(0, 40))
def test_windows_cover_everything_once(length, tile, radius):
    from keras_zoo.models.dncnn.dncnn_denoiser import _windows

    seen = np.zeros(length, int)
    sizes = set()
    for window, kept in _windows(length, tile, radius):
        seen[kept] += 1
        sizes.add(window.stop - window.start)
        assert 0 <= window.start <= kept.start < kept.stop <= window.stop <= length
        assert window.start == 0 or kept.start - window.start >= radius
        assert window.stop == length or window.stop - kept.stop >= radius
    assert np.all(seen == 1)
    assert len(sizes) == 1


def test_progress(denoiser, capsys):
    image = uniform(6, 20)
    denoiser.denoise(image, tile=10, verbose=0)
    denoiser.denoise(image)
    assert capsys.readouterr().out == ""
    denoiser.denoise(image, tile=10)
    assert "2/2" in capsys.readouterr().out


def test_bad_images(denoiser):
    bad = [
        uniform(4),
        uniform(1, 2, 3, 4, 5),
        np.array([["a"]]),
        np.ones((4, 4), bool),
        np.ones((4, 4), complex),
        np.empty((0, 4)),
        256 * np.ones((4, 4), int),
        -np.ones((4, 4), int),
        255 * uniform(4, 4),
    ]
    for image in bad:
        with pytest.raises(ValueError, match=r"`image`.*Received: "):
            denoiser.denoise(image)
    for tile in (0, -3, 2.5, True, "8"):
        with pytest.raises(ValueError, match=r"`tile`.*Received: "):
            denoiser.denoise(uniform(4, 4), tile=tile)
    fixed = DnCNNDenoiser(DnCNNBackbone(2, 2, image_shape=(8, 8, 1)))
    with pytest.raises(ValueError, match=r"8 x 8 pixels.*Received: "):
        fixed.denoise(uniform(8, 9))


def test_nan_stays_where_it_is_seen(denoiser):
    image = uniform(12, 12)
    image[0, 0] = np.nan
    out = denoiser.denoise(image)
    # At the pixels around it TensorFlow's fused convolution and ReLU may make 0 of NaN.
    assert np.isnan(out[0, 0])
    assert np.all(np.isfinite(out[4:, 4:]))


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"num_layers": 1}, "num_layers"),
        ({"num_layers": 2.5}, "num_layers"),
        ({"image_shape": (8, 8)}, "image_shape"),
        ({"image_shape": (None, None, None)}, "image_shape"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"density": [0.1, 0.2]}, "density"),
        ({"filters": 0}, "filters"),
        ({"density_lr_multiplier": -1.0}, "density_lr_multiplier"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: "):
        DnCNNBackbone(**kwargs)


def test_denoiser_needs_its_backbone():
    with pytest.raises(ValueError, match=r"`backbone`.*Received: "):
        DnCNNDenoiser(keras.Sequential([keras.layers.Dense(1)]))


def test_learns_and_resumes(tmp_path):
    clean = np.cumsum(uniform(16, 12, 12, 1) - 0.5, axis=1) * 0.1 + 0.5
    noisy = (clean + 0.1 * RNG.standard_normal(clean.shape)).astype("float32")
    denoiser = DnCNNDenoiser(tiny())
    history = denoiser.fit(noisy, clean, epochs=6, batch_size=8, shuffle=False, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    denoiser.save(tmp_path / "denoiser.keras")
    loaded = keras.saving.load_model(tmp_path / "denoiser.keras")
    assert type(loaded) is DnCNNDenoiser
    expected = denoiser.predict(noisy, verbose=0)
    np.testing.assert_array_equal(loaded.predict(noisy, verbose=0), expected)
    assert float(loaded.train_on_batch(noisy, clean)) == float(
        denoiser.train_on_batch(noisy, clean)
    )
    for a, b in zip(loaded.get_weights(), denoiser.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_preset_round_trip(tmp_path, denoiser):
    denoiser.save_to_preset(tmp_path / "preset")
    x = uniform(1, 9, 8, 1)
    expected = to_numpy(denoiser(x))
    loaded = DnCNNDenoiser.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(to_numpy(loaded(x)), expected)
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert type(backbone) is DnCNNBackbone
    fresh = DnCNNDenoiser.from_preset(tmp_path / "preset", load_weights=False)
    assert np.any(to_numpy(fresh(x)) != expected)


def test_low_precision():
    for policy in ("mixed_float16", "bfloat16"):
        denoiser = DnCNNDenoiser(tiny(dtype=policy))
        image = uniform(9, 9)
        out = denoiser.denoise(image)
        assert out.dtype == "float32"
        assert np.all(np.isfinite(out))
    mixed = DnCNNDenoiser(tiny(dtype="mixed_float16"))
    assert keras.backend.standardize_dtype(mixed(uniform(1, 8, 8, 1)).dtype) == "float32"
