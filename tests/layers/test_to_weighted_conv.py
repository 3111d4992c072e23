import keras
import numpy as np
import pytest

from keras_zoo.layers import (
    WeightedConv1D,
    WeightedConv2D,
    WeightedConv3D,
    fold_weighted_conv,
    to_weighted_conv,
)
from tests.harness import assert_close, to_numpy

L = keras.layers
ONES = {3: [1.0], 5: [1.0, 1.0], 7: [1.0, 1.0, 1.0]}
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


class OwnConv2D(L.Conv2D):
    """A subclass that the conversion does not know."""


@keras.saving.register_keras_serializable(package="tests")
class Block(L.Layer):
    """A layer that makes a convolution itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = L.Conv2D(4, 3, padding="same", name="hidden_conv")

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return self.conv(x)

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)


def functional():
    """Something of everything; the starts are zeros, since they are overwritten."""
    inputs = keras.Input((10, 10, 3), name="images")
    x = L.Conv2D(4, 3, padding="same", activation="relu", kernel_initializer="zeros", name="conv3")(
        inputs
    )
    x = L.BatchNormalization(name="norm")(x)
    shared = L.Conv2D(4, 5, padding="same", groups=2, kernel_initializer="zeros", name="shared")
    x = L.Add(name="add")([shared(x), shared(L.ReLU(name="relu")(x))])
    inner_in = keras.Input((10, 10, 4))
    inner = keras.Model(
        inner_in,
        L.Conv2D(4, 7, padding="same", kernel_initializer="zeros", name="conv7")(inner_in),
        name="in",
    )
    x = inner(x)
    x = keras.Sequential(
        [L.Conv2D(4, 3, use_bias=False, kernel_initializer="zeros", name="deep"), L.ReLU()],
        name="seq",
    )(x)
    x = Block(name="block")(x)
    for layer in (
        L.Conv2D(4, 1, kernel_initializer="zeros", name="conv1"),
        L.Conv2D(4, 4, kernel_initializer="zeros", name="even"),
        L.Conv2D(4, (3, 1), kernel_initializer="zeros", name="unequal"),
        L.SeparableConv2D(
            4, 3, depthwise_initializer="zeros", pointwise_initializer="zeros", name="separable"
        ),
        L.DepthwiseConv2D(3, padding="same", depthwise_initializer="zeros", name="depthwise"),
        L.Conv2DTranspose(4, 3, kernel_initializer="zeros", name="transposed"),
        OwnConv2D(4, 3, padding="same", kernel_initializer="zeros", name="own"),
        WeightedConv2D(4, 3, padding="same", kernel_initializer="zeros", name="weighted"),
        L.Dropout(0.5, name="dropout"),
    ):
        x = layer(x)
    model = keras.Model(
        inputs,
        L.Dense(2, kernel_initializer="zeros", name="head")(
            L.GlobalAveragePooling2D(name="pool")(x)
        ),
    )
    for weight in model.weights:
        if weight.name != "density":
            noise = 0.3 * normal(*weight.shape)
            weight.assign(np.abs(noise) + 0.1 if "variance" in weight.name else noise)
    return model


@pytest.fixture(scope="module")
def model():
    return functional()


def test_ones_change_nothing(model):
    x = normal(3, 10, 10, 3)
    before = [to_numpy(w).copy() for w in model.weights]
    clone = to_weighted_conv(model, density=ONES)
    np.testing.assert_array_equal(to_numpy(clone(x)), to_numpy(model(x)))
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    clone.get_layer("conv3").kernel.assign(0 * normal(3, 3, 3, 4))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)
    assert type(model.get_layer("conv3")) is L.Conv2D


def test_report(model):
    report = to_weighted_conv(model).conversion_report
    assert set(report.converted) == {"conv3", "shared", "in/conv7", "seq/deep"}
    assert set(report.left) == {
        "block/hidden_conv", "conv1", "even", "unequal", "separable", "depthwise", "transposed",
        "own", "weighted",
    }  # fmt: skip
    text = str(report)
    assert "4 layers converted, 9 left." in text
    assert "left even: kernel_size (4, 4) is not odd" in text
    assert "own: OwnConv2D is a class of its own" in text
    assert "block/hidden_conv: Block makes it itself" in text


def test_densities(model):
    default = to_weighted_conv(model, density_trainable=True)
    np.testing.assert_allclose(default.get_layer("conv3").density, [0.8], rtol=1e-6)
    assert default.get_layer("shared").density_trainable
    chosen = to_weighted_conv(model, density={3: [0.7], 7: None})
    assert chosen.conversion_report.left["shared"] == "kernel_size 5 was not asked for"
    np.testing.assert_allclose(chosen.get_layer("conv3").density, [0.7], rtol=1e-6)
    seven = chosen.get_layer("in").get_layer("conv7")
    np.testing.assert_allclose(seven.density, [0.25, 0.15, 0.55], rtol=1e-6)
    single = to_weighted_conv(model, density=[0.3, 0.6])
    assert single.conversion_report.converted == ("shared",)
    only = to_weighted_conv(model, kernel_sizes=(1, 7))
    assert set(only.conversion_report.converted) == {"in/conv7", "conv1"}


def test_shared_layers_stay_shared(model):
    clone = to_weighted_conv(model)
    assert sum(layer.name == "shared" for layer in clone.layers) == 1
    assert len(clone.get_layer("shared")._inbound_nodes) == 2


def test_fold_is_equal_to_the_bit(model):
    x = normal(2, 10, 10, 3)
    weighted = to_weighted_conv(model)
    folded = fold_weighted_conv(weighted)
    np.testing.assert_array_equal(to_numpy(folded(x)), to_numpy(weighted(x)))
    assert set(folded.conversion_report.converted) == {
        "conv3", "shared", "in/conv7", "seq/deep", "weighted",
    }  # fmt: skip
    assert type(folded.get_layer("conv3")) is L.Conv2D
    assert not folded.conversion_report.left
    assert isinstance(weighted.get_layer("conv3"), WeightedConv2D)


@pytest.mark.parametrize("rank", [1, 3])
def test_sequential_of_other_ranks(rank):
    conv, weighted = ((L.Conv1D, WeightedConv1D), (L.Conv3D, WeightedConv3D))[rank > 1]
    kwargs = {"padding": "causal"} if rank == 1 else {"data_format": "channels_last"}
    model = keras.Sequential([conv(2, 3, dilation_rate=2, **kwargs), conv(2, 3)])
    unbuilt = to_weighted_conv(model)
    assert not unbuilt.built
    x = normal(2, *([9] * rank), 2)
    expected = to_numpy(model(x))
    clone = to_weighted_conv(model, density=[1.0])
    assert isinstance(clone, keras.Sequential)
    assert all(type(layer) is weighted for layer in clone.layers)
    np.testing.assert_array_equal(to_numpy(clone(x)), expected)


def test_keeps_policy_training_flags_and_states():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(2, 3, dtype="mixed_float16", kernel_regularizer="l2", name="a"),
            L.Conv2D(2, 3, trainable=False, name="b"),
            L.Dropout(0.5, seed=3),
        ]
    )
    model.compile("sgd", "mse")
    model.train_on_batch(normal(4, 8, 8, 2), normal(4, 4, 4, 2))
    clone = to_weighted_conv(model, density=[1.0])
    first, second = clone.layers[:2]
    assert first.compute_dtype == "float16"
    assert first.kernel_regularizer is not None
    assert not second.trainable
    state, copy = model.layers[2].seed_generator.state, clone.layers[2].seed_generator.state
    np.testing.assert_array_equal(to_numpy(copy), to_numpy(state))
    x = normal(2, 8, 8, 2)
    np.testing.assert_array_equal(to_numpy(clone(x)), to_numpy(model(x)))
    assert clone.compiled
    assert np.isfinite(clone.train_on_batch(x, normal(2, 4, 4, 2)))


def test_clone_saves(tmp_path):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, L.Conv2D(2, 7)(inputs))
    clone = to_weighted_conv(model)
    clone.save(tmp_path / "clone.keras")
    x = normal(1, 8, 8, 1)
    loaded = keras.saving.load_model(tmp_path / "clone.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(clone(x)))


def test_bad_arguments(model):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"`model`.*Received: "):
        to_weighted_conv(Subclassed())
    with pytest.raises(ValueError, match=r"`model`.*Received: "):
        fold_weighted_conv(L.Dense(2))
    for density in ([0.5] * 4, {9: [0.5] * 4}, 0.8, {3: [0.1, 0.2]}, {3: [float("nan")]}):
        with pytest.raises(ValueError, match=r"`density`.*Received: "):
            to_weighted_conv(model, density=density)
    for kernel_sizes in ((), (2,), (3.0,), "3", (True,)):
        with pytest.raises(ValueError, match=r"`kernel_sizes`.*Received: "):
            to_weighted_conv(model, kernel_sizes=kernel_sizes)
    with pytest.raises(ValueError, match=r"`density_trainable`.*Received: "):
        to_weighted_conv(model, density_trainable=1)
    with pytest.raises(ValueError, match="Received: "):
        fold_weighted_conv(keras.Sequential([WeightedConv2D(2, 3)]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG16", "ResNet50"])
def test_models_of_keras_applications(name):
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    x = normal(2, 32, 32, 3)
    clone = to_weighted_conv(model, density=ONES)
    np.testing.assert_array_equal(to_numpy(clone(x)), to_numpy(model(x)))
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    assert len(clone.conversion_report.converted) == {"VGG16": 13, "ResNet50": 17}[name]
    weighted = to_weighted_conv(model)
    assert_close(fold_weighted_conv(weighted)(x), weighted(x), 0, 0)


@pytest.mark.slow
def test_keras_hub_backbone():
    keras_hub = pytest.importorskip("keras_hub")
    model = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    x = normal(2, 32, 32, 3)
    clone = to_weighted_conv(model, density=ONES)
    np.testing.assert_array_equal(to_numpy(clone(x)), to_numpy(model(x)))
    assert len(clone.conversion_report.converted) == 3
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
