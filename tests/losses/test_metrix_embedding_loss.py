import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo import losses
from keras_zoo.losses import metrix_embedding_loss
from tests.harness import BACKEND, assert_close, golden, gradient, numeric_gradient, to_numpy

LOSSES = {
    "contrastive": losses.ContrastiveLoss(),
    "ms": losses.MultiSimilarityLoss(),
    "binomial": losses.BinomialDevianceLoss(),
    "lifted": losses.LiftedStructureLoss(),
}
PAIRINGS = {"pn": "positive_negative", "an": "anchor_negative"}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_pairing = pytest.mark.parametrize("pairing", PAIRINGS.values())
TIGHT = BACKEND == "tensorflow"
LABELS = np.array([0, 1, 0, 1, 2, 0, 2, 1, 3])
module = importlib.import_module("keras_zoo.losses.metrix_embedding_loss")


def embeddings(n=9, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype("float32")


def vector(*args, **kwargs):
    return to_numpy(metrix_embedding_loss(*args, **kwargs))


def total(labels, x, upstream, *args, **kwargs):
    """Value and gradient of a weighted sum of the losses."""

    def fn(x):
        return ops.sum(ops.multiply(metrix_embedding_loss(labels, x, *args, **kwargs), upstream))

    return gradient(fn, x)


def naive(loss, labels, x, lam, pairing, renormalize=True):
    """Every mixed vector built, normalised and met, in plain loops."""
    f = [np.asarray(row, "float64") / np.linalg.norm(row) for row in np.asarray(x, "float64")]
    n = len(f)
    result = []
    for a in range(n):
        pos = [j for j in range(n) if j != a and labels[j] == labels[a]]
        neg = [j for j in range(n) if labels[j] != labels[a]]
        if isinstance(loss, losses.MultiSimilarityLoss) and loss.epsilon is not None:
            pos = [p for p in pos if f[a] @ f[p] < 1 - 1e-5]
            lowest = min((f[a] @ f[p] for p in pos), default=np.inf)
            highest = max((f[a] @ f[k] for k in neg), default=-np.inf)
            pos = [p for p in pos if f[a] @ f[p] - loss.epsilon < highest]
            neg = [k for k in neg if f[a] @ f[k] + loss.epsilon > lowest]
        s = []
        for p in pos if pairing == "positive_negative" else [a]:
            for k in neg:
                v = lam * f[p] + (1 - lam) * f[k]
                s.append(f[a] @ v / (np.linalg.norm(v) if renormalize else 1))
        result.append(naive_soft(loss, s, lam) if s else 0.0)
    return np.array(result)


def naive_soft(loss, s, y):
    if isinstance(loss, losses.ContrastiveLoss):
        terms = [-y * v + (1 - y) * max(0.0, v - loss.margin) for v in s]
        return sum(terms) / (len(s) if loss.pair_reduction == "mean" else 1)
    if isinstance(loss, losses.BinomialDevianceLoss):
        pull = sum(np.logaddexp(0, loss.alpha * (loss.base - v)) for v in s)
        push = sum(np.logaddexp(0, loss.beta * (v - loss.base)) for v in s)
        return (y * pull + (1 - y) * push) / len(s)
    if isinstance(loss, losses.LiftedStructureLoss):
        pull, push = sum(y * np.exp(loss.margin - v) for v in s), sum(np.exp(v) for v in s)
        push = (1 - y) * push
        return max(0.0, np.log(pull) + np.log(push)) if pull > 0 and push > 0 else 0.0
    pull = sum(y * np.exp(-loss.alpha * (v - loss.base)) for v in s)
    push = sum((1 - y) * np.exp(loss.beta * (v - loss.base)) for v in s)
    return np.log1p(pull) / loss.alpha + np.log1p(push) / loss.beta


@every_loss
@pytest.mark.parametrize("code", PAIRINGS)
def test_matches_independent_computation(name, code):
    g = golden("metrix", "embedding_mix")
    arguments = (LOSSES[name], float(g["lam"]), PAIRINGS[code], bool(g["renormalize"]))
    assert_close(vector(g["labels"], g["embeddings"], *arguments), g[f"{name}_{code}_vector"])
    upstream = np.full(len(g["labels"]), 1 / len(g["labels"]), "float32")
    _, grad = total(g["labels"], g["embeddings"], upstream, *arguments)
    assert_close(grad, g[f"{name}_{code}_grad"], rtol=1e-4, atol=1e-6)


@every_loss
@every_pairing
@pytest.mark.parametrize("renormalize", [True, False])
def test_matches_plain_loops(name, pairing, renormalize):
    x = embeddings()
    for lam in (0.0, 0.4, 1.0):
        expected = naive(LOSSES[name], LABELS, x, lam, pairing, renormalize)
        found = vector(LABELS, x, LOSSES[name], lam, pairing, renormalize)
        assert_close(found, expected, rtol=2e-5)


def test_other_parameters_and_labels_in_a_column():
    loss = losses.MultiSimilarityLoss(3.0, 10.0, 0.2, None, normalize=False)
    x = 3 * embeddings(seed=1)  # normalised in here all the same
    for pairing in PAIRINGS.values():
        found = vector(LABELS[:, None], x, loss, np.float32(0.7), pairing)
        assert_close(found, naive(loss, LABELS, x, 0.7, pairing), rtol=2e-5)


@every_loss
@every_pairing
def test_gradient_matches_differences(name, pairing):
    x, upstream = embeddings(seed=2), np.linspace(0.5, 2, 9).astype("float32")
    if TIGHT:
        x = x.astype("float64")
        upstream = upstream.astype("float64")
    loss = LOSSES[name]
    _, grad = total(LABELS, x, upstream, loss, 0.6, pairing)
    # Mining is a constant to the gradient, and stays the same within the differences.
    expected = numeric_gradient(lambda x: naive(loss, LABELS, x, 0.6, pairing) @ upstream, x)
    tolerance = {"rtol": 1e-6, "atol": 1e-7} if TIGHT else {"rtol": 1e-3, "atol": 2e-4}
    assert_close(grad, expected, **tolerance)


@pytest.mark.parametrize("name", ["ms", "contrastive"])
@every_pairing
def test_blocks_change_nothing(name, pairing):
    """Nine anchors in blocks of four: the last block is not full."""
    x, upstream = embeddings(seed=3), np.random.default_rng(3).normal(size=9).astype("float32")
    value, grad = total(LABELS, x, upstream, LOSSES[name], 0.3, pairing)
    for chunk_size in (4, 20):
        chunked = total(LABELS, x, upstream, LOSSES[name], 0.3, pairing, chunk_size=chunk_size)
        assert_close(chunked[0], value, rtol=2e-6, atol=2e-6)
        assert_close(chunked[1], grad, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("block", "kwargs", "rows"),
    [(1, {}, 1), (10**6, {"chunk_size": 2}, 2), (10**6, {}, 9)],
)
def test_no_more_than_a_block_at_a_time(block, kwargs, rows, monkeypatch):
    """The similarities of all anchors to all mixed examples are never formed without need."""
    seen = []

    class Spy(losses.MultiSimilarityLoss):
        def soft_pair_loss(self, S, label, mask=None):
            seen.append(tuple(S.shape))
            return super().soft_pair_loss(S, label, mask)

    monkeypatch.setattr(module, "BLOCK", block)
    total(LABELS, embeddings(), np.ones(9, "float32"), Spy(), 0.3, **kwargs)
    assert set(seen) == {(rows, 81)}


def test_anchors_with_negatives_follow_the_chunks_of_the_loss():
    seen = []

    class Spy(losses.ContrastiveLoss):
        def soft_pair_loss(self, S, label, mask=None):
            seen.append(tuple(S.shape))
            return super().soft_pair_loss(S, label, mask)

    vector(LABELS, embeddings(), Spy(chunk_size=4), 0.3, "anchor_negative")
    assert set(seen) == {(4, 9)}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere a batch has a known size")
@pytest.mark.parametrize("n", [2, 9])
@every_pairing
def test_an_unknown_batch_size(n, pairing, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(module, "BLOCK", 3 * 81)
    loss, x, labels = LOSSES["ms"], embeddings(n, seed=4), LABELS[:n]
    expected = total(labels, x, np.ones(n, "float32"), loss, 0.3, pairing, chunk_size=100)

    @tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec([None, 4])])
    def compute(labels, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = ops.sum(metrix_embedding_loss(labels, x, loss, 0.3, pairing))
        return value, tape.gradient(value, x)

    value, grad = compute(labels.astype("float32"), x)
    assert_close(value, expected[0])
    assert_close(grad, expected[1], atol=2e-6)


@every_loss
@every_pairing
def test_one_class(name, pairing):
    value, grad = total(
        np.full(9, 3), embeddings(seed=5), np.ones(9, "float32"), LOSSES[name], 0.4, pairing
    )
    assert value == 0
    assert (grad == 0).all()


def test_one_example():
    value, grad = total([0], embeddings(1, seed=5), np.ones(1, "float32"), LOSSES["ms"], 0.4)
    assert value == 0
    assert (grad == 0).all()


@every_loss
def test_all_distinct(name):
    """No positives: nothing with "positive_negative"; else each anchor is its own."""
    x, labels, loss = embeddings(seed=6), np.arange(9), LOSSES[name]
    if name == "ms":  # Its mining needs a positive.
        assert (vector(labels, x, loss, 0.4, "anchor_negative") == 0).all()
        loss = losses.MultiSimilarityLoss(epsilon=None)
    assert (vector(labels, x, loss, 0.4) == 0).all()
    expected = naive(loss, labels, x, 0.4, "anchor_negative")
    assert_close(vector(labels, x, loss, 0.4, "anchor_negative"), expected, rtol=2e-5)


def test_empty_batch():
    for pairing in PAIRINGS.values():
        found = vector(np.zeros((0,)), np.zeros((0, 4)), LOSSES["ms"], 0.4, pairing)
        assert found.shape == (0,)


@pytest.mark.slow
@every_loss
@every_pairing
def test_finite_at_the_extremes(name, pairing):
    base, ones = embeddings(seed=7), np.ones(9, "float32")
    zero_row, copies, opposite = base.copy(), base.copy(), np.zeros_like(base)
    zero_row[1] = 0
    copies[1] = copies[2] = copies[0]
    opposite[:, 0] = [1, -1, 1, -1, 1, -1, 1, -1, 1]
    half = np.full_like(base, 65504.0)
    for x in (zero_row, copies, opposite, half, base * 1e-20, base * 1e25, np.zeros_like(base)):
        for lam in (0.0, 0.5, 1.0):
            value, grad = total(LABELS, x, ones, LOSSES[name], lam, pairing)
            assert np.isfinite(value)
            assert np.isfinite(grad).all()


def test_opposite_halves_vanish():
    """Half of a vector and half of its opposite: similarity 0, not 0 / 0."""
    x = np.zeros((9, 4), "float32")
    x[:, 0], x[2, 1], x[1, 0], x[1, 1] = 1, 0.2, -1, -0.2
    found = vector([0, 1, 0, 2, 2, 2, 2, 2, 2], x, LOSSES["contrastive"], 0.5)
    rest = (
        0.5
        * (1 + x[2] / np.linalg.norm(x[2]))[0]
        / np.linalg.norm(0.5 * (np.eye(4)[0] + x[2] / np.linalg.norm(x[2])))
    )
    # six mixtures with copies of the anchor, and the one that vanishes
    assert_close(found[0], 6 / 7 * (-0.5 * rest + 0.5 * (rest - 0.5)), atol=1e-3)


@every_pairing
def test_nan_in_nan_out(pairing):
    x = embeddings(seed=8)
    x[2, 1] = np.nan
    assert np.isnan(vector(LABELS, x, LOSSES["ms"], 0.4, pairing)).all()


def test_lambda_is_a_constant_and_may_be_a_tensor():
    x = ops.convert_to_tensor(embeddings(seed=9))
    plain = vector(LABELS, x, LOSSES["ms"], 0.25)
    assert_close(vector(LABELS, x, LOSSES["ms"], ops.convert_to_tensor(0.25)), plain)
    _, grad = gradient(
        lambda lam: ops.sum(metrix_embedding_loss(LABELS, x, LOSSES["ms"], lam)) + 0 * lam,
        np.float32(0.25),
    )
    assert grad == 0


def test_half_precision_computes_in_float32():
    x = embeddings(seed=10).astype("float16")
    expected = vector(LABELS, x.astype("float32"), LOSSES["ms"], 0.4)
    found = metrix_embedding_loss(LABELS, ops.cast(x, "float16"), LOSSES["ms"], 0.4)
    assert_close(found, expected)


@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_order_names_and_scale_do_not_matter(seed, lam):
    rng = np.random.default_rng(seed)
    labels, x = rng.integers(0, 3, 9), rng.normal(size=(9, 4)).astype("float32")
    order = rng.permutation(9)
    for pairing in PAIRINGS.values():
        found = vector(labels, x, LOSSES["binomial"], lam, pairing)
        changed = vector(7 - 3 * labels[order], 4 * x[order], LOSSES["binomial"], lam, pairing)
        assert_close(changed, found[order], rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"loss": losses.TripletLoss()}, "`loss` must be a pair loss with `soft_pair_loss`"),
        ({"loss": losses.NPairLoss()}, "`loss` must be a pair loss with `soft_pair_loss`"),
        ({"loss": losses.PairBasedLoss()}, "`loss` must be a pair loss with `soft_pair_loss`"),
        ({"loss": losses.MultiSimilarityLoss}, "`loss` must be a pair loss"),
        ({"loss": "ms"}, "`loss` must be a pair loss"),
        ({"lam": -0.1}, "`lam` must be in"),
        ({"lam": 1.1}, "`lam` must be in"),
        ({"lam": float("nan")}, "`lam` must be"),
        ({"lam": True}, "`lam` must be"),
        ({"lam": None}, "`lam` must be"),
        ({"lam": np.zeros(3)}, "`lam` must be"),
        ({"pairing": "random"}, "`pairing` must be"),
        ({"renormalize": 1}, "`renormalize` must be"),
        ({"chunk_size": 0}, "`chunk_size` must be"),
        ({"y_true": np.zeros(3)}, "`y_true`"),
    ],
)
def test_bad_arguments(kwargs, message):
    arguments = {"y_true": LABELS, "y_pred": embeddings(), "loss": LOSSES["ms"], "lam": 0.4}
    with pytest.raises(ValueError, match=f"(?s){message}.*Received: "):
        metrix_embedding_loss(**{**arguments, **kwargs})
