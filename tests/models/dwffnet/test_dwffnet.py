import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("keras_hub")

import keras_hub

from keras_zoo.losses import DiceFocalLoss
from keras_zoo.models import (
    DWFFNetBackbone,
    DWFFNetImageConverter,
    DWFFNetImageSegmenter,
    DWFFNetImageSegmenterPreprocessor,
)
from keras_zoo.models._tiling import blended_rows, count_batches, reflected, tile_windows
from tests.harness import BACKEND, assert_close, to_numpy

RNG = np.random.default_rng(0)
SHAPE = (32, 48, 3)
CLASSES = 3


def bytes_(*shape):
    return RNG.integers(0, 256, shape).astype("uint8")


X = bytes_(5, *SHAPE)
Y = RNG.integers(0, CLASSES, X.shape[:3])


def scaled(images):
    return images.astype("float32") / 127.5 - 1


def encoder(image_shape=SHAPE, **kwargs):
    keras.utils.set_random_seed(0)
    options = {"num_layers": 2, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 16}
    options = {"patch_size": 16, "image_shape": image_shape, **options, **kwargs}
    return keras_hub.models.DINOV3Backbone(**options)


def backbone(feature_layers=(0, 1, -1), image_encoder=None, **kwargs):
    return DWFFNetBackbone(image_encoder or encoder(), feature_layers, 8, **kwargs)


def preprocessor():
    return DWFFNetImageSegmenterPreprocessor(DWFFNetImageConverter(scale=1 / 127.5, offset=-1.0))


def scores(model, images):
    """What `predict` gives, without the compilation."""
    return to_numpy(model(scaled(images), training=False))


def segmenter(**kwargs):
    options = {"decoder_filters": (8, 4), "preprocessor": preprocessor(), **kwargs}
    return DWFFNetImageSegmenter(options.pop("backbone", None) or backbone(), CLASSES, **options)


@pytest.fixture(scope="module")
def model():
    return segmenter()


# The backbone


def test_backbone_is_its_parts():
    """Tokens behind the class and registers, row by row, of the levels that are named."""
    net = backbone((0, 1, 2, -1, -2))
    x = scaled(X[:2])
    source = net.image_encoder
    tokens = keras.Model(source.input, [*source.pyramid_outputs.values(), source.output])
    stem, first, second, normed = (to_numpy(t) for t in tokens({"pixel_values": x}))
    maps = []
    for level in (stem, first, normed, normed, first):
        assert level.shape == (2, 5 + 2 * 3, 16)
        image = np.zeros((2, 2, 3, 16), "float32")
        for i, j in np.ndindex(2, 3):
            image[:, i, j] = level[:, 5 + 3 * i + j]
        maps.append(image)
    fused, weights = net.get_layer("fusion")(maps)
    assert_close(net(x), fused)
    assert_close(keras.Model(net.input, net.level_weights)(x), weights)
    assert np.abs(normed - second).max() > 0.01


def test_encoder_is_frozen_and_runs_as_at_inference():
    frozen = backbone(image_encoder=encoder(drop_path_rate=0.5, attention_dropout=0.5))
    assert not frozen.image_encoder.trainable_weights
    assert len(frozen.trainable_weights) == 3 * 3 + 3 + 1
    x = scaled(X[:2])
    assert_close(frozen(x, training=True), frozen(x, training=False))
    free = backbone(freeze_encoder=False)
    assert len(free.trainable_weights) == len(free.weights)


@pytest.mark.parametrize("freeze", [True, False])
def test_config_round_trip(freeze):
    net = backbone((1, -1), freeze_encoder=freeze, entropy_weight=0.0, fusion_weighting="static")
    again = DWFFNetBackbone.from_config(net.get_config())
    assert again.get_config() == net.get_config()
    assert len(again.trainable_weights) == len(net.trainable_weights)
    task = segmenter(backbone=net, dropout=0.1, activation="softmax")
    again = DWFFNetImageSegmenter.from_config(task.get_config())
    assert again.get_config() == task.get_config()


