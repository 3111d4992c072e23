"""Mann-Whitney losses, and the figures of rankings."""

import numpy as np

from keras_zoo import losses, metrics
from tests.generic._cases import LossCase, PlainCase

PAPER = "mw-loss"
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(6, 5)).astype("float32")
RELEVANCE = (RNG.random((6, 5)) < 0.4).astype("float32")
VIEWS = RNG.normal(size=(6, 3, 4)).astype("float32")
UNIT = VIEWS / np.linalg.norm(VIEWS, axis=2, keepdims=True)
IDS = np.array([0, 1, 2, 0, 3, 4])
SHARED = {"temperature": 0.5, "scope": "query", "pair_reduction": "sum", "chunk_size": 4}

CASES = [
    LossCase(losses.MannWhitneyLoss, SHARED, RELEVANCE, SCORES, PAPER),
    LossCase(losses.MannWhitneyRetrievalLoss, {**SHARED, "normalize": False}, IDS, UNIT, PAPER),
    PlainCase(metrics.roc_auc, PAPER, "a function on numpy arrays"),
    PlainCase(metrics.mrr_at_k, PAPER, "a function on numpy arrays"),
    PlainCase(metrics.ndcg_at_k, PAPER, "a function on numpy arrays"),
]
