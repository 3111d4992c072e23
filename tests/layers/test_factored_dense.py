"""The factored output layer against a dense kernel with plain SGD."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import FactoredDense
from keras_zoo.losses import ZLoss
from tests.harness import assert_close, golden, gradient, to_numpy


def layer_of(kernel, **kwargs):
    layer = FactoredDense(kernel.shape[1], **kwargs)
    layer.set_kernel(kernel.astype("float32"))
    return layer


def dense_step(kernel, h, indices, slopes, rate):
    """The gradient for `h` and the new kernel `(d, D)`, from all outputs, in plain loops."""
    total = np.zeros_like(kernel)
    grad_h = np.zeros_like(h)
    for n, (row, chosen) in enumerate(zip(h, indices, strict=True)):
        o = row @ kernel
        g = 2 * slopes[1][n] * o + slopes[2][n]
        for k, c in enumerate(chosen):
            g[c] += slopes[0][n, k]
        total += np.outer(row, g)
        grad_h[n] = kernel @ g
    return grad_h, kernel - rate * total


def consistent(layer):
    """Whether what is kept beside the kernel still follows from it."""
    kernel = to_numpy(layer.get_kernel()).astype("float64")
    scale = np.abs(kernel @ kernel.T).max()
    assert_close(layer.gram, kernel @ kernel.T, rtol=0, atol=2e-4 * scale)
    assert_close(layer.row_sum, kernel.sum(axis=1), rtol=0, atol=1e-3 * np.abs(kernel).sum(1).max())
    product = to_numpy(layer.mixer).astype("float64").T @ to_numpy(layer.inverse_mixer_t)
    assert_close(product, np.eye(len(product)), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["layer_k1", "layer_k2"])
def test_matches_official_reference(name):
    g = golden("z-loss", name)
    layer = layer_of(g["kernel"])
    for t, (h, indices) in enumerate(zip(g["inputs"], g["indices"], strict=True)):
        h = h.astype("float32")
        found = layer.statistics(h, indices)
        for value, key in zip(found, ("selected", "squared_sum", "total"), strict=True):
            assert_close(value, g[key][t], rtol=1e-4, atol=1e-5)
        slopes = [g[k][t] for k in ("grad_selected", "grad_squared_sum", "grad_total")]
        grad = layer.sgd_update(h, indices, *slopes, float(g["learning_rate"]))
        assert_close(grad, g["grad_inputs"][t], rtol=1e-3, atol=1e-4)
        assert_close(layer.get_kernel(), g["new_kernel"][t], rtol=1e-3, atol=1e-4)
    consistent(layer)


def test_worked_example():
    layer = layer_of(np.array([[1.0, 0, 1], [0, 1, 1]]))
    h, indices = np.array([[1.0, 2.0]], "float32"), np.array([[1]])
    assert_close(layer(h), [[1, 2, 3]])
    selected, squared_sum, total = layer.statistics(h, indices)
    assert_close(ops.concatenate([selected[0], squared_sum, total]), [2, 14, 6])
    grad = layer.sgd_update(h, indices, [[-1.0]], [0.05], [0.2], 0.1)
    assert_close(grad, [[0.8, -0.1]])
    assert_close(layer.mixer, [[0.99, -0.02], [-0.02, 0.96]])
    assert_close(layer.inverse_mixer_t, [[1.010526, 0.021053], [0.021053, 1.042105]])
    assert_close(layer.offset, [-0.02, -0.04])
    assert_close(layer.factor, [[1, 0], [0.105263, 1.210526], [1, 1]])
    assert_close(layer.get_kernel(), np.array([[0.97, -0.06], [0.06, 1.12], [0.95, 0.90]]).T)
    assert_close(layer.gram, [[1.847, 0.864], [0.864, 2.068]])
    assert_close(layer.row_sum, [1.98, 1.96])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("m", "k", "d"), [(1, 1, 6), (4, 1, 6), (4, 3, 6), (9, 2, 3)], ids=["one", "k1", "k3", "m > d"]
)
def test_matches_dense_sgd_in_plain_loops(m, k, d):
    rng = np.random.default_rng(m + k)
    kernel = rng.normal(size=(d, 11))
    layer = layer_of(kernel)
    for step in range(4):
        h = rng.normal(size=(m, d))
        # Few classes: some are named twice in a row and in a batch.
        indices = rng.integers(0, 3, (m, k))
        slopes = [0.2 * rng.normal(size=shape) for shape in ((m, k), (m,), (m,))]
        slopes[1] = 0.1 * np.abs(slopes[1])
        expected, kernel = dense_step(kernel, h, indices, slopes, 0.1)
        grad = layer.sgd_update(h.astype("float32"), indices, *slopes, 0.1)
        assert_close(grad, expected, rtol=1e-4, atol=1e-4)
        assert_close(layer.get_kernel(), kernel, rtol=1e-4, atol=1e-4)
        if step == 2:
            layer.stabilize(0.99, 1.01)  # changes nothing that is seen
            assert_close(layer.get_kernel(), kernel, rtol=1e-4, atol=1e-4)
    consistent(layer)


@pytest.mark.slow
def test_a_thousand_steps_are_those_of_dense_sgd():
    """With stabilisation, one to three targets an example, duplicates in a batch; Z-loss slopes."""
    rng = np.random.default_rng(1)
    d, classes, m, rate = 8, 40, 6, 0.5
    kernel = rng.normal(size=(d, classes))
    layer = layer_of(kernel)
    loss, repaired = ZLoss(), 0

    def slopes_of(selected, squared_sum, total):
        own = loss.statistics_gradient(selected[:, 0], squared_sum, total, classes)
        first, *sums = (s / m for s in own)
        return ops.stack([first / j for j in range(1, selected.shape[1] + 1)], axis=1), *sums

    for step in range(1000):
        k = 1 + step % 3
        h = rng.normal(size=(m, d))
        # A Zipf-like choice: the first classes come often, and twice in a batch.
        indices = (classes * rng.uniform(size=(m, k)) ** 3).astype("int32")
        o = h @ kernel
        mean, deviation = o.mean(axis=1), o.std(axis=1)
        z = (o[np.arange(m), indices[:, 0]] - mean) / deviation
        a = -1 / (1 + np.exp(z)) / deviation / m
        q = -a * z / (2 * classes * deviation)
        slopes = [
            np.stack([a / j for j in range(1, k + 1)], axis=1),
            q,
            -a / classes - 2 * mean * q,
        ]
        expected, kernel = dense_step(kernel, h, indices, slopes, rate)
        _, grad = layer.sgd_step(h.astype("float32"), indices, slopes_of, rate)
        if step % 100 == 99:
            repaired += layer.stabilize(0.9, 1.1)
            assert_close(grad, expected, rtol=1e-2, atol=1e-4)
            assert_close(layer.get_kernel(), kernel, rtol=0, atol=2e-3 * np.abs(kernel).max())
    assert repaired > 0
    consistent(layer)


@pytest.mark.parametrize("values", [[1.0, 1.4, 0.6, 1.2, 0.7, 1.0], [3.0, 1.0, 0.2, 1.0, 1.0, 1.0]])
def test_stabilize_keeps_the_kernel(values):
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(2))
    layer = layer_of(rng.normal(size=(6, 9)))
    mixer = left @ np.diag(values) @ right
    layer.mixer.assign(mixer)
    layer.offset.assign(rng.normal(size=6))
    kernel = to_numpy(layer.get_kernel())
    outside = sum(not 0.5 <= v <= 2 for v in values)
    assert layer.stabilize() == outside
    assert_close(layer.get_kernel(), kernel, rtol=1e-4, atol=1e-4)
    found = np.linalg.svd(to_numpy(layer.mixer))[1]
    assert_close(found, sorted([v if 0.5 <= v <= 2 else 1.0 for v in values], reverse=True))
    product = to_numpy(layer.mixer).T @ to_numpy(layer.inverse_mixer_t)
    assert_close(product, np.eye(6), atol=1e-4)
    assert layer.stabilize() == 0


def test_stabilize_multiplies_out_where_most_is_lost():
    rng = np.random.default_rng(1)
    layer = layer_of(rng.normal(size=(3, 7)))
    layer.mixer.assign(np.diag([5.0, 4.0, 1.0]))
    layer.offset.assign([1.0, 2.0, 3.0])
    kernel = to_numpy(layer.get_kernel())
    assert layer.stabilize() == 2
    assert_close(layer.factor, kernel.T)
    assert_close(layer.mixer, np.eye(3))
    assert_close(layer.offset, np.zeros(3))
    consistent(layer)
    layer.mixer.assign(np.full((3, 3), np.nan))
    assert layer.stabilize() == 3  # beyond repair: nothing is changed
    assert_close(layer.factor, kernel.T)


def test_starts_as_a_dense_layer_does():
    x = np.random.default_rng(2).normal(size=(3, 5)).astype("float32")
    keras.utils.set_random_seed(4)
    dense = keras.layers.Dense(7, use_bias=False, kernel_initializer="glorot_uniform")
    expected = dense(x)
    keras.utils.set_random_seed(4)
    layer = FactoredDense(7, "glorot_uniform")
    assert_close(layer(x), expected)
    assert_close(layer.get_kernel(), dense.kernel)
    assert layer.compute_output_shape(x.shape) == (3, 7)
    assert not layer.trainable_variables
    names = {w.path.split("/")[-1]: tuple(w.shape) for w in layer.weights}
    square = {name: (5, 5) for name in ("mixer", "inverse_mixer_t", "gram")}
    assert names == {"factor": (7, 5), **square, "offset": (5,), "row_sum": (5,)}
    consistent(layer)


def test_statistics_are_differentiable():
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(4, 6))
    layer = layer_of(kernel)
    h, indices = rng.normal(size=(3, 4)), np.array([[0, 5], [2, 2], [1, 0]])

    def total(h):
        selected, squared_sum, sums = layer.statistics(h, indices)
        return ops.sum(selected) + ops.sum(squared_sum) + 2 * ops.sum(sums)

    _, grad = gradient(total, h.astype("float32"))
    o = h @ kernel
    chosen = np.stack([kernel[:, i].sum(axis=1) for i in indices])
    expected = chosen + (2 * o) @ kernel.T + 2 * kernel.sum(axis=1)
    assert_close(grad, expected, rtol=1e-4, atol=1e-4)


def test_an_index_that_is_no_output_gives_nan():
    layer = layer_of(np.ones((2, 3)))
    h = np.ones((2, 2), "float32")
    selected, squared_sum, _ = (to_numpy(s) for s in layer.statistics(h, [[0], [3]]))
    assert np.isnan(selected[1]).all()
    assert np.isfinite(selected[0]).all()
    assert np.isfinite(squared_sum).all()


def test_extremes_are_finite():
    rng = np.random.default_rng(4)
    for scale in (0.0, 1e-10, 1e3):
        layer = layer_of(rng.normal(size=(3, 5)))
        h = (scale * rng.normal(size=(4, 3))).astype("float32")
        step = layer.sgd_step(
            h,
            np.array([[0], [0], [1], [4]]),
            lambda a, *sums: (ops.ones_like(a) / 4, *(1e-9 * ops.ones_like(s) for s in sums)),
            0.1,
        )
        assert all(np.isfinite(to_numpy(x)).all() for x in (*step[0], step[1]))
        assert np.isfinite(to_numpy(layer.get_kernel())).all()


def test_half_precision_keeps_its_state_in_float32():
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(4, 6))
    layer = layer_of(kernel, dtype="mixed_float16")
    out = layer(rng.normal(size=(2, 4)).astype("float16"))
    assert keras.backend.standardize_dtype(out.dtype) == "float16"
    assert {w.dtype for w in layer.weights} == {"float32"}
    # 1e5 is beyond float16.
    _, squared_sum, _ = layer.statistics(np.full((1, 4), 200.0, "float16"), [[0]])
    assert np.isfinite(to_numpy(squared_sum)).all()


def test_saves_and_goes_on(tmp_path):
    rng = np.random.default_rng(6)
    layer = FactoredDense(6)
    model = keras.Sequential([keras.Input((4,)), layer])
    h = rng.normal(size=(3, 4)).astype("float32")
    step = (h, np.array([[0], [5], [0]]), 0.1 * np.ones((3, 1)), 0.01 * np.ones(3), np.ones(3), 0.1)
    layer.sgd_update(*step)
    model.save(tmp_path / "m.keras")
    other = keras.models.load_model(tmp_path / "m.keras").layers[-1]
    assert_close(other.sgd_update(*step), layer.sgd_update(*step), rtol=0, atol=0)
    for one, two in zip(layer.weights, other.weights, strict=True):
        assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("units", [0, 2.5, True, "3"])
def test_bad_units(units):
    with pytest.raises(ValueError, match=r"`units` must .*Received: units="):
        FactoredDense(units)


def test_bad_inputs():
    layer = FactoredDense(5)
    for use in (layer.get_kernel, layer.stabilize, layer.refactorize):
        with pytest.raises(ValueError, match=r"must be built.*Received: 'factored_dense"):
            use()
    with pytest.raises(ValueError, match=r"`kernel` must be `\(d, 5\)`. Received: shape \(2, 4\)"):
        layer.set_kernel(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"`inputs` must be `\(N, d\)`. Received: shape"):
        FactoredDense(5).build((None, 3, 4))
    layer.set_kernel(np.ones((2, 5)))
    kernel = to_numpy(layer.get_kernel())
    h = np.ones((3, 2), "float32")
    for inputs, indices in (
        (h[:, :1], np.zeros((3, 1), "int32")),
        (h, np.zeros(3, "int32")),
        (h, np.zeros((2, 1), "int32")),
    ):
        with pytest.raises(ValueError, match=r"`inputs` must be.*Received: inputs of shape"):
            layer.statistics(inputs, indices)
    with pytest.raises(ValueError, match=r"`indices` must be integers. Received: dtype float"):
        layer.statistics(h, np.zeros((3, 1), "float32"))
    good = (h, np.zeros((3, 1), "int32"))
    with pytest.raises(ValueError, match=r"`grad_selected` must be.*Received: shapes"):
        layer.sgd_update(*good, np.ones((3, 2)), np.ones(3), np.ones(3), 0.1)
    with pytest.raises(ValueError, match=r"`learning_rate` must .*Received: learning_rate="):
        layer.sgd_update(*good, np.ones((3, 1)), np.ones(3), np.ones(3), float("inf"))
    with pytest.raises(ValueError, match=r"`low` and `high` must .*Received: low=1.5, high=2.0"):
        layer.stabilize(1.5, 2.0)
    assert_close(layer.get_kernel(), kernel, rtol=0, atol=0)
