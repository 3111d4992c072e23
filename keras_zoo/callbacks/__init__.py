"""Callbacks: what happens around the steps of `fit`."""

from keras_zoo.callbacks.retrieval_evaluation import RetrievalEvaluation

__all__ = ["RetrievalEvaluation"]
