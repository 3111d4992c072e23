"""What holds for all pair losses, and the base that users derive from."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo import losses
from keras_zoo.losses import PairBasedLoss
from keras_zoo.ops import input_gradient
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
LOSSES = {
    "contrastive": losses.ContrastiveLoss,
    "contrastive_sum": lambda **kw: losses.ContrastiveLoss(0.1, "sum", **kw),
    "triplet": losses.TripletLoss,
    "lifted": losses.LiftedStructureLoss,
    "binomial": losses.BinomialDevianceLoss,
    "npair": losses.NPairLoss,
    "ms": losses.MultiSimilarityLoss,
    "ms_unmined": lambda **kw: losses.MultiSimilarityLoss(3.0, 20.0, 0.3, None, **kw),
}
every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())
# TensorFlow computes in float64; torch's matmul does not, nor does JAX unless it is told to.
TIGHT = BACKEND == "tensorflow"


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def naive(loss, labels, x):
    """Per-anchor losses from the formulas, in plain loops."""
    x = np.asarray(x, "float64")
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    result = []
    for i in range(len(x)):
        s = [float(x[i] @ x[j]) for j in range(len(x))]
        pos = [s[j] for j in range(len(x)) if j != i and labels[j] == labels[i]]
        neg = [s[j] for j in range(len(x)) if labels[j] != labels[i]]
        result.append(naive_row(loss, pos, neg))
    return np.array(result)


def naive_row(loss, pos, neg):
    def mean(values):
        return sum(values) / max(len(values), 1)

    if isinstance(loss, losses.ContrastiveLoss):
        terms = [-p for p in pos], [max(0.0, n - loss.margin) for n in neg]
        add = mean if loss.pair_reduction == "mean" else sum
        return add(terms[0]) + add(terms[1])
    if isinstance(loss, losses.BinomialDevianceLoss):
        pull = mean([softplus(loss.alpha * (loss.base - p)) for p in pos])
        return pull + mean([softplus(loss.beta * (n - loss.base)) for n in neg])
    if isinstance(loss, losses.MultiSimilarityLoss):
        return naive_multi_similarity(loss, pos, neg)
    if not pos or not neg:
        return 0.0
    if isinstance(loss, losses.TripletLoss):
        return mean([max(0.0, n - p + loss.margin) for p in pos for n in neg])
    if isinstance(loss, losses.LiftedStructureLoss):
        pull = math.log(sum(math.exp(loss.margin - p) for p in pos))
        return max(0.0, pull + math.log(sum(math.exp(n) for n in neg)))
    return mean([math.log(1 + sum(math.exp(n - p) for n in neg)) for p in pos])


def naive_multi_similarity(loss, pos, neg):
    pos = [p for p in pos if p < 1 - 1e-5]
    if loss.epsilon is not None:
        if not pos or not neg:
            return 0.0
        lowest, highest = min(pos), max(neg)
        pos = [p for p in pos if p - loss.epsilon < highest]
        neg = [n for n in neg if n + loss.epsilon > lowest]
        if not pos or not neg:
            return 0.0
    pull = math.log(1 + sum(math.exp(-loss.alpha * (p - loss.base)) for p in pos))
    push = math.log(1 + sum(math.exp(loss.beta * (n - loss.base)) for n in neg))
    return pull / loss.alpha + push / loss.beta


def batch(n=10, d=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n), rng.normal(size=(n, d)).astype("float32")


def vector(loss, labels, x):
    return to_numpy(loss.call(ops.convert_to_tensor(labels), ops.convert_to_tensor(x)))


def norm_of_zero_rows_left_alone(x):
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


@pytest.mark.parametrize("name", ["contrastive", "triplet", "lifted", "binomial", "npair"])
def test_matches_independent_computation(name):
    g = golden("multi-similarity", "pair_losses")
    loss = LOSSES[name]()
    value, grad = gradient(lambda x: loss(g["labels"], x), g["embeddings"])
    assert_close(value, g[f"{name}_loss"])
    assert_close(vector(loss, g["labels"], g["embeddings"]), g[f"{name}_loss_vector"])
    assert_close(grad, g[f"{name}_grad"], rtol=1e-4, atol=1e-6)
    weights = loss.pair_weights(g["labels"], g["embeddings"])
    assert_close(weights, g[f"{name}_weights"], rtol=2e-5)


@every_loss
def test_matches_plain_loops(make):
    loss = make()
    for seed in range(3):
        labels, x = batch(seed=seed)
        labels[0] = 9  # a class of one
        assert_close(vector(loss, labels, x), naive(loss, labels, x), rtol=2e-5)
        assert_close(loss(labels, x), naive(loss, labels, x).mean(), rtol=2e-5)


@every_loss
def test_gradient_matches_differences(make):
    loss = make(dtype="float64")
    labels, x = batch(7, 3, seed=4)
    if TIGHT:
        x = x.astype("float64")
    _, grad = gradient(lambda x: ops.sum(loss.call(ops.convert_to_tensor(labels), x)), x)
    expected = numeric_gradient(lambda x: naive(loss, labels, x).sum(), x)
    tolerance = {"rtol": 1e-6, "atol": 1e-7} if TIGHT else {"rtol": 1e-3, "atol": 1e-4}
    assert_close(grad, expected, **tolerance)


@every_loss
def test_closed_form_weights_are_the_derivative(make):
    loss = make()
    labels, x = batch(seed=5)
    S, pos, neg = loss.similarities(labels, x)
    pos, neg = loss.select_pairs(S, pos, neg)
    for rows in (slice(None), slice(2, 5)):  # square, and a block of rows
        block = S[rows], pos[rows], neg[rows]
        closed = to_numpy(loss.weights_from_similarities(*block))
        assert_close(closed, PairBasedLoss.weights_from_similarities(loss, *block), rtol=1e-4)
        assert (closed >= 0).all()
        assert (closed[~to_numpy(ops.logical_or(block[1], block[2]))] == 0).all()
        assert_close(loss.pair_loss(*block), loss.pair_loss(S, pos, neg)[rows])
    assert (np.diag(to_numpy(loss.pair_weights(labels, x))) == 0).all()


def test_a_triplet_on_the_margin_is_not_violated():
    """Exact ties, on either side of the positive in the row; the last negative is beyond."""
    S = np.array([[0.25, 0.5, 0.25, 0.75, 0.375]], "float32")
    pos = np.array([[False, True, False, True, False]])
    for margin, pulls, pushes in ((0.25, [1, 0], [0, 0, 1]), (0.5, [3, 1], [1, 1, 2])):
        loss = losses.TripletLoss(margin)
        weights = to_numpy(loss.weights_from_similarities(S, pos, ~pos))
        assert_close(weights[pos] * 6, pulls)
        assert_close(weights[~pos] * 6, pushes)
        value, grad = gradient(lambda S, loss=loss: loss.pair_loss(S, pos, ~pos)[0], S)
        assert_close(value, naive_row(loss, S[pos].tolist(), S[~pos].tolist()))
        assert_close(grad, np.where(pos, -weights, weights))


@every_loss
def test_weighted_pairs_have_the_gradient_of_the_loss(make):
    loss = make()
    labels, x = batch(seed=6)
    w = to_numpy(loss.pair_weights(labels, x))
    sign = np.where(labels[:, None] == labels[None, :], -1.0, 1.0)

    def surrogate(x):
        S = loss.similarities(labels, x)[0]
        return ops.mean(ops.sum(ops.multiply(S, (w * sign).astype("float32")), axis=1))

    _, expected = gradient(surrogate, x)
    _, grad = gradient(lambda x: loss(labels, x), x)
    assert_close(grad, expected, rtol=1e-4)


@every_loss
@pytest.mark.parametrize(
    "labels", [[3] * 6, list(range(6)), [0]], ids=["one class", "all distinct", "one example"]
)
def test_no_pairs(make, labels):
    loss = make()
    x = batch(len(labels), seed=7)[1]
    value, grad = gradient(lambda x: loss(labels, x), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    assert_close(value, naive(loss, labels, x).mean(), rtol=2e-5)
    one_sided = isinstance(loss, (losses.ContrastiveLoss, losses.BinomialDevianceLoss))
    one_sided |= isinstance(loss, losses.MultiSimilarityLoss) and loss.epsilon is None
    if len(labels) == 1 or not one_sided:
        assert value == 0
        assert (grad == 0).all()


@every_loss
def test_empty_batch(make):
    for chunk_size in (None, 3):
        loss = make(reduction=None, chunk_size=chunk_size)
        assert to_numpy(loss(np.zeros((0,)), np.zeros((0, 4)))).shape == (0,)


@pytest.mark.slow
@every_loss
def test_finite_at_the_extremes(make):
    labels = np.array([0, 0, 1, 1, 2, 0])
    base = batch(6, seed=8)[1]
    zero_row, copies = base.copy(), base.copy()
    zero_row[1] = 0
    copies[1] = copies[2] = copies[0]
    opposite = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0], [1, 0], [-1, 0]], "float32")
    half = np.full((6, 4), 65504.0, "float32")
    loss = make()
    for x in (zero_row, copies, opposite, half, base * 1e-20, base * 1e25, np.zeros_like(base)):
        value, grad = gradient(lambda x: loss(labels, x), x)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
    raw = make(normalize=False)
    value, grad = gradient(lambda x: raw(labels, x), 100 * base)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


@every_loss
def test_nan_in_nan_out(make):
    labels, x = batch(seed=9)
    x[2, 1] = np.nan
    assert np.isnan(vector(make(), labels, x)).all()


@every_loss
def test_labels_in_a_column(make):
    labels, x = batch(seed=10)
    loss = make()
    assert_close(loss(labels[:, None], x), loss(labels, x), rtol=0, atol=0)
    assert_close(loss.call(labels.astype("int64"), x), loss.call(labels.astype("float32"), x))


def test_half_precision_computes_in_float32():
    labels, x = batch(seed=11)
    x = x.astype("float16")
    expected = to_numpy(losses.MultiSimilarityLoss()(labels, x.astype("float32")))
    for dtype in ("float16", "bfloat16"):
        value = losses.MultiSimilarityLoss(dtype=dtype)(labels, x)
        assert keras.backend.standardize_dtype(value.dtype) == dtype
        assert abs(float(ops.cast(value, "float32")) - expected) < 0.02


@pytest.mark.slow
@every_loss
def test_chunks_change_nothing(make):
    labels, x = batch(11, seed=12)
    upstream = RNG.normal(size=11).astype("float32")

    def total(loss):
        return gradient(lambda x: ops.sum(ops.multiply(loss.call(labels, x), upstream)), x)

    value, grad = total(make())
    for chunk_size in (4, 50):
        chunked_value, chunked_grad = total(make(chunk_size=chunk_size))
        assert_close(chunked_value, value, rtol=2e-6, atol=2e-6)
        assert_close(chunked_grad, grad, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("labels", [[3] * 6, list(range(6)), [0]])
def test_no_pairs_in_chunks(labels):
    loss = losses.MultiSimilarityLoss(chunk_size=4)
    value, grad = gradient(lambda x: loss(labels, x), batch(len(labels), seed=7)[1])
    assert value == 0
    assert (grad == 0).all()


def test_nan_in_chunks():
    labels, x = batch(seed=9)
    x[2, 1] = np.nan
    assert np.isnan(vector(losses.MultiSimilarityLoss(chunk_size=3), labels, x)).all()


def test_second_derivatives_pass_through_chunks():
    """A penalty on the gradient: its own gradient is the same in blocks."""
    labels, x = batch(9, seed=17)

    def penalty(loss):
        # the batch as one example of `input_gradient`
        def fn(x):
            return ops.reshape(loss(labels, ops.reshape(x, (9, 4))), (1,))

        def squared(x):
            return ops.sum(ops.square(input_gradient(fn, x, create_graph=True)))

        return gradient(squared, x.reshape(1, -1))

    value, grad = penalty(losses.BinomialDevianceLoss(2.0, 5.0))
    chunked_value, chunked_grad = penalty(losses.BinomialDevianceLoss(2.0, 5.0, chunk_size=4))
    assert_close(chunked_value, value)
    assert np.abs(grad).max() > 1e-3
    assert_close(chunked_grad, grad, rtol=1e-4)


@pytest.mark.parametrize("n", [3, 13])
def test_chunks_with_an_unknown_batch_size(n):
    labels, x = batch(n, seed=13)
    whole, chunked = (losses.MultiSimilarityLoss(chunk_size=c) for c in (None, 4))
    expected = gradient(lambda x: whole(labels, x), x)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec([None, 4])])
        def compute(labels, x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = chunked(labels, x)
            return value, tape.gradient(value, x)

        value, grad = compute(labels.astype("float32"), x)
    else:
        value, grad = gradient(lambda x: chunked(labels, x), x)
    assert_close(value, expected[0], rtol=2e-6)
    assert_close(grad, expected[1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [pytest.param(None, marks=pytest.mark.codegen), 3])
def test_fit_compiled(chunk_size):
    labels, x = batch(12, d=5, seed=14)
    histories = []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
        loss = losses.MultiSimilarityLoss(chunk_size=chunk_size)
        model.compile(keras.optimizers.SGD(0.1), loss=loss, jit_compile=jit_compile)
        history = model.fit(x, labels, batch_size=6, epochs=4, shuffle=False, verbose=0)
        histories.append(history.history["loss"])
    assert_close(histories[0], histories[1])
    assert histories[0][-1] < histories[0][0]


def test_chunks_hold_no_square_matrix():
    """Every block that a loss sees has `chunk_size` rows, forward and backward."""
    seen = []

    class Spy(losses.MultiSimilarityLoss):
        def pair_loss(self, S, pos, neg):
            seen.append(tuple(S.shape))
            return super().pair_loss(S, pos, neg)

    labels, x = batch(10, seed=15)
    gradient(lambda x: Spy(chunk_size=4)(labels, x), x)
    assert set(seen) == {(4, 10)}


class Repulsion(PairBasedLoss):
    """A user's loss: pair_loss alone, its gradient of either sign."""

    def pair_loss(self, S, pos, neg):
        return ops.sum(ops.where(neg, ops.square(S), ops.sin(S) * ops.cast(pos, S.dtype)), axis=-1)


