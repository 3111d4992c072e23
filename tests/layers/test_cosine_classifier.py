import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import CosineClassifier
from tests.harness import BACKEND, assert_close, gradient, numeric_gradient, to_numpy


def naive(x, kernel):
    rows = []
    for feature in x:
        row = []
        for c in range(kernel.shape[1]):
            column = kernel[:, c]
            lengths = np.sqrt(sum(v * v for v in feature)) * np.sqrt(sum(v * v for v in column))
            dot = sum(a * b for a, b in zip(feature, column, strict=True))
            row.append(dot / lengths if lengths > 0 else 0.0)
        rows.append(row)
    return np.array(rows)


def built(x, units, **kwargs):
    layer = CosineClassifier(units, **kwargs)
    layer(x)
    return layer


def test_matches_plain_loops():
    rng = np.random.default_rng(0)
    x = 10 * rng.normal(size=(5, 4)).astype("float32")
    layer = built(x, 3, append_features=True)
    out = to_numpy(layer(x))
    assert out.shape == layer.compute_output_shape(x.shape) == (5, 7)
    assert_close(out[:, :3], naive(x, to_numpy(layer.kernel)))
    assert_close(out[:, 3:], x / np.linalg.norm(x, axis=1, keepdims=True))
    assert [w.path.split("/")[-1] for w in layer.weights] == ["kernel"]
    assert tuple(layer.kernel.shape) == (4, 3)


def test_gradients_are_those_of_the_formula():
    rng = np.random.default_rng(1)
    x, upstream = rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    layer = built(x.astype("float32"), 2)
    kernel = rng.normal(size=(4, 2))

    layer.kernel.assign(kernel)
    weights = ops.convert_to_tensor(upstream, "float32")
    _, grad = gradient(lambda x: ops.sum(layer(x) * weights), x.astype("float32"))
    expected = numeric_gradient(lambda x: (naive(x, kernel) * upstream).sum(), x)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def test_kernel_learns_by_the_gradient_of_the_formula():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 4)).astype("float32")
    target = rng.normal(size=(6, 3)).astype("float32")
    layer = CosineClassifier(3)
    model = keras.Sequential([keras.Input((4,)), layer])
    kernel = to_numpy(layer.kernel).astype("float64")
    model.compile(keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
    model.fit(x, target, batch_size=6, epochs=1, verbose=0)
    slope = numeric_gradient(lambda k: ((naive(x, k) - target) ** 2).mean(), kernel)
    assert_close(kernel - slope, to_numpy(layer.kernel), rtol=1e-4, atol=1e-5)


def test_extremes_are_finite():
    x = np.array([[0, 0], [1e20, 1e20], [1e-20, 0], [3e-5, -3e-5]], "float32")
    layer = built(x, 3)
    layer.kernel.assign([[1e15, 1e-9, 0], [1e15, 0, 0]])
    value, grad = gradient(lambda x: ops.sum(layer(x)), x)
    root = np.sqrt(0.5)
    assert_close(layer(x), [[0, 0, 0], [1, root, 0], [root, 1, 0], [0, root, 0]], atol=1e-6)
    assert np.isfinite(value)
    assert np.isfinite(grad[[0, 1, 3]]).all()
    x[1, 0] = np.nan
    out = to_numpy(layer(x))
    assert np.isnan(out[1, :2]).all()
    assert np.isfinite(out[[0, 2, 3]]).all()


def test_regularizer_and_initializer():
    x = np.ones((2, 3), "float32")
    layer = built(x, 4, kernel_initializer="ones", kernel_regularizer=keras.regularizers.L2(0.5))
    assert (to_numpy(layer.kernel) == 1).all()
    assert_close(sum(layer.losses), 6.0)


@pytest.mark.slow
@pytest.mark.parametrize("append_features", [False, True])
def test_int8_and_reload(tmp_path, append_features):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 8)).astype("float32")
    model = keras.Sequential(
        [keras.Input((8,)), CosineClassifier(5, append_features=append_features)]
    )
    exact = to_numpy(model(x))
    model.quantize("int8")
    rounded = to_numpy(model(x))
    assert_close(rounded, exact, rtol=0, atol=0.03)
    assert (rounded != exact).any()
    model.save(tmp_path / "m.keras")
    assert_close(keras.models.load_model(tmp_path / "m.keras")(x), rounded, rtol=0, atol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX says how much memory a compiled step takes")
def test_a_million_classes_take_no_second_copy_of_their_matrix():
    import jax

    from keras_zoo.losses import MarginSoftmaxLoss, UNPGLoss

    units, d, n = 1_000_000, 16, 2
    for append, loss in ((False, MarginSoftmaxLoss()), (True, UNPGLoss(units))):
        layer = CosineClassifier(units, append_features=append, kernel_initializer="zeros")
        layer.build((n, d))

        def forward(kernel, x, layer=layer, loss=loss):
            out, _ = layer.stateless_call([kernel], [], x)
            return loss(np.arange(n), out)

        def step(kernel, x, forward=forward):
            return kernel - 0.1 * jax.grad(forward)(kernel, x)

        shapes = (jax.ShapeDtypeStruct((d, units), "float32"), jax.ShapeDtypeStruct((n, d), "f4"))
        matrix = 4 * units * d
        rows = 4 * units * n
        inference = jax.jit(forward).lower(*shapes).compile().memory_analysis()
        assert inference.temp_size_in_bytes < 0.25 * matrix + 6 * rows
        training = jax.jit(step, donate_argnums=0).lower(*shapes).compile().memory_analysis()
        # One gradient of the matrix at the most, beside it.
        assert training.temp_size_in_bytes < 1.25 * matrix + 6 * rows


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"units": 0}, "units"),
        ({"units": 2.5}, "units"),
        ({"units": True}, "units"),
        ({"units": 3, "append_features": 1}, "append_features"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        CosineClassifier(**kwargs)


def test_bad_inputs():
    with pytest.raises(ValueError, match="Received: "):
        CosineClassifier(3).build((None, None))
    with pytest.raises(ValueError, match="ndim"):
        CosineClassifier(3)(np.ones((2, 3, 4), "float32"))
