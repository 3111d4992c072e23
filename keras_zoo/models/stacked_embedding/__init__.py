"""Stacked embeddings: labels of texts from the token embeddings of several encoders."""

from keras_zoo.models._presets import register_presets
from keras_zoo.models.stacked_embedding.stacked_embedding_backbone import StackedEmbeddingBackbone
from keras_zoo.models.stacked_embedding.stacked_embedding_classifier import (
    StackedEmbeddingClassifier,
)
from keras_zoo.models.stacked_embedding.stacked_embedding_preprocessor import (
    StackedEmbeddingPreprocessor,
)
from keras_zoo.models.stacked_embedding.subword_encoder import SubwordEncoder
from keras_zoo.models.stacked_embedding.word_vectors import WordVectors

__all__ = [
    "StackedEmbeddingBackbone",
    "StackedEmbeddingClassifier",
    "StackedEmbeddingPreprocessor",
    "SubwordEncoder",
    "WordVectors",
]

register_presets(StackedEmbeddingBackbone)