def test_a_subclass_needs_pair_loss_alone():
    labels, x = batch(9, seed=16)
    loss, chunked = Repulsion(), Repulsion(chunk_size=4)
    S, pos, neg = (to_numpy(t) for t in loss.similarities(labels, x))
    expected = np.where(neg, np.abs(2 * S), np.where(pos, np.abs(np.cos(S)), 0))
    assert_close(loss.pair_weights(labels, x), expected)
    value, grad = gradient(lambda x: loss(labels, x), x)
    chunked_value, chunked_grad = gradient(lambda x: chunked(labels, x), x)
    assert_close(chunked_value, value)
    assert_close(chunked_grad, grad)
    sums = np.where(neg, S**2, np.where(pos, np.sin(S), 0)).sum(1)
    assert_close(value, sums.mean())


def test_the_base_alone_says_what_is_missing():
    labels, x = batch()
    with pytest.raises(TypeError, match=r"Received: PairBasedLoss"):
        PairBasedLoss()(labels, x)
    for loss in (PairBasedLoss(), losses.TripletLoss(), losses.NPairLoss()):
        with pytest.raises(TypeError, match=f"Received: {type(loss).__name__}"):
            loss.soft_pair_loss(x, x)


def test_similarities():
    labels, x = batch(6)
    S, pos, neg = (to_numpy(t) for t in Repulsion().similarities(labels[:, None], x))
    unit = norm_of_zero_rows_left_alone(x)
    assert_close(S, unit @ unit.T)
    same = labels[:, None] == labels[None, :]
    assert (pos == (same & ~np.eye(6, dtype=bool))).all()
    assert (neg == ~same).all()
    raw = to_numpy(Repulsion(normalize=False).similarities(labels, x)[0])
    assert_close(raw, x @ x.T)


