"""Metrics: figures to report (on numpy) and figures to watch in training (streaming)."""

from keras_zoo.metrics.cosine_accuracy import CosineAccuracy
from keras_zoo.metrics.mrr_at_k import mrr_at_k
from keras_zoo.metrics.ndcg_at_k import ndcg_at_k
from keras_zoo.metrics.prototypical_accuracy import PrototypicalAccuracy
from keras_zoo.metrics.recall_at_k import RecallAtK, recall_at_k
from keras_zoo.metrics.roc_auc import roc_auc
from keras_zoo.metrics.tar_at_far import tar_at_far
from keras_zoo.metrics.utilization import utilization
from keras_zoo.metrics.zero_shot_accuracy import zero_shot_accuracy

__all__ = [
    "CosineAccuracy",
    "PrototypicalAccuracy",
    "RecallAtK",
    "mrr_at_k",
    "ndcg_at_k",
    "recall_at_k",
    "roc_auc",
    "tar_at_far",
    "utilization",
    "zero_shot_accuracy",
]
