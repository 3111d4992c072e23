"""The preset, from texts to labels."""

import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")
from keras_zoo import list_presets  # noqa: E402
from keras_zoo.models import StackedEmbeddingClassifier, WordVectors  # noqa: E402

PRESET = "stacked_embedding_tiny_tweets"


def test_from_texts_to_labels():
    classifier = StackedEmbeddingClassifier.from_preset(PRESET)
    texts = ["I love this so much, awesome!", "I hate this, it is so sad and awful", "xyzzy", ""]
    logits = classifier.predict(texts, verbose=0)
    labels = list_presets(PRESET)[PRESET]["labels"]
    assert logits.shape == (4, len(labels))
    assert np.isfinite(logits).all()
    score = dict(zip(labels, logits.T, strict=True))
    assert score["positive"][0] > 0 > score["positive"][1]
    assert score["negative"][1] > 0 > score["negative"][0]


def test_its_encoders():
    preprocessor = StackedEmbeddingClassifier.from_preset(PRESET).preprocessor
    assert all(isinstance(encoder, WordVectors) for encoder in preprocessor.encoders)
    assert preprocessor.embedding_dims == (32, 32, 32)
    for encoder in preprocessor.encoders:
        half = encoder.vectors.astype("float16")
        np.testing.assert_array_equal(half, encoder.vectors)
    assert preprocessor.split("So GOOD :)") == ["so", "good", ":)"]
