"""AUC, MRR and nDCG, against scikit-learn and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from keras_zoo.metrics import mrr_at_k, ndcg_at_k, roc_auc

SCORED = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(SCORED)
def test_auc_is_that_of_scikit_learn_and_of_plain_loops(pairs):
    relevant, scores = map(np.array, zip(*pairs, strict=True))
    found = roc_auc(relevant, scores)
    if relevant.all() or not relevant.any():
        assert np.isnan(found)
        return
    assert found == pytest.approx(sklearn_metrics.roc_auc_score(relevant, scores), abs=1e-12)
    wins = [(a > b) + (a == b) / 2 for a in scores[relevant] for b in scores[~relevant]]
    assert found == pytest.approx(np.mean(wins), abs=1e-12)


def test_auc_pools_queries_and_takes_columns():
    rng = np.random.default_rng(0)
    relevant, scores = rng.random((4, 5)) < 0.5, rng.normal(size=(4, 5))
    assert roc_auc(relevant, scores) == roc_auc(relevant.ravel(), scores.ravel())
    assert roc_auc([0, 1], [[0.1], [0.2]]) == 1.0
    assert np.isnan(roc_auc([0, 1], [0.1, np.nan]))
    with pytest.raises(ValueError, match=r"`y_true` and `y_score` .*Received: "):
        roc_auc([0, 1, 1], [0.1, 0.2])


def naive_mrr(relevance, scores, k):
    total = 0.0
    for row, values in zip(relevance, scores, strict=True):
        order = sorted(range(len(row)), key=lambda j: -values[j])
        hits = [rank for rank, j in enumerate(order[:k], 1) if row[j] > 0.5]
        total += 1 / hits[0] if hits else 0.0
    return total / len(relevance)


def naive_ndcg(relevance, scores, k):
    def gain(row, keys):
        order = sorted(range(len(row)), key=lambda j: -keys[j])
        return sum((2 ** row[j] - 1) / np.log2(r + 1) for r, j in enumerate(order[:k], 1))

    total = 0.0
    for row, values in zip(relevance, scores, strict=True):
        best = gain(row, row)
        total += gain(row, values) / best if best else 0.0
    return total / len(relevance)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("levels", [2, 4])
def test_match_plain_loops(k, levels):
    rng = np.random.default_rng(levels)
    relevance, scores = rng.integers(0, levels, (12, 7)), rng.integers(-2, 3, (12, 7))
    relevance[0] = 0
    assert mrr_at_k(relevance, scores, k) == pytest.approx(naive_mrr(relevance, scores, k))
    assert ndcg_at_k(relevance, scores, k) == pytest.approx(naive_ndcg(relevance, scores, k))


@pytest.mark.parametrize("k", [1, 3, 10])
def test_match_scikit_learn(k):
    rng = np.random.default_rng(5)
    relevance, scores = rng.integers(0, 4, (9, 6)), rng.normal(size=(9, 6))
    relevance[:, 0] = 1
    gains = 2.0**relevance - 1
    assert ndcg_at_k(relevance, scores, k) == pytest.approx(
        sklearn_metrics.ndcg_score(gains, scores, k=k)
    )
    # With one relevant item a query, the reciprocal rank is the precision averaged over hits.
    one = np.eye(9, 6)[:6]
    assert mrr_at_k(one, scores[:6]) == pytest.approx(
        sklearn_metrics.label_ranking_average_precision_score(one, scores[:6])
    )


@pytest.mark.parametrize("metric", [mrr_at_k, ndcg_at_k])
def test_edges(metric):
    assert metric([[0, 0]], [[1.0, 2.0]]) == 0.0
    assert metric([[1, 0]], [[2.0, 1.0]], k=100) == 1.0
    assert metric([[0, 1]], [[2.0, 1.0]], k=1) == 0.0
    # Equal scores keep the order in which they stand.
    assert metric([[1, 0]], [[1.0, 1.0]]) > metric([[0, 1]], [[1.0, 1.0]])
    assert np.isnan(metric([[1, 0]], [[np.nan, 1.0]]))
    assert np.isnan(metric(np.zeros((0, 3)), np.zeros((0, 3))))
    for k in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=r"`k` .*Received: "):
            metric([[1, 0]], [[1.0, 2.0]], k)
    for scores in ([[1.0]], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"`relevance` .*Received: "):
            metric([[1, 0]], scores)


def test_gains_that_overflow_are_refused():
    for relevance in (-1.0, 2000.0):
        with pytest.raises(ValueError, match=r"`relevance` .*Received: "):
            ndcg_at_k([[relevance, 0]], [[1.0, 2.0]])
