"""Interpolated labels, as mixup for metric learning needs them."""

import math

import numpy as np
import pytest
from keras import ops

from keras_zoo import losses
from tests.harness import assert_close, golden, gradient

LOSSES = {
    "contrastive": losses.ContrastiveLoss(0.2),
    "contrastive_sum": losses.ContrastiveLoss(0.2, "sum"),
    "binomial": losses.BinomialDevianceLoss(2.0, 10.0, 0.4),
    "lifted": losses.LiftedStructureLoss(1.5),
    "ms": losses.MultiSimilarityLoss(2.0, 20.0, 0.3),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
RNG = np.random.default_rng(0)
S = RNG.uniform(-1, 1, (5, 6)).astype("float32")
Y = RNG.uniform(0.05, 0.95, (5, 6)).astype("float32")
Y[0, :3], Y[1, :2] = 0.0, 1.0
MASK = RNG.random((5, 6)) < 0.6
MASK[4] = False


def naive_row(name, s, y):
    if not len(s):
        return 0.0
    loss = LOSSES[name]
    pairs = [(float(a), float(b)) for a, b in zip(s, y, strict=True)]
    if name.startswith("contrastive"):
        total = sum(-y * s + (1 - y) * max(0, s - loss.margin) for s, y in pairs)
        return total / (len(pairs) if name == "contrastive" else 1)
    if name == "binomial":
        pull = sum(y * math.log1p(math.exp(2.0 * (0.4 - s))) for s, y in pairs)
        push = sum((1 - y) * math.log1p(math.exp(10.0 * (s - 0.4))) for s, y in pairs)
        return (pull + push) / len(pairs)
    if name == "lifted":
        pull = sum(y * math.exp(1.5 - s) for s, y in pairs)
        push = sum((1 - y) * math.exp(s) for s, y in pairs)
        return max(0.0, math.log(pull) + math.log(push)) if pull > 0 and push > 0 else 0.0
    pull = sum(y * math.exp(-2.0 * (s - 0.3)) for s, y in pairs)
    push = sum((1 - y) * math.exp(20.0 * (s - 0.3)) for s, y in pairs)
    return math.log(1 + pull) / 2 + math.log(1 + push) / 20


@every_loss
@pytest.mark.parametrize("mask", [None, MASK])
def test_matches_plain_loops(name, mask):
    keep = np.ones_like(MASK) if mask is None else mask
    expected = [naive_row(name, s[m], y[m]) for s, y, m in zip(S, Y, keep, strict=True)]
    assert_close(LOSSES[name].soft_pair_loss(S, Y, mask), np.array(expected), rtol=2e-5)


@every_loss
@pytest.mark.parametrize("label", [0.0, 1.0, 0.5])
def test_gradients_are_finite_and_stay_in_the_mask(name, label):
    loss = LOSSES[name]
    y = np.full_like(S, label)
    _, grad = gradient(lambda S: ops.sum(loss.soft_pair_loss(S, y, MASK)), S)
    assert np.isfinite(grad).all()
    assert (grad[~MASK] == 0).all()
    assert_close(loss.soft_pair_loss(S, label, MASK), loss.soft_pair_loss(S, y, MASK))


@every_loss
def test_lifted_is_zero_without_either_side(name):
    if name == "lifted":
        for label in (0.0, 1.0):
            assert_close(LOSSES[name].soft_pair_loss(S, np.full_like(S, label)), np.zeros(5))


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("contrastive", losses.ContrastiveLoss(0.5)),
        ("binomial", losses.BinomialDevianceLoss(2.0, 50.0, 0.5)),
        ("lifted", losses.LiftedStructureLoss(1.0)),
        ("ms", losses.MultiSimilarityLoss(2.0, 40.0, 0.5, 0.1)),
    ],
)
def test_matches_independent_computation(name, loss):
    g = golden("metrix", "soft_labels")
    assert_close(loss.soft_pair_loss(g["sim"], g["label"], g["mask"]), g[name])


@every_loss
@pytest.mark.parametrize("part", ["S", "label"])
def test_nan_in_nan_out(name, part):
    arguments = {"S": S.copy(), "label": Y.copy(), "mask": MASK}
    row, column = np.argwhere(MASK)[0]
    arguments[part][row, column] = np.nan
    found = np.asarray(LOSSES[name].soft_pair_loss(**arguments))
    assert np.isnan(found[row])
    assert np.isfinite(np.delete(found, row)).all()
