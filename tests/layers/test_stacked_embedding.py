import keras
import numpy as np
import pytest

from keras_zoo.layers import StackedEmbedding
from tests.harness import assert_close, golden, to_numpy

RNG = np.random.default_rng(0)
X = [RNG.normal(size=(2, 3, dim)).astype("float32") for dim in (2, 4)]


def test_matches_the_fixture():
    g = golden("arabic-emotion", "stacked_embedding")
    x = [g[f"x{k}"].astype("float32") for k in range(3)]
    layer = StackedEmbedding(int(g["units"]))
    layer(x)
    layer.set_weights([g["kernel"], g["bias"]])
    assert_close(layer(x), g["output"])
    assert [w.path.split("/", 1)[1] for w in layer.weights] == ["meta/kernel", "meta/bias"]


@pytest.mark.parametrize("count", [1, 2])
def test_matches_plain_loops(count):
    layer = StackedEmbedding(3, activation="tanh")
    output = to_numpy(layer(X[:count]))
    kernel, bias = (to_numpy(w).astype("float64") for w in layer.weights)
    for i, t in np.ndindex(2, 3):
        stack = [v for x in X[:count] for v in x[i, t]]
        meta = [
            np.tanh(bias[j] + sum(v * kernel[row, j] for row, v in enumerate(stack)))
            for j in range(3)
        ]
        assert_close(output[i, t], np.array([*stack, *meta], "float32"))
    shapes = [x.shape for x in X[:count]]
    assert layer.compute_output_shape(shapes) == output.shape


def test_the_first_mask_goes_on():
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    one, other = keras.layers.Embedding(5, 2, mask_zero=True), keras.layers.Embedding(5, 3)
    output = StackedEmbedding(2)([one(ids), other(ids)])
    np.testing.assert_array_equal(to_numpy(output._keras_mask), ids != 0)


def test_quantized_and_loaded(tmp_path):
    inputs = [keras.Input((3, dim)) for dim in (2, 4)]
    model = keras.Model(inputs, StackedEmbedding(3, name="stack")(inputs))
    model.quantize("int8")
    expected = to_numpy(model(X))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(again(X)), expected)


def test_bad_arguments():
    for units in (0, None, 2.5):
        with pytest.raises(ValueError, match=r"`units` must be .*Received: units="):
            StackedEmbedding(units)


@pytest.mark.parametrize("x", [X[0], [X[0], X[1][:, :2]], [X[0][0]], []])
def test_bad_inputs(x):
    with pytest.raises(ValueError, match=r"The inputs must be .*Received: shape|at least one"):
        StackedEmbedding(2)(x)
