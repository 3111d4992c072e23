import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import CosineClassifier
from keras_zoo.losses import MarginSoftmaxLoss, UNPGLoss
from keras_zoo.metrics import CosineAccuracy
from tests.harness import assert_close, golden, gradient, to_numpy


def kept_pairs(labels, features, whisker):
    """Similarities of the negative pairs inside the whiskers, by plain loops."""
    unit = [f / np.linalg.norm(f) for f in np.asarray(features, "float64")]
    values = sorted(
        float(unit[i] @ unit[j])
        for i in range(len(labels))
        for j in range(i + 1, len(labels))
        if labels[i] != labels[j]
    )
    if not values:
        return [], 0
    low, high = values[len(values) // 4], values[3 * len(values) // 4]
    width = whisker * (high - low)
    return [v for v in values if low - width <= v <= high + width], len(values)


def naive(labels, cosines, features, margin, scale, whisker):
    kept, _ = kept_pairs(labels, features, whisker)
    losses = []
    for label, row in zip(labels, cosines, strict=True):
        logits = [scale * float(c) for c in row]
        logits[label] = scale * math.cos(math.acos(row[label]) + margin)
        everything = [*logits, *(scale * v for v in kept)]
        top = max(everything)
        losses.append(top + math.log(sum(math.exp(v - top) for v in everything)) - logits[label])
    return np.array(losses)


def batch(n, classes, d, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(n, d)).astype("float32")
    cosines = rng.uniform(-0.9, 0.9, (n, classes)).astype("float32")
    return labels, cosines, features


@pytest.mark.parametrize("name", ["arcface_unpg", "cosface_unpg"])
def test_matches_official_code(name):
    g = golden("unpg", name)
    classes = g["weight"].shape[0]
    loss = UNPGLoss(
        classes, str(g["kind"]), float(g["margin"]), float(g["scale"]), float(g["whisker"])
    )
    layer = CosineClassifier(classes, append_features=True)
    layer.build(g["features"].shape)
    layer.kernel.assign(g["weight"].T)
    value, grad = gradient(lambda x: loss(g["labels"], layer(x)), g["features"])
    assert_close(value, g["loss"])
    assert_close(grad, g["grad_features"], rtol=1e-4, atol=2e-4)
    assert_close(loss.call(g["labels"], layer(g["features"])), g["loss_vector"], rtol=2e-5)
    kept, pairs = kept_pairs(g["labels"], g["features"], float(g["whisker"]))
    assert len(kept) / pairs == pytest.approx(float(g["kept_fraction"]))

    unit = g["features"] / np.linalg.norm(g["features"], axis=1, keepdims=True)

    def of_weight(weight):
        columns = ops.transpose(weight)
        columns = columns / ops.sqrt(ops.sum(ops.square(columns), axis=0))
        joined = ops.concatenate([ops.matmul(unit, columns), ops.convert_to_tensor(unit)], axis=1)
        return loss(g["labels"], joined)

    _, grad = gradient(of_weight, g["weight"])
    assert_close(grad, g["grad_weight"], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("n", [2, 3, 8, 9])
@pytest.mark.parametrize("whisker", [0.0, 0.4, 1.5, 1e6])
def test_matches_plain_loops(n, whisker):
    labels, cosines, features = batch(n, 4, 3, seed=n)
    loss = UNPGLoss(4, margin=0.3, scale=8.0, whisker=whisker)
    y_pred = np.concatenate([cosines, features], axis=1)
    expected = naive(labels, cosines, features, 0.3, 8.0, whisker)
    assert_close(loss.call(labels, y_pred), expected, rtol=2e-5)


def test_the_filter_drops_twins_of_another_class():
    labels, cosines, features = batch(9, 9, 8)
    labels = np.arange(9)
    features[1] = features[0]
    y_pred = np.concatenate([cosines, features], axis=1)
    with_filter, without = UNPGLoss(9, whisker=0.5), UNPGLoss(9, whisker=1e6)
    assert to_numpy(with_filter(labels, y_pred)) < to_numpy(without(labels, y_pred)) - 1


def test_pairs_carry_a_gradient_and_their_bounds_do_not():
    labels, cosines, features = batch(8, 4, 3)
    y_pred = np.concatenate([cosines, features], axis=1)
    loss = UNPGLoss(4, scale=8.0)
    _, grad = gradient(lambda x: loss(labels, x), y_pred)
    step = 1e-3 * np.random.default_rng(0).normal(size=features.shape)

    def with_pairs_of(features, kept_from):
        """The loss, whose kept pairs are those of other features."""
        bounds = kept_pairs(labels, kept_from, 1.5)[0]
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        low, high = min(bounds) - 1e-2, max(bounds) + 1e-2
        values = [
            float(unit[i] @ unit[j])
            for i in range(8)
            for j in range(i + 1, 8)
            if labels[i] != labels[j] and low <= unit[i] @ unit[j] <= high
        ]
        assert len(values) == len(bounds)
        plain = to_numpy(MarginSoftmaxLoss(scale=8.0).call(labels, cosines)).astype("float64")
        own = 8 * np.cos(np.arccos(cosines[np.arange(8), labels].astype("float64")) + 0.5)
        return np.mean(
            np.logaddexp(plain + own, np.log(np.sum(np.exp(8 * np.array(values))))) - own
        )

    features = features.astype("float64")
    rise = with_pairs_of(features + step, features) - with_pairs_of(features - step, features)
    assert_close((grad[:, 4:] * step).sum(), rise / 2, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("labels", [[1, 1, 1], [2]])
def test_without_a_negative_pair_it_is_margin_softmax(labels):
    _, cosines, features = batch(len(labels), 4, 3)
    y_pred = np.concatenate([cosines, features], axis=1)
    value, grad = gradient(lambda x: UNPGLoss(4)(labels, x), y_pred)
    expected, plain = gradient(lambda x: MarginSoftmaxLoss()(labels, x), cosines)
    assert_close(value, expected)
    assert_close(grad[:, :4], plain)
    assert (grad[:, 4:] == 0).all()


def test_copies_and_zeros_are_finite():
    labels = np.arange(6)
    y_pred = np.zeros((6, 9), "float32")
    y_pred[1:3, 6:] = 1.0
    value, grad = gradient(lambda x: UNPGLoss(6)(labels, x), y_pred)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    y_pred[0, 7] = np.nan
    assert np.isnan(to_numpy(UNPGLoss(6).call(labels, y_pred))).all()


def test_learns_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = digits.data[:400].astype("float32") / 16, digits.target[:400]
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16), CosineClassifier(10, append_features=True)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = UNPGLoss(10, margin=0.2, scale=16.0)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=[CosineAccuracy(10)])
    history = model.fit(x, y, batch_size=50, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["cosine_accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [({"num_classes": 0}, "num_classes"), ({"num_classes": 3, "whisker": -1.0}, "whisker")],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        UNPGLoss(**kwargs)


def test_cosines_without_features_are_refused():
    with pytest.raises(ValueError, match=r"`y_pred` must hold `num_classes`.*Received: "):
        UNPGLoss(4).call(np.zeros(3), np.zeros((3, 4), "float32"))
