"""What holds for the losses over few-shot episodes, and each one's own formula."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo.losses import CombinedLoss, ICNNLoss, ProtoTripletLoss, PrototypicalLoss
from keras_zoo.losses._episodes import EpisodeLoss
from keras_zoo.metrics import PrototypicalAccuracy
from keras_zoo.samplers import EpisodeSampler
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

LOSSES = {
    "prototypical": lambda shots, **kw: PrototypicalLoss(shots, 3.0, **kw),
    "proto_triplet": lambda shots, **kw: ProtoTripletLoss(shots, 0.7, **kw),
}
every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())
# TensorFlow computes in float64; torch's matmul does not, nor does JAX unless it is told to.
TIGHT = BACKEND == "tensorflow"


def naive(loss, labels, x):
    """Losses of the rows from the formulas, in plain loops."""
    support, queries = {}, []
    for i, label in enumerate(labels):
        rows = support.setdefault(label, [])
        rows.append(x[i]) if len(rows) < loss.shots else queries.append(i)
    prototypes = {label: sum(rows) / len(rows) for label, rows in support.items()}
    losses = np.zeros(len(labels))
    for q in queries:
        squared = {w: float(sum((x[q] - c) ** 2)) for w, c in prototypes.items()}
        own = squared.pop(labels[q])
        if isinstance(loss, PrototypicalLoss):
            terms = [(own - d) / loss.temperature for d in squared.values()]
            value = np.logaddexp.reduce([0.0, *terms])
        elif squared:
            nearest = math.sqrt(min(squared.values()) + 1e-6)
            value = max(0.0, math.sqrt(own + 1e-6) - nearest + loss.margin)
        else:
            value = 0.0
        losses[q] = value * len(labels) / len(queries)
    return losses


def batch(n=14, d=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n), rng.normal(size=(n, d)).astype("float32")


def vector(loss, labels, x):
    return to_numpy(loss.call(ops.convert_to_tensor(labels), ops.convert_to_tensor(x)))


@pytest.mark.parametrize("name", ["episode_5w1s", "episode_4w3s", "icnn_default_neighbors"])
@pytest.mark.parametrize("part", ["ce", "pt"])
def test_matches_official_code(name, part):
    g = golden("susana-distancia", name)
    shots = int(g["shots"])
    if part == "ce":
        loss = PrototypicalLoss(shots, float(g["temperature"]))
    else:
        loss = ProtoTripletLoss(shots, float(g["margin"]))
    value, grad = gradient(lambda x: loss(g["labels"], x), g["embeddings"])
    assert_close(value, g[f"{part}_loss"])
    assert_close(grad, g[f"{part}_grad"], rtol=1e-5, atol=1e-6)
    expected = naive(loss, g["labels"], g["embeddings"].astype("float64"))
    assert expected.mean() == pytest.approx(g[f"{part}_loss"], rel=1e-9)


@every_loss
@pytest.mark.parametrize(("shots", "n"), [(1, 14), (2, 14), (5, 30)])
def test_matches_plain_loops(make, shots, n):
    loss = make(shots)
    for seed in range(3):
        labels, x = batch(n, seed=seed)
        labels[2] = 9  # a class of one: a prototype that no query has for its own
        expected = naive(loss, labels, x.astype("float64"))
        assert_close(vector(loss, labels, x), expected)
        assert_close(loss(labels, x), expected.mean())
        assert (expected > 0).any()


@every_loss
def test_gradient_matches_differences(make):
    loss = make(2, dtype="float64")
    labels, x = batch(11, 3, seed=4)
    expected = numeric_gradient(lambda x: naive(loss, labels, x).mean(), x)
    x = x.astype("float64") if TIGHT else x
    _, grad = gradient(lambda x: ops.mean(loss.call(ops.convert_to_tensor(labels), x)), x)
    tolerance = {"rtol": 1e-6, "atol": 1e-8} if TIGHT else {"rtol": 1e-4, "atol": 1e-5}
    assert_close(grad, expected, **tolerance)


@every_loss
def test_support_rows_cost_nothing_and_the_mean_is_over_queries(make):
    labels = np.array([5, 5, 2, 5, 2, 2, 2])
    _, x = batch(7, seed=5)
    losses = vector(make(2), labels, x)
    assert (losses[[0, 1, 2, 4]] == 0).all()
    # Rows of one class are told apart by their order alone.
    supports_first = [2, 4, 0, 1, 3, 5, 6]
    assert_close(vector(make(2), labels[supports_first], x[supports_first]), losses[supports_first])
    # Alone with the support, a query has the same loss, scaled.
    alone = [0, 1, 2, 4, 5]
    assert_close(vector(make(2), labels[alone], x[alone])[-1] / 5, losses[5] * 3 / 7)


@every_loss
@pytest.mark.parametrize(
    ("labels", "shots"),
    [([4] * 6, 2), (list(range(6)), 1), ([0, 0, 0, 1, 1, 1], 3), ([0, 0, 1, 1, 1, 1], 7), ([3], 1)],
    ids=["one class", "all distinct", "no query", "shots of plenty", "one row"],
)
def test_nothing_to_tell_apart(make, labels, shots):
    x = batch(len(labels), seed=6)[1]
    value, grad = gradient(lambda x: make(shots)(labels, x), x)
    assert value == 0
    assert (grad == 0).all()


@every_loss
def test_empty_batch(make):
    assert to_numpy(make(2, reduction=None)(np.zeros((0,)), np.zeros((0, 4)))).shape == (0,)


@every_loss
def test_finite_at_the_extremes(make):
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    x = batch(8, seed=7)[1]
    copies, on_prototype = x.copy(), x.copy()
    copies[1:6] = copies[0]
    on_prototype[3] = on_prototype[0]
    clipped = np.clip(x, -1, 1)
    cases = [copies, on_prototype, np.zeros_like(x), 1e-20 * x, 1e4 * x, 65504 * clipped]
    for case in cases:
        value, grad = gradient(lambda x: make(1)(labels, x), case)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
        expected = naive(make(1), labels, case.astype("float64")).mean()
        assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_a_query_on_its_prototype_has_distance_a_thousandth():
    # Prototypes at 0 and 1, a query at 0.
    x = np.array([[0.0], [1.0], [0.0]], "float32")
    value, grad = gradient(lambda x: ProtoTripletLoss(1, 1.5)([0, 1, 0], x), x)
    assert_close(value, math.sqrt(1e-6) - math.sqrt(1 + 1e-6) + 1.5)
    assert_close(grad, [[0.0], [-1.0], [1.0]])


def test_the_margin_is_of_the_distance_not_of_its_square():
    # 3 to one's own, 5 to the other: the difference of squares is 16.
    x = np.array([[3.0], [-5.0], [0.0]], "float32")
    assert_close(ProtoTripletLoss(1, 2.5)([0, 1, 0], x), 0.5)
    assert_close(ProtoTripletLoss(1, 1.5)([0, 1, 0], x), 0.0)
    assert_close(PrototypicalLoss(1, 16.0)([1, 0, 0], -x), math.log(1 + math.exp(1.0)))


@every_loss
def test_far_from_the_origin(make):
    labels, x = batch(seed=8)
    x = np.round(64 * x) / 64  # exact also at 1000
    assert_close(vector(make(2), labels, x + 1000), vector(make(2), labels, x), atol=1e-5)


@every_loss
def test_nan_in_nan_out(make):
    labels, x = batch(seed=9)
    x[0, 1] = np.nan
    assert np.isnan(vector(make(2), labels, x)).all()


@every_loss
def test_half_precision_computes_in_float32(make):
    labels, x = batch(seed=10)
    x = x.astype("float16")
    expected = to_numpy(make(2)(labels, x.astype("float32")))
    assert_close(make(2).call(labels, x), vector(make(2), labels, x.astype("float32")))
    value = make(2, dtype="float16")(labels, x)
    assert keras.backend.standardize_dtype(value.dtype) == "float16"
    assert abs(float(ops.cast(value, "float32")) - expected) < 0.02 * expected


@every_loss
def test_labels_in_a_column_and_of_any_kind(make):
    labels, x = batch(seed=11)
    expected = vector(make(2), labels, x)
    assert_close(vector(make(2), labels[:, None], x), expected, rtol=0, atol=0)
    assert_close(vector(make(2), labels.astype("float32"), x), expected, rtol=0, atol=0)
    assert_close(vector(make(2), 100 - 1000 * labels, x), expected, rtol=0, atol=0)


@every_loss
@given(seed=st.integers(0, 10**6), shots=st.integers(1, 4), classes=st.integers(1, 5))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_properties(make, seed, shots, classes):
    rng = np.random.default_rng(seed)
    labels, x = rng.integers(0, classes, 9), rng.normal(size=(9, 3)).astype("float32")
    loss = make(shots)
    found = vector(loss, labels, x)
    assert_close(found, naive(loss, labels, x.astype("float64")))
    # Turned and moved, distances stay.
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert_close(vector(loss, labels, (x @ turn + 1).astype("float32")), found, atol=3e-5)
    # Any order that keeps that within the classes.
    rank = np.array([np.sum(labels[:i] == labels[i]) for i in range(9)])
    order = np.lexsort((rng.random(9), rank))
    assert_close(vector(loss, labels[order], x[order]), found[order])
    # Support rows and queries may each change places.
    own = np.where(rank < shots, 0, 1)
    order = np.lexsort((rng.random(9), own))
    assert_close(vector(loss, labels[order], x[order]), found[order])


@pytest.mark.parametrize("n", [5, 14])
def test_unknown_batch_size(n):
    labels, x = batch(n, seed=12)
    for make in LOSSES.values():
        loss = make(2)
        value, grad = gradient(lambda x, loss=loss: loss(labels, x), x)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            @tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec([None, 4])])
            def compute(labels, x, loss=loss):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    value = loss(labels, x)
                return value, tape.gradient(value, x)

            found = compute(labels.astype("float32"), x)
            assert_close(found[0], value)
            assert_close(found[1], grad)


def all_three(shots, rows):
    parts = [PrototypicalLoss(shots), ProtoTripletLoss(shots), ICNNLoss(num_neighbors=rows)]
    return CombinedLoss(parts)


@pytest.mark.slow
def test_fit_compiled():
    labels, x = batch(16, d=5, seed=14)
    histories = []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
        loss = all_three(1, 5)
        model.compile(keras.optimizers.SGD(0.02), loss=loss, jit_compile=jit_compile)
        history = model.fit(x, labels, batch_size=8, epochs=4, shuffle=False, verbose=0)
        histories.append(history.history["loss"])
    assert_close(histories[0], histories[1])
    assert histories[0][-1] < histories[0][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        PrototypicalLoss,
        ProtoTripletLoss,
        lambda shots: ICNNLoss(num_neighbors=8),
        lambda shots: all_three(shots, 8),
    ],
    ids=["prototypical", "proto_triplet", "icnn", "all_three"],
)
def test_learns_to_tell_digits_apart(make):
    """Trains from a sampler, of whose batches a graph does not know the size; other images test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = digits.data.astype("float32") / 16, digits.target
    half, shots = len(x) // 2, 3
    train = EpisodeSampler(x[:half], y[:half], 5, shots, 5, episodes=30, seed=0)
    test = EpisodeSampler(x[half:], y[half:], 5, shots, 5, episodes=40, seed=1)
    keras.utils.set_random_seed(0)
    # An untrained map to few numbers, of which digits can be told apart only so far.
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(6)])
    metric = PrototypicalAccuracy(shots)
    model.compile(keras.optimizers.Adam(0.01), make(shots), metrics=[metric])
    before = model.evaluate(test, verbose=0, return_dict=True)["prototypical_accuracy"]
    history = model.fit(train, epochs=4, verbose=0).history
    after = model.evaluate(test, verbose=0, return_dict=True)["prototypical_accuracy"]
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert after > before + 0.1


