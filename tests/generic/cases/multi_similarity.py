"""Pair losses, and what trains and measures embeddings with them."""

import numpy as np

from keras_zoo import callbacks, losses, metrics, samplers
from tests.generic._cases import LossCase, MetricCase, PlainCase

PAPER = "multi-similarity"
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
EMBEDDINGS = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")
SHARED = {"normalize": False, "chunk_size": 64}


def loss(cls, **kwargs):
    # Unnormalised products must stay below 1 for multi-similarity.
    unit = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
    return LossCase(cls, {**kwargs, **SHARED}, LABELS, unit, PAPER)


CASES = [
    loss(losses.ContrastiveLoss, margin=0.2, pair_reduction="sum"),
    loss(losses.TripletLoss, margin=0.3),
    loss(losses.LiftedStructureLoss, margin=1.5),
    loss(losses.BinomialDevianceLoss, alpha=3.0, beta=10.0, base=0.2),
    loss(losses.NPairLoss),
    loss(losses.MultiSimilarityLoss, alpha=3.0, beta=10.0, base=0.3, epsilon=0.4),
    MetricCase(metrics.RecallAtK, {"k": 2, "normalize": False}, LABELS, EMBEDDINGS, PAPER),
    PlainCase(losses.PairBasedLoss, PAPER, "a base without a loss of its own"),
    PlainCase(metrics.recall_at_k, PAPER, "a function on numpy arrays"),
    PlainCase(callbacks.RetrievalEvaluation, PAPER, "a callback"),
    PlainCase(samplers.ClassBalancedSampler, PAPER, "a data set"),
]