def test_entropy_enters_the_loss():
    net = backbone((1, -1), entropy_weight=0.5)
    task = segmenter(backbone=net, preprocessor=None, dropout=0.0)
    task.compile(keras.optimizers.SGD(0.0))
    x, y = scaled(X), Y
    weights = to_numpy(keras.Model(net.input, net.level_weights)(x)).astype("float64")
    entropy = -(weights * np.log(weights + 1e-8)).sum(-1).mean()
    expected = float(DiceFocalLoss()(y, scores(task, X))) - 0.5 * entropy
    loss = task.train_on_batch(x, y, return_dict=True)["loss"]
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_encoder_of_a_preset(tmp_path):
    """The road of pretrained weights, with weights that are made here."""
    assert "dinov3_vit_large_lvd1689m" in keras_hub.models.DINOV3Backbone.presets
    made = encoder()
    made.save_to_preset(str(tmp_path / "dinov3"))
    folder = str(tmp_path / "dinov3")
    loaded = keras_hub.models.DINOV3Backbone.from_preset(folder)
    keras.utils.set_random_seed(1)
    one = backbone(image_encoder=made)
    keras.utils.set_random_seed(1)
    other = backbone(image_encoder=loaded)
    x = scaled(X[:1])
    assert_close(one(x), other(x), 1e-6, 1e-6)
    larger = keras_hub.models.DINOV3Backbone.from_preset(folder, image_shape=(48, 64, 3))
    assert tuple(backbone(image_encoder=larger).output.shape) == (None, 3, 4, 8)


def test_channels_first():
    last = segmenter()
    keras.config.set_image_data_format("channels_first")
    try:
        first = segmenter(backbone=backbone(image_encoder=encoder((3, 32, 48))), preprocessor=None)
        first.set_weights(last.get_weights())
        turned = scaled(X[:2]).transpose(0, 3, 1, 2)
        assert first.backbone.data_format == "channels_first"
        expected = scores(last, X[:2])
        # On a CPU only XLA gives TensorFlow convolutions of this format.
        first.compile(jit_compile=BACKEND == "tensorflow")
        assert_close(first.predict(turned, verbose=0), expected, 1e-4, 1e-5)
        found = first.segment(scaled(X[0]), output="scores", verbose=0)
        assert_close(found, expected[0], 1e-4, 1e-5)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"feature_layers": ()}, "feature_layers"),
        ({"feature_layers": 1}, "feature_layers"),
        ({"feature_layers": (1, 3)}, "feature_layers"),
        ({"feature_layers": (-4,)}, "feature_layers"),
        ({"feature_layers": (1.0,)}, "feature_layers"),
        ({"fusion_filters": 0}, "fusion_filters"),
        ({"entropy_weight": -1.0}, "entropy_weight"),
        ({"fusion_weighting": "sum"}, "entropy_weight"),
        ({"fusion_weighting": "mean"}, "fusion_weighting"),
        ({"freeze_encoder": None}, "freeze_encoder"),
    ],
)
def test_bad_arguments_of_the_backbone(kwargs, name):
    image_encoder = encoder()
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
        DWFFNetBackbone(image_encoder, **{"feature_layers": (1, -1), **kwargs})
    assert image_encoder.trainable


def test_bad_encoders():
    plain = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)])
    for bad in (plain, encoder((40, 32, 3)), None):
        with pytest.raises(ValueError, match=r"`image_encoder` must .*Received: "):
            DWFFNetBackbone(bad, (1, -1))


# The segmenter


def naive_double(x):
    """Bilinear doubling of `(H, W, C)` with half-pixel centres, by plain loops."""
    height, width, channels = x.shape
    out = np.zeros((2 * height, 2 * width, channels))
    for i, j in np.ndindex(2 * height, 2 * width):
        y, z = (i + 0.5) / 2 - 0.5, (j + 0.5) / 2 - 0.5
        top, left = int(np.floor(y)), int(np.floor(z))
        for a, b in np.ndindex(2, 2):
            share = (1 - abs(y - top - a)) * (1 - abs(z - left - b))
            row, column = (min(max(k, 0), n - 1) for k, n in ((top + a, height), (left + b, width)))
            out[i, j] += share * x[row, column]
    return out