def test_a_subclass_needs_row_losses_alone():
    class Nearness(EpisodeLoss):
        def row_losses(self, rows):
            return ops.sum(ops.square(rows.features - rows.prototypes), axis=-1)

    labels, x = np.array([0, 1, 0, 1]), batch(4, seed=15)[1]
    found = vector(Nearness(1), labels, x)
    assert_close(found, 2 * np.sum((x - x[[0, 1, 0, 1]]) ** 2, axis=1))
    with pytest.raises(TypeError, match="Received: EpisodeLoss"):
        EpisodeLoss(1)(labels, x)


@pytest.mark.parametrize(
    ("labels", "x"),
    [
        (np.zeros(3), np.zeros((4, 2))),
        (np.zeros((4, 2)), np.zeros((4, 2))),
        (np.zeros(4), np.zeros((4, 2, 2))),
        (np.zeros(4), np.zeros(4)),
    ],
)
@every_loss
def test_shapes_that_do_not_fit(make, labels, x):
    with pytest.raises(ValueError, match=r"`y_true`.*Received: y_true of shape"):
        make(2)(labels, x)


@pytest.mark.parametrize(
    ("cls", "kwargs", "name"),
    [
        (PrototypicalLoss, {"shots": 0}, "shots"),
        (PrototypicalLoss, {"shots": 1.5}, "shots"),
        (PrototypicalLoss, {"shots": 1, "temperature": 0.0}, "temperature"),
        (PrototypicalLoss, {"shots": 1, "temperature": "1"}, "temperature"),
        (ProtoTripletLoss, {"shots": True}, "shots"),
        (ProtoTripletLoss, {"shots": 1, "margin": float("nan")}, "margin"),
    ],
)
def test_bad_arguments(cls, kwargs, name):
    with pytest.raises(ValueError, match=f"`{name}` must .*Received: {name}="):
        cls(**kwargs)
