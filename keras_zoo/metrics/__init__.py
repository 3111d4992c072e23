"""Metrics: figures to report (on numpy) and figures to watch in training (streaming)."""

from keras_zoo.metrics.recall_at_k import RecallAtK, recall_at_k

__all__ = ["RecallAtK", "recall_at_k"]
