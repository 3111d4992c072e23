import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo.ops import icnn_score
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

# TensorFlow computes in float64; torch's matmul does not, nor does JAX unless it is told to.
TIGHT = BACKEND == "tensorflow"


def naive(labels, x, k=4, num_neighbors=None):
    """The score from its definition, in plain loops."""
    n, eps = len(labels), 1e-7
    few = k + 2 >= n
    k = n - 2 if few else k
    m = min(k + 1 if num_neighbors is None else num_neighbors, n - 1)
    rows = []
    for i in range(n):
        others = [
            (math.sqrt(sum((x[i] - x[j]) ** 2) + 1e-6), labels[j] == labels[i])
            for j in range(n)
            if j != i
        ]
        rows.append(sorted(others, key=lambda pair: pair[0])[:m])
    largest = max([d for row in rows for d, same in row[:k] if not same], default=0.0)
    inner, outer, shares = [], [], []
    for row in rows:
        nearest_other = min([d for d, same in row if not same], default=math.inf)
        ratios = [d / (nearest_other + eps) for d, _ in row[:k]]
        ratios = [r / max(1.0, *ratios) for r in ratios]
        own = [r for r, (_, same) in zip(ratios, row[:k], strict=True) if same]
        far = [d / (largest + eps) for d, same in row[:k] if not same]
        if own:
            inner.append(sum(own) / (len(own) + eps))
        if far:
            outer.append(sum(far) / (len(far) + eps))
        shares.append(len(own) / k)
    a = 1 - sum(inner) / (len(inner) + eps)
    b = sum(outer) / (len(outer) + eps) if outer else 1.0
    gamma = 1.0 if few else sum(shares) / n
    return ((a + b) / 2 + gamma) / 2


def batch(n=12, d=3, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n), rng.normal(size=(n, d)).astype("float32")


def groups(gap, rows=5, classes=3, seed=0):
    """Classes in clumps, `gap` apart."""
    labels = np.repeat(np.arange(classes), rows)
    x = np.random.default_rng(seed).normal(size=(len(labels), 2))
    x[:, 0] += gap * labels
    return labels, x.astype("float32")


@pytest.mark.parametrize("name", ["episode_5w1s", "episode_4w3s", "icnn_default_neighbors"])
def test_matches_official_code(name):
    g = golden("susana-distancia", name)
    m = int(g["num_neighbors"])
    found = icnn_score(g["labels"], g["embeddings"], int(g["k"]), None if m < 0 else m)
    assert_close(-np.log(to_numpy(found)), g["icnn_loss"].astype("float32"))
    x = g["embeddings"].astype("float64")
    assert naive(g["labels"], x, int(g["k"]), None if m < 0 else m) == pytest.approx(
        math.exp(-g["icnn_loss"]),
        rel=1e-7,  # the digits that the official code's float32 constants leave
    )


@pytest.mark.parametrize(
    ("n", "k", "m"),
    # Few rows: k becomes 2, 3; more neighbours than rows; one; all others.
    [(4, 4, None), (5, 4, 9), (7, 4, None), (12, 1, 1), (12, 4, 4), (12, 4, 40), (13, 3, 6)],
)
def test_matches_plain_loops(n, k, m):
    for seed in range(3):
        labels, x = batch(n, seed=seed)
        assert_close(icnn_score(labels, x, k, m), naive(labels, x.astype("float64"), k, m))


@pytest.mark.parametrize(("n", "m"), [(5, None), (12, None), (12, 7)])
def test_gradient_matches_differences(n, m):
    labels, x = batch(n, seed=n)
    expected = numeric_gradient(lambda x: naive(labels, x, 4, m), x)
    _, grad = gradient(lambda x: icnn_score(labels, x, 4, m), x.astype("float64") if TIGHT else x)
    tolerance = {"rtol": 1e-6, "atol": 1e-8} if TIGHT else {"rtol": 1e-4, "atol": 1e-6}
    assert_close(grad, expected, **tolerance)


def test_copies_are_neighbours_and_a_row_is_not_its_own():
    labels, x = batch(8, seed=3)
    x[1] = x[2] = x[0]
    labels[:3] = 0, 1, 0
    value, grad = gradient(lambda x: icnn_score(labels, x, 2, 5), x)
    assert np.isfinite(grad).all()
    assert_close(value, naive(labels, x.astype("float64"), 2, 5))
    # All at one place: distances of 1e-3 everywhere.
    value, grad = gradient(lambda x: icnn_score(labels, x, 2, 5), np.zeros((8, 3), "float32"))
    assert 0 < value <= 1
    assert np.isfinite(grad).all()