def test_decoder_is_its_layers(model):
    x = model.backbone(scaled(X[:1]))
    for block in (1, 2):
        for step in (1, 2):
            x = model.get_layer(f"block_{block}_conv_{step}")(x)
            x = to_numpy(model.get_layer(f"block_{block}_norm_{step}")(x))
            x = np.maximum(x, 0)
        x = naive_double(naive_double(x[0]))[None].astype("float32")
    expected = to_numpy(model.get_layer("logits")(x))
    assert_close(model(scaled(X[:1]), training=False), expected, 1e-4, 1e-5)
    rates = [model.get_layer(f"block_{block}_dropout").rate for block in (1, 2)]
    assert rates == [0.2, 0.1]
    assert model.get_layer("block_1_norm_1").epsilon == 1e-5
    assert not model.get_layer("block_1_conv_1").use_bias


def test_default_compilation(model):
    assert isinstance(model.optimizer, keras.optimizers.AdamW)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    assert model.optimizer.weight_decay == 0.04
    assert type(model.loss) is DiceFocalLoss
    assert model.loss.from_logits
    assert not segmenter(activation="softmax").loss.from_logits


def test_measured_by_keras_own_metrics():
    task, classes = segmenter(), range(CLASSES)
    iou = keras.metrics.IoU
    mean = keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False, name="mean")
    foreground = iou(CLASSES, range(1, CLASSES), sparse_y_pred=False, name="foreground")
    each = [iou(CLASSES, [k], sparse_y_pred=False, name=f"iou_{k}") for k in classes]
    task.compile(metrics=[mean, foreground, *each])
    found = task.evaluate(X, Y, verbose=0, return_dict=True)
    predicted = scores(task, X).argmax(-1)
    expected = [
        np.sum((predicted == k) & (k == Y)) / np.sum((predicted == k) | (k == Y)) for k in classes
    ]
    assert_close([found[f"iou_{k}"] for k in classes], expected)
    assert found["mean"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert found["foreground"] == pytest.approx(np.mean(expected[1:]), rel=1e-4)


def test_learns_and_comes_back(tmp_path):
    """Two textures side by side: the loss falls, and files and presets give the same network."""
    from skimage import data

    brick, moon = data.brick(), data.moon()
    images = np.empty((12, *SHAPE), "uint8")
    masks = np.zeros((12, *SHAPE[:2]), "int32")
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        border = 8 + 3 * n
        image[:] = brick[n : n + 32, :48, None]
        image[:, border:] = moon[n : n + 32, border:48, None]
        mask[:, border:] = 1
    task = segmenter(dropout=0.0)
    task.compile(keras.optimizers.Adam(0.01), metrics=None)
    losses = task.fit(images, masks, batch_size=6, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    expected = scores(task, X)
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    assert type(loaded) is DWFFNetImageSegmenter
    np.testing.assert_array_equal(scores(loaded, X), expected)
    task.save_to_preset(tmp_path / "preset")
    folder = str(tmp_path / "preset")
    hub = keras_hub.models.ImageSegmenter.from_preset(folder)
    assert type(hub) is DWFFNetImageSegmenter
    assert type(hub.preprocessor) is DWFFNetImageSegmenterPreprocessor
    np.testing.assert_array_equal(scores(hub, X), expected)
    assert len(hub.trainable_weights) == len(task.trainable_weights)
    net = keras_hub.models.Backbone.from_preset(folder)
    assert_close(net(scaled(X)), task.backbone(scaled(X)), 1e-6, 1e-6)
    other = DWFFNetImageSegmenter.from_preset(folder, image_shape=(48, 16, 3))
    assert other.output.shape == (None, 48, 16, CLASSES)
    head = DWFFNetImageSegmenter.from_preset(folder, num_classes=7)
    assert head.output.shape[-1] == 7
    low = DWFFNetImageSegmenter.from_preset(folder, dtype="mixed_bfloat16")
    assert low.backbone.image_encoder.compute_dtype == "bfloat16"
    found = low(scaled(X), training=False)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert_close(found, expected, 0.1, 0.3)


def test_masks_are_resized_with_images():
    resize = DWFFNetImageSegmenterPreprocessor(
        DWFFNetImageConverter(image_size=SHAPE[:2], scale=1 / 255), resize_output_mask=True
    )
    images, masks = bytes_(2, 64, 96, 3), RNG.integers(0, 3, (2, 64, 96, 1))
    x, y = resize(images, masks)
    assert tuple(x.shape) == (2, *SHAPE)
    assert tuple(y.shape) == (2, 32, 48, 1)


def test_softmax():
    task = segmenter(activation="softmax")
    assert_close(scores(task, X).sum(-1), np.ones(X.shape[:3]))


def test_another_size_is_refused(model):
    with pytest.raises(ValueError, match="expected shape"):
        model.predict(bytes_(1, 48, 48, 3), verbose=0)


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"decoder_filters": (8,)}, "decoder_filters"),
        ({"decoder_filters": (8, 0)}, "decoder_filters"),
        ({"dropout": 1.0}, "dropout"),
        ({"activation": "relu"}, "activation"),
        ({"backbone": keras.Sequential([keras.layers.Dense(1)])}, "backbone"),
    ],
)
def test_bad_arguments(model, kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
        DWFFNetImageSegmenter(**{"backbone": model.backbone, "num_classes": 3, **kwargs})


def test_patches_of_sixteen_pixels():
    net = backbone(image_encoder=encoder(patch_size=8))
    assert net.output.shape == (None, 4, 6, 8)
    with pytest.raises(ValueError, match=r"`backbone` must be .* patches of 16.*Received: "):
        DWFFNetImageSegmenter(net, 3)


# Tiles


def whole(predict, image, tile, overlap, batch_size=3):
    """What `blended_rows` gives, each row of it once."""
    calls = []

    def counted(tiles):
        calls.append(len(tiles))
        return predict(tiles)

    result = np.full((*image.shape[:2], predict(image[None]).shape[-1]), np.nan, "float32")
    for rows, scores in blended_rows(counted, image, tile, overlap, batch_size):
        assert np.isnan(result[rows]).all()
        result[rows] = scores
    assert len(calls) == count_batches(image.shape[:2], tile, overlap, batch_size)
    assert max(calls) <= batch_size
    return result


def squares(tiles):
    return np.concatenate([tiles, tiles**2], axis=-1)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.37, 0.5])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (8, 6), (9, 6), (23, 17), (40, 31)])
