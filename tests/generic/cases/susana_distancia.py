"""Losses over few-shot episodes, and what goes with them."""

import numpy as np

from keras_zoo import losses, metrics, ops, samplers
from tests.generic._cases import LossCase, MetricCase, PlainCase

PAPER = "susana-distancia"
# In whatever order the rows come, each class has two rows of support at least.
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
EMBEDDINGS = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")


def loss(cls, **kwargs):
    # 6 and 4 rows: ICNN asks for 4.
    settings = {"ordered_within_classes": True, "batch_size": 6}
    return LossCase(cls, kwargs, LABELS, EMBEDDINGS, PAPER, **settings)


CASES = [
    loss(losses.PrototypicalLoss, shots=2, temperature=2.0),
    loss(losses.ProtoTripletLoss, shots=2, margin=3.0),
    loss(losses.ICNNLoss, k=3, num_neighbors=6),
    loss(
        losses.CombinedLoss,
        losses=[losses.PrototypicalLoss(2), losses.ICNNLoss(3, 6)],
        weights=[0.7, 0.2],
    ),
    MetricCase(metrics.PrototypicalAccuracy, {"shots": 2}, LABELS, EMBEDDINGS, PAPER),
    PlainCase(ops.icnn_score, PAPER, "a function of labels and embeddings"),
    PlainCase(samplers.EpisodeSampler, PAPER, "a data set"),
]
