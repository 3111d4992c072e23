import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo.layers import CosineClassifier
from keras_zoo.losses import MarginSoftmaxLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy


def naive(labels, cosines, margin_type, margin, scale):
    losses = []
    for label, row in zip(labels, cosines, strict=True):
        logits = [scale * float(c) for c in row]
        if margin_type == "arcface":
            logits[label] = scale * math.cos(math.acos(row[label]) + margin)
        elif margin_type == "cosface":
            logits[label] -= scale * margin
        top = max(logits)
        losses.append(top + math.log(sum(math.exp(v - top) for v in logits)) - logits[label])
    return np.array(losses)


def test_matches_official_code():
    g = golden("unpg", "arcface_plain")
    layer = CosineClassifier(g["weight"].shape[0])
    layer.build((None, g["weight"].shape[1]))
    loss = MarginSoftmaxLoss("arcface", float(g["margin"]), float(g["scale"]))
    layer.kernel.assign(g["weight"].T)
    assert_close(loss.call(g["labels"], layer(g["features"])), g["loss_vector"], rtol=2e-5)
    value, grad = gradient(lambda x: loss(g["labels"], layer(x)), g["features"])
    assert_close(value, g["loss"])
    assert_close(grad, g["grad_features"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("margin_type", ["arcface", "cosface", "none"])
@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_matches_plain_loops(margin_type, scale):
    rng = np.random.default_rng(0)
    cosines, labels = rng.uniform(-0.99, 0.99, (6, 5)), np.array([0, 1, 2, 3, 4, 0])
    # theta + margin beyond pi is not corrected
    cosines[0, 0] = -0.98
    loss = MarginSoftmaxLoss(margin_type, 0.4, scale)
    args = labels, margin_type, 0.4, scale
    x = cosines.astype("float32")
    assert_close(loss.call(labels, x), naive(labels, x, *args[1:]), rtol=2e-5)
    value, grad = gradient(lambda x: loss(labels, x), x)
    expected = numeric_gradient(lambda c: naive(labels, c, *args[1:]).mean(), cosines)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)
    assert_close(loss(labels[:, None].astype("float32"), x), value)


def test_no_margin_is_cross_entropy():
    rng = np.random.default_rng(1)
    cosines, labels = rng.uniform(-1, 1, (8, 7)).astype("float32"), rng.integers(0, 7, 8)
    expected = keras.losses.sparse_categorical_crossentropy(labels, 3 * cosines, from_logits=True)
    for arguments in (("none", 0.5), ("arcface", 0.0), ("cosface", 0.0)):
        assert_close(MarginSoftmaxLoss(*arguments, scale=3.0).call(labels, cosines), expected)


@pytest.mark.parametrize("margin_type", ["arcface", "cosface", "none"])
def test_features_on_and_opposite_their_class(margin_type):
    cosines = np.array([[1, -1], [-1, 1], [1 + 1e-6, -1 - 1e-6], [-1 - 1e-6, 1 + 1e-6]], "float32")
    value, grad = gradient(lambda x: MarginSoftmaxLoss(margin_type)(np.zeros(4), x), cosines)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    # The gradient of the others is what it is; that of the own angle is 0 outside of its range.
    if margin_type == "arcface":
        assert (grad[:, 0] == 0).all()


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.floats(1e-3, 1e4), st.floats(-1.0, 1.0), st.floats(0, 3))
def test_any_scale_is_finite(scale, cosine, margin):
    x = np.array([[cosine, -cosine, 0.0]], "float32")
    for margin_type in ("arcface", "cosface", "none"):
        loss = MarginSoftmaxLoss(margin_type, margin, scale)
        value, grad = gradient(lambda x, loss=loss: loss([0], x), x)
        assert np.isfinite(value)
        assert value >= -1e-6
        assert np.isfinite(grad).all()


def test_nan_and_unknown_classes_show():
    x = np.array([[0.1, 0.2, 0.3]] * 4, "float32")
    x[1, 2] = np.nan
    found = to_numpy(MarginSoftmaxLoss().call(np.array([0, 0, 3, -1]), x))
    assert np.isfinite(found[0])
    assert np.isnan(found[1:]).all()
    assert to_numpy(MarginSoftmaxLoss().call(np.zeros(0), np.zeros((0, 3), "float32"))).shape == (
        0,
    )


def test_half_precision_computes_in_float32():
    x = np.array([[0.9, -0.9, 0.5]], "float16")
    loss = MarginSoftmaxLoss("cosface", 0.25, 64.0)
    expected = naive([1], x.astype("float64"), "cosface", 0.25, 64.0)
    assert_close(loss.call(np.array([1]), ops.convert_to_tensor(x)), expected)


def test_learns_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = digits.data[:400].astype("float32") / 16, digits.target[:400]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), CosineClassifier(10)])
    model.compile(keras.optimizers.Adam(0.02), MarginSoftmaxLoss("arcface", 0.2, 16.0))
    losses = model.fit(x, y, batch_size=50, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert (model.predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.9


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"margin_type": "sphereface"}, "margin_type"),
        ({"margin": "0.5"}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"scale": 0.0}, "scale"),
        ({"scale": -1.0}, "scale"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        MarginSoftmaxLoss(**kwargs)


def test_bad_inputs():
    for y_true, shape in ((np.zeros(3), (4, 5)), (np.zeros((4, 5)), (4, 5)), (np.zeros(4), (4,))):
        with pytest.raises(ValueError, match="Received: "):
            MarginSoftmaxLoss().call(y_true, np.zeros(shape, "float32"))