def test_a_model_of_single_pixels_sees_the_whole_image(size, overlap):
    """Wherever the tiles lie, their windows add up to 1 at each pixel."""
    image = RNG.normal(size=(*size, 2)).astype("float32")
    assert_close(whole(squares, image, (8, 6), overlap), squares(image), 1e-5, 1e-5)


def test_no_farther_than_the_model_sees():
    """A model that looks 1 pixel around: exact in the middle of tiles, as before elsewhere."""

    def blurred(tiles):
        padded = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = tiles.shape[1:3]
        shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return np.mean(shifts, axis=0)

    image = RNG.normal(size=(40, 52, 1)).astype("float32")
    exact = blurred(image[None])[0]
    error = np.abs(whole(blurred, image, (16, 16), 0.5) - exact)[2:-2, 2:-2]
    seams = np.abs(whole(blurred, image, (16, 16), 0.0) - exact)[2:-2, 2:-2]
    assert error.max() < 0.02 * seams.max()


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    length=st.integers(1, 300), tile=st.integers(1, 64), overlap=st.floats(0, 0.5),
)  # fmt: skip
def test_windows_add_up_to_one(length, tile, overlap):
    starts, windows = tile_windows(length, tile, overlap)
    assert starts[0] <= 0
    assert starts[-1] + tile >= length
    assert len(starts) == 1 or starts[-1] < length
    total = np.zeros(starts[-1] + tile - starts[0])
    for start, window in zip(starts, windows, strict=True):
        total[start - starts[0] :][:tile] += window
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert (windows > 0).all()
    # Never more reflected pixels than one stride takes.
    assert len(starts) == 1 or (total.size - length) < tile - round(tile * overlap)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_reflection(length):
    padded = np.pad(np.arange(length), 20, mode="reflect" if length > 1 else "edge")
    np.testing.assert_array_equal(reflected(-20, length + 40, length), padded)