def test_perfect_classes_are_flat_unless_all_neighbours_are_looked_at():
    labels, x = groups(100.0)
    # k + 1 = 4 neighbours: all are of one's own class.
    value, grad = gradient(lambda x: icnn_score(labels, x, 3), x)
    assert value == 1
    assert (grad == 0).all()
    value, grad = gradient(lambda x: icnn_score(labels, x, 3, 5), x)
    assert 0.9 < value < 1
    assert (np.abs(grad).max(axis=1) > 0).all()


def test_further_apart_is_better():
    scores = [float(to_numpy(icnn_score(*groups(gap), 4, 7))) for gap in (0.0, 1.0, 3.0, 30.0)]
    assert scores == sorted(scores)
    assert scores[-1] > 1.5 * scores[0]


@pytest.mark.parametrize("labels", [[2] * 6, [0, 1, 2, 3, 4, 5]], ids=["one", "distinct"])
def test_one_class_and_classes_of_one(labels):
    _, x = batch(6, seed=5)
    value, grad = gradient(lambda x: icnn_score(labels, x, 2), x)
    assert_close(value, naive(labels, x.astype("float64"), 2))
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("scale", [1e-20, 1e4, 65504.0, 1e12])
def test_finite_at_the_extremes(scale):
    labels, x = batch(9, seed=6)
    x = np.float32(scale) * np.clip(x, -1, 1)
    value, grad = gradient(lambda x: icnn_score(labels, x, 2), x)
    assert 0 < value <= 1
    assert np.isfinite(grad).all()


def test_far_from_the_origin():
    labels, x = batch(9, seed=7)
    x = np.round(64 * x) / 64  # exact also at 1000
    assert_close(icnn_score(labels, x + 1000, 2), icnn_score(labels, x, 2), rtol=1e-6)


def test_nan_in_nan_out():
    labels, x = batch()
    x[4, 1] = np.nan
    assert np.isnan(to_numpy(icnn_score(labels, x)))


def test_half_precision_computes_in_float32():
    labels, x = batch(seed=8)
    x = x.astype("float16")
    assert_close(icnn_score(labels, x), icnn_score(labels, x.astype("float32")))


@given(st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_order_and_names_do_not_matter(classes, seed):
    rng = np.random.default_rng(seed)
    labels, x = rng.integers(0, classes, 9), rng.normal(size=(9, 3)).astype("float32")
    value = to_numpy(icnn_score(labels, x, 2, 4))
    order = rng.permutation(9)
    changed = icnn_score(7 - 3 * labels[order], x[order], 2, 4)
    assert_close(changed, value)
    assert_close(value, naive(labels, x.astype("float64"), 2, 4))
    assert 0 < value <= 1 + 1e-6


@pytest.mark.parametrize("n", [7, 12])
@pytest.mark.parametrize("m", [None, 6])
def test_unknown_batch_size(n, m):
    labels, x = batch(n, seed=9)
    value, grad = gradient(lambda x: icnn_score(labels, x, 4, m), x)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec([None, 3])])
        def compute(labels, x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                score = icnn_score(labels, x, 4, m)
            return score, tape.gradient(score, x)

        found = compute(labels.astype("float32"), x)
        assert_close(found[0], value)
        assert_close(found[1], grad)
    assert_close(icnn_score(ops.convert_to_tensor(labels[:, None]), x, 4, m), value)


def test_the_example():
    x = [[0.0], [0.1], [5.0], [5.1], [5.2]]
    assert float(to_numpy(icnn_score([0, 0, 1, 1, 1], x, 1, 3))) == pytest.approx(0.99, abs=5e-3)


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"k": 0}, "k"),
        ({"k": 2.5}, "k"),
        ({"num_neighbors": 0}, "num_neighbors"),
        ({"num_neighbors": 3}, "num_neighbors"),
        ({"labels": [0, 1, 0], "embeddings": np.zeros((3, 2))}, "embeddings"),
        ({"labels": [0, 1, 0]}, "y_true"),
    ],
)
def test_bad_input(kwargs, name):
    labels, x = batch()
    with pytest.raises(ValueError, match=f"`{name}`.*Received: "):
        icnn_score(**{"labels": labels, "embeddings": x, **kwargs})
