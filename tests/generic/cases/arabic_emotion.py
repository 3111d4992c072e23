"""The hybrid loss, its metrics, and the parts of stacked embeddings."""

import numpy as np

from keras_zoo.datasets import rated_texts
from keras_zoo.layers import StackedEmbedding
from keras_zoo.losses import HybridMultiLabelLoss
from keras_zoo.metrics import HammingLoss, JaccardAccuracy
from tests.generic._cases import LayerCase, LossCase, MetricCase, ModelCase, PlainCase

PAPER = "arabic-emotion"
RNG = np.random.default_rng(0)
N, C = 10, 3
Y = (RNG.random((N, C)) < 0.5).astype("float32")
Z = RNG.normal(size=(N, C + 2)).astype("float32")
TOKENS = [RNG.normal(size=(6, 3, dim)).astype("float32") for dim in (2, 3)]

CASES = [
    LossCase(
        HybridMultiLabelLoss,
        {
            "num_labels": C,
            "class_weights": [0.5, 1.0, 1.5],
            "positive_weights": [1.0, 3.0, 2.0],
            "correlation": [[0.0, 0.4, -0.3], [0.4, 0.0, 0.1], [-0.3, 0.1, 0.0]],
            "bce_weight": 0.8,
            "correlation_weight": 0.3,
            "contrastive_weight": 0.2,
            "temperature": 0.5,
        },
        Y,
        Z,
        PAPER,
    ),
    LayerCase(StackedEmbedding, {"units": 3, "activation": "tanh"}, TOKENS, PAPER),
    *(
        MetricCase(cls, {"num_labels": C, "threshold": 0.4, "from_logits": True}, Y, Z, PAPER)
        for cls in (JaccardAccuracy, HammingLoss)
    ),
    PlainCase(rated_texts, PAPER, "a data set"),
]

try:
    from keras_zoo.models import (
        StackedEmbeddingBackbone,
        StackedEmbeddingClassifier,
        StackedEmbeddingPreprocessor,
        SubwordEncoder,
        WordVectors,
    )
except ImportError:  # The extra `models` is not installed.
    pass
else:
    X = {
        "embedding_0": TOKENS[0],
        "embedding_1": TOKENS[1],
        "padding_mask": np.arange(3) < np.array([[3], [1], [2], [0], [3], [2]]),
    }

    def backbone(dtype):
        return StackedEmbeddingBackbone((2, 3), 3, 2, dropout=0.0, dtype=dtype)

    def classifier(dtype):
        return StackedEmbeddingClassifier(
            backbone(dtype), C, 4, dropout=0.0, return_embedding=True, compile=False
        )

    CASES += [
        ModelCase(StackedEmbeddingBackbone, backbone, X, None, PAPER),
        # Its training is Keras's own, on layers and a loss that are trained by themselves.
        ModelCase(StackedEmbeddingClassifier, classifier, X, None, PAPER),
        PlainCase(StackedEmbeddingPreprocessor, PAPER, "works on texts"),
        PlainCase(SubwordEncoder, PAPER, "works on words"),
        PlainCase(WordVectors, PAPER, "works on words"),
    ]
