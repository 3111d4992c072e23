"""The Z-loss and the Taylor softmax: formulas, statistics, extremes."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo.losses import TaylorSoftmaxLoss, ZLoss
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

every_loss = pytest.mark.parametrize(
    "loss", [ZLoss(), ZLoss(0.3, 2.0), TaylorSoftmaxLoss()], ids=["z", "z tuned", "taylor"]
)
CARD = np.array([[1.0, 3.0, -2.0, 0.0]], "float32")
# TensorFlow computes in float64; JAX does not unless it is told to.
TIGHT = BACKEND != "jax"


def naive(loss, labels, logits):
    """Losses of the examples from the formulas, in plain loops."""
    losses = []
    for c, o in zip(labels, logits, strict=True):
        if isinstance(loss, TaylorSoftmaxLoss):
            terms = [1 + v + v * v / 2 for v in o]
            losses.append(-math.log(terms[c] / sum(terms)))
        else:
            mean = sum(o) / len(o)
            variance = sum((v - mean) ** 2 for v in o) / len(o)
            z = (o[c] - mean) / math.sqrt(variance + loss.epsilon)
            losses.append(np.logaddexp(0, loss.scale * (loss.shift - z)) / loss.scale)
    return np.array(losses)


def batch(n=6, d=9, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, d, n), rng.normal(1.0, 2.0, (n, d)).astype("float32")


def vector(loss, labels, logits):
    return to_numpy(loss.call(labels, logits))


@pytest.mark.parametrize("name", ["loss_8_classes", "loss_50_classes"])
def test_matches_golden_numbers(name):
    g = golden("z-loss", name)
    classes = g["y_pred"].shape[1]
    cases = [
        (ZLoss(scale, shift), g["z_loss"][i], g["z_grad"][i], g["z_statistics_gradient"][i])
        for i, (scale, shift) in enumerate(g["scale_shift"].tolist())
    ]
    taylor = g["taylor_loss"], g["taylor_grad"], g["taylor_statistics_gradient"]
    for loss, values, grads, slopes in [*cases, (TaylorSoftmaxLoss(), *taylor)]:
        assert_close(vector(loss, g["y_true"], g["y_pred"].astype("float32")), values)
        _, grad = gradient(lambda x, f=loss: f(g["y_true"], x), g["y_pred"].astype("float32"))
        assert_close(grad, grads, rtol=1e-4, atol=1e-6)
        statistics = [g[k].astype("float32") for k in ("selected", "squared_sum", "total")]
        assert_close(loss.from_statistics(*statistics, classes), values)
        found = loss.statistics_gradient(*statistics, classes)
        for one, expected in zip(found, slopes, strict=True):
            assert_close(one, expected, rtol=1e-4, atol=1e-6)
        assert naive(loss, g["y_true"], g["y_pred"]) == pytest.approx(values, rel=1e-9)


def test_worked_example():
    assert_close(ZLoss()([1], CARD), 0.223052)
    assert_close(ZLoss(0.5, 3.0)([1], CARD), 2.351353)
    assert_close(TaylorSoftmaxLoss()([1], CARD), 0.424883)
    slopes = ZLoss().statistics_gradient([3.0], [14.0], [2.0], 4)
    assert_close(ops.concatenate(slopes), [-0.110900, 0.010663, 0.017061], atol=1e-6)


@every_loss
def test_matches_plain_loops(loss):
    for d in (2, 3, 40):
        labels, logits = batch(d=d, seed=d)
        expected = naive(loss, labels, logits.astype("float64"))
        assert_close(vector(loss, labels, logits), expected)
        assert_close(vector(loss, labels[:, None].astype("float32"), logits), expected)


@every_loss
def test_gradient_matches_differences(loss):
    labels, logits = batch(4, 5, seed=1)
    expected = numeric_gradient(lambda o: naive(loss, labels, o).mean(), logits)
    dtype = "float64" if TIGHT else "float32"
    _, grad = gradient(lambda o: ops.mean(loss.call(labels, o)), logits.astype(dtype))
    tolerance = {"rtol": 1e-6, "atol": 1e-9} if TIGHT else {"rtol": 1e-4, "atol": 1e-6}
    assert_close(grad, expected, **tolerance)


@every_loss
def test_slopes_are_the_derivatives_of_the_value(loss):
    statistics = np.array([[3.0, 14.0, 2.0], [-0.5, 6.0, 1.0], [0.2, 40.0, -9.0]], "float32")
    for row in statistics:

        def value(s, row=row):
            return loss.from_statistics(s[0:1], s[1:2], s[2:3], 4)[0]

        _, grad = gradient(value, row)
        slopes = loss.statistics_gradient(row[:1], row[1:2], row[2:], 4)
        assert_close(ops.concatenate(slopes), grad, rtol=1e-4, atol=1e-6)


@given(
    seed=st.integers(0, 10**6),
    alpha=st.floats(0.01, 100),
    beta=st.floats(-50, 50),
    d=st.integers(2, 30),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_z_loss_knows_no_scale_and_no_offset(seed, alpha, beta, d):
    labels, logits = batch(3, d, seed)
    loss = ZLoss(0.7, 1.0)
    expected = naive(loss, labels, logits.astype("float64"))
    moved = (alpha * logits + beta).astype("float32")
    assert_close(vector(loss, labels, moved), expected, rtol=3e-3, atol=1e-3)
    z = loss.shift - np.log(np.expm1(loss.scale * expected)) / loss.scale
    assert (z <= math.sqrt(d - 1) * (1 + 1e-6)).all()


@every_loss
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_classes_may_change_places(loss, seed):
    labels, logits = batch(4, 7, seed)
    order = np.random.default_rng(seed).permutation(7)
    moved = vector(loss, np.argsort(order)[labels], logits[:, order])
    assert_close(moved, vector(loss, labels, logits), rtol=1e-4)


def test_gradient_of_z_loss_is_orthogonal_to_ones_and_to_the_logits():
    labels, logits = batch(5, 8, seed=2)
    _, grad = gradient(lambda o: ZLoss()(labels, o), logits)
    assert_close(grad.sum(axis=1), np.zeros(5), atol=1e-6)
    assert_close((grad * logits).sum(axis=1), np.zeros(5), atol=1e-6)


def test_z_loss_far_from_the_origin():
    # The squared mean is four million times the variance, of which no digit is left in float32.
    labels, logits = batch(seed=3)
    logits = np.round(64 * logits) / 64
    found = vector(ZLoss(), labels, logits + 4096)
    assert_close(found, vector(ZLoss(), labels, logits), rtol=0, atol=3e-4)


@every_loss
def test_finite_at_the_extremes(loss):
    labels, logits = batch(5, 6, seed=4)
    cases = [np.zeros_like(logits), np.full_like(logits, 7.0), 1e-6 * logits, 1e4 * logits]
    for case in [*cases, 1e9 * logits, 65504 * np.clip(logits, -1, 1)]:
        value, grad = gradient(lambda o: loss(labels, o), case)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
        expected = naive(loss, labels, case.astype("float64")).mean()
        assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_equal_logits_have_z_nought():
    loss = ZLoss(0.5, 3.0)
    assert_close(loss([2], np.full((1, 4), 7.0, "float32")), math.log1p(math.exp(1.5)) / 0.5)
    assert_close(loss([0], [[5.0]]), math.log1p(math.exp(1.5)) / 0.5)  # one class alone
    # Where cancellation leaves a variance below 0 there is none.
    found = loss.from_statistics([1.0], [3.9999], [4.0], 4)
    assert_close(found, [math.log1p(math.exp(1.5)) / 0.5])
    assert np.isfinite(np.stack(loss.statistics_gradient([1.0], [3.9999], [4.0], 4))).all()


@every_loss
@pytest.mark.parametrize("label", [-1, 9, 10**6])
def test_an_id_that_is_no_class_gives_nan(loss, label):
    labels, logits = batch(seed=5)
    expected = vector(loss, labels, logits)
    labels[2] = label
    found = vector(loss, labels, logits)
    assert np.isnan(found[2])
    assert_close(np.delete(found, 2), np.delete(expected, 2))


@every_loss
def test_nan_in_nan_out(loss):
    labels, logits = batch(seed=6)
    logits[1, (labels[1] + 1) % 9] = np.nan
    found = vector(loss, labels, logits)
    assert np.isnan(found[1])
    assert np.isfinite(np.delete(found, 1)).all()


@every_loss
def test_empty_batch(loss):
    assert vector(loss, np.zeros((0,)), np.zeros((0, 4), "float32")).shape == (0,)


def test_half_precision_computes_in_float32():
    labels, logits = batch(seed=7)
    logits = logits.astype("float16")
    expected = vector(ZLoss(), labels, logits.astype("float32"))
    assert_close(vector(ZLoss(dtype="float16"), labels, logits), expected)
    value = ZLoss(dtype="float16")(labels, logits)
    assert keras.backend.standardize_dtype(value.dtype) == "float16"
    # 3,000 classes cannot be told apart in float16, which has whole numbers up to 2,048.
    with pytest.raises(ValueError, match=r"`dtype` must .*Received: y_pred of shape \(1, 3000\)"):
        ZLoss(dtype="float16")([2999], np.zeros((1, 3000), "float16"))


def test_learns_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = (digits.data / 16).astype("float32"), digits.target
    keras.utils.set_random_seed(0)
    for loss in (ZLoss(), TaylorSoftmaxLoss()):
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        model.compile(keras.optimizers.Adam(0.02), loss=loss, metrics=["accuracy"])
        history = model.fit(x[:1200], y[:1200], epochs=5, verbose=0).history
        assert history["loss"][-1] < 0.7 * history["loss"][0]
        assert model.evaluate(x[1200:], y[1200:], verbose=0)[1] > 0.65


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"scale": 0.0}, "scale"),
        ({"scale": -1.0}, "scale"),
        ({"scale": "1"}, "scale"),
        ({"shift": float("nan")}, "shift"),
        ({"epsilon": 0}, "epsilon"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=f"`{name}` must .*Received: {name}="):
        ZLoss(**kwargs)


@every_loss
@pytest.mark.parametrize(
    ("labels", "logits"),
    [
        (np.zeros(3), np.zeros((4, 2))),
        (np.zeros((4, 2)), np.zeros((4, 2))),
        (np.zeros(4), np.zeros((4, 2, 2))),
        (np.zeros(4), np.zeros(4)),
    ],
)
def test_shapes_that_do_not_fit(loss, labels, logits):
    with pytest.raises(ValueError, match=r"`y_pred` must .*Received: y_true of shape"):
        loss.call(labels, logits)


@every_loss
def test_statistics_that_do_not_fit(loss):
    with pytest.raises(ValueError, match="Received: shapes selected"):
        loss.from_statistics([1.0], [2.0, 3.0], [1.0], 4)
    with pytest.raises(ValueError, match="Received: shapes selected"):
        loss.statistics_gradient([[1.0]], [[2.0]], [[1.0]], 4)
    with pytest.raises(ValueError, match=r"`num_classes` must .*Received: num_classes=0"):
        loss.from_statistics([1.0], [2.0], [1.0], 0)
