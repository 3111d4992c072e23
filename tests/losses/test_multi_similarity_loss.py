import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import MultiSimilarityLoss
from tests.harness import assert_close, golden, gradient, to_numpy


@pytest.mark.parametrize("name", ["ms_default", "ms_params"])
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_matches_official_code(name, chunk_size):
    g = golden("multi-similarity", name)
    loss = MultiSimilarityLoss(*map(float, g["params"]), chunk_size=chunk_size)
    value, grad = gradient(lambda x: loss(g["labels"], x), g["embeddings"])
    assert_close(value, g["loss"])
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-6)
    assert_close(loss.call(g["labels"], g["embeddings"]), g["loss_vector"])
    weights = loss.pair_weights(g["labels"], g["embeddings"])
    assert_close(weights, g["weights"], rtol=2e-5)


def mask(rows):
    return np.array(rows, bool)


def test_mining_by_hand():
    S = np.array([[1.0, 0.9, 0.5, 0.45, 0.41, 0.1]], "float32")
    pos, neg = mask([[0, 1, 1, 0, 0, 0]]), mask([[0, 0, 0, 1, 1, 1]])
    # m+ = .5 and m- = .45: positives below .55, negatives above .4
    kept = MultiSimilarityLoss().select_pairs(S, pos, neg)
    assert (to_numpy(kept[0]) == mask([[0, 0, 1, 0, 0, 0]])).all()
    assert (to_numpy(kept[1]) == mask([[0, 0, 0, 1, 1, 0]])).all()
    again = MultiSimilarityLoss().select_pairs(S, *kept)
    assert (to_numpy(again[0]) == to_numpy(kept[0])).all()
    # apart by more than epsilon: nothing is left
    for side in MultiSimilarityLoss(epsilon=0.01).select_pairs(S, pos, neg):
        assert not to_numpy(side).any()
    unmined = MultiSimilarityLoss(epsilon=None).select_pairs(S, pos, neg)
    assert (to_numpy(unmined[0]) == pos).all()
    assert (to_numpy(unmined[1]) == neg).all()


def test_copies_of_the_anchor_are_no_positives():
    x = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], "float32")
    for epsilon in (0.1, None):
        loss = MultiSimilarityLoss(epsilon=epsilon)
        S, pos, neg = loss.similarities([0, 0, 1], x)
        assert to_numpy(pos)[0, 1]
        assert not to_numpy(loss.select_pairs(S, pos, neg)[0]).any()
    value, grad = gradient(lambda x: MultiSimilarityLoss()([0, 0, 1], x), x)
    assert value == 0
    assert (grad == 0).all()


@pytest.mark.parametrize("beta", [50.0, 1e3, 1e5])
def test_large_exponents(beta):
    S = np.array([[0.9, -0.9, 1.0, -1.0]], "float32")
    pos, neg = mask([[1, 1, 0, 0]]), mask([[0, 0, 1, 1]])
    loss = MultiSimilarityLoss(alpha=beta, beta=beta, base=0.0)
    value, grad = gradient(lambda S: ops.sum(loss.pair_loss(S, pos, neg)), S)
    assert_close(value, 0.9 + 1.0, rtol=1e-4)
    assert_close(grad, [[0.0, -1.0, 1.0, 0.0]], rtol=1e-3)
    assert_close(loss.weights_from_similarities(S, pos, neg), np.abs(grad), rtol=1e-3)


def test_soft_labels_of_0_and_1_are_pairs():
    rng = np.random.default_rng(0)
    S = rng.uniform(-1, 0.99, (4, 7)).astype("float32")
    pos = rng.random((4, 7)) < 0.4
    pos[0], pos[1] = True, False
    loss = MultiSimilarityLoss()
    assert_close(loss.soft_pair_loss(S, pos.astype("float32")), loss.pair_loss(S, pos, ~pos))