@given(st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_order_names_and_scale_do_not_matter(classes, seed):
    n = 8
    loss = losses.MultiSimilarityLoss(reduction=None)
    rng = np.random.default_rng(seed)
    labels, x = rng.integers(0, classes, n), rng.normal(size=(n, 3)).astype("float32")
    expected = to_numpy(loss(labels, x))
    order = rng.permutation(n)
    changed = to_numpy(loss(7 - 3 * labels[order], 4 * x[order]))
    assert_close(changed, expected[order], rtol=1e-4, atol=3e-5)
    assert (expected >= 0).all()
    assert_close(expected, naive(loss, labels, x), rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize(
    ("labels", "x"),
    [
        (np.zeros(3), np.zeros((4, 2))),
        (np.zeros((4, 2)), np.zeros((4, 2))),
        (np.zeros(4), np.zeros((4, 2, 2))),
        (np.zeros(4), np.zeros(4)),
    ],
)
def test_shapes_that_do_not_fit(labels, x):
    with pytest.raises(ValueError, match=r"`y_true`.*Received: y_true of shape"):
        losses.ContrastiveLoss()(labels, x)


@pytest.mark.parametrize(
    ("cls", "kwargs", "name"),
    [
        (PairBasedLoss, {"normalize": "yes"}, "normalize"),
        (PairBasedLoss, {"chunk_size": 0}, "chunk_size"),
        (PairBasedLoss, {"chunk_size": 2.5}, "chunk_size"),
        (losses.ContrastiveLoss, {"margin": None}, "margin"),
        (losses.ContrastiveLoss, {"pair_reduction": "max"}, "pair_reduction"),
        (losses.TripletLoss, {"margin": float("nan")}, "margin"),
        (losses.LiftedStructureLoss, {"margin": "1"}, "margin"),
        (losses.BinomialDevianceLoss, {"alpha": 0}, "alpha"),
        (losses.BinomialDevianceLoss, {"beta": -1.0}, "beta"),
        (losses.BinomialDevianceLoss, {"base": float("inf")}, "base"),
        (losses.MultiSimilarityLoss, {"alpha": -2.0}, "alpha"),
        (losses.MultiSimilarityLoss, {"beta": True}, "beta"),
        (losses.MultiSimilarityLoss, {"base": "a"}, "base"),
        (losses.MultiSimilarityLoss, {"epsilon": -0.1}, "epsilon"),
    ],
)
def test_bad_arguments(cls, kwargs, name):
    with pytest.raises(ValueError, match=f"`{name}` must .*Received: {name}="):
        cls(**kwargs)


@every_loss
def test_config(make):
    loss = make(chunk_size=7, normalize=False, dtype="float64", reduction="sum", name="mine")
    again = type(loss).from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    assert (again.chunk_size, again.normalize, again.name) == (7, False, "mine")