def test_one_tile_is_predict(model):
    expected = model.predict(X[:1], verbose=0)[0]
    assert_close(expected, scores(model, X[:1])[0], 1e-4, 1e-5)
    for overlap in (0.0, 0.3, 0.5):
        found = model.segment(X[0], overlap, output="scores", verbose=0)
        assert_close(found, expected, 1e-5, 1e-6)
    classes = model.segment(X[0], verbose=0)
    assert classes.dtype == "uint8"
    np.testing.assert_array_equal(classes, expected.argmax(-1))


def test_large_images_have_no_seams(model):
    """Steps over the borders of tiles are no larger than within, and larger without overlap."""
    image = np.repeat(np.repeat(bytes_(13, 20, 3), 8, axis=0), 8, axis=1)[:100, :155]

    def steps(overlap):
        found = model.segment(image, overlap, batch_size=1, output="scores", verbose=0)
        assert found.shape == (100, 155, CLASSES)
        assert found.dtype == "float32"
        return np.abs(np.diff(found, axis=1)).mean(axis=(0, 2))

    starts, _ = tile_windows(155, 48, 0.0)
    borders = [start - 1 for start in starts[1:]]
    hard, soft = steps(0.0), steps(0.5)
    others = np.delete(soft, borders)
    assert hard[borders].min() > 2 * np.median(hard)
    assert soft[borders].max() < others.max()


def test_images_of_any_size_and_kind(model, tmp_path):
    quiet = {"batch_size": 1, "verbose": 0}
    for size in ((1, 1), (7, 90), (32, 49)):
        assert model.segment(bytes_(*size, 3), **quiet).shape == size
    image = bytes_(40, 60, 3)
    expected = model.segment(image, **quiet)
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    np.testing.assert_array_equal(model.segment(mapped, **quiet), expected)
    np.testing.assert_array_equal(model.segment(image.astype("float32"), **quiet), expected)


def test_no_more_than_a_row_of_tiles_is_held():
    import tracemalloc

    image = np.zeros((4000, 64, 1), "float32")
    tracemalloc.start()
    for _ in blended_rows(squares, image, (32, 32), 0.5, 4):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < image.nbytes


def test_progress(model, capsys):
    image = bytes_(32, 70, 3)
    model.segment(image, batch_size=1, verbose=0)
    model.segment(X[0])
    assert capsys.readouterr().out == ""
    model.segment(image, batch_size=1)
    assert "2/2" in capsys.readouterr().out


def test_bad_images(model):
    bad = [bytes_(4, 4), bytes_(1, 4, 4, 3), bytes_(0, 4, 3), np.full((4, 4, 3), "a")]
    for image in [*bad, bytes_(4, 4, 1)]:
        with pytest.raises(ValueError, match=r"`image` must .*Received: "):
            model.segment(image)
    for name, value in (("overlap", 0.6), ("batch_size", 0), ("output", "masks")):
        with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
            model.segment(X[0], **{name: value})


def test_level_weights(model):
    weights = model.level_weights(X)
    assert weights.shape == (5, 3)
    assert_close(weights.sum(-1), np.ones(5))


def test_nan_stays_in_the_tiles_that_see_it(model):
    image = np.zeros((32, 200, 3), "float32")
    image[0, 0] = np.nan
    found = model.segment(image, batch_size=1, output="scores", verbose=0)
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[:, 60:]).all()


# The preset


def test_preset_knows_its_textures():
    """From halves of the photographs that it was not trained on, and by keras-hub's own road."""
    from skimage import data

    task = keras_hub.models.ImageSegmenter.from_preset("dwff_net_tiny_textures")
    assert type(task) is DWFFNetImageSegmenter
    assert "dwff_net_tiny_textures" in DWFFNetBackbone.presets
    images = [getattr(data, name)()[64:128, -64:] for name in ("brick", "moon", "page")]
    images = np.repeat(np.stack(images)[..., None], 3, axis=-1)
    classes = task.predict(images, verbose=0).argmax(-1)
    for found, texture in zip(classes, (0, 3, 4), strict=True):
        assert np.mean(found == texture) > 0.7
