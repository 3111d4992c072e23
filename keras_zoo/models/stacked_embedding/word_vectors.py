"""Word vectors as an encoder."""

import numpy as np

from keras_zoo._catalog import component


@component(paper="arabic-emotion")
class WordVectors:
    """A table of words and their vectors, as one encoder of `StackedEmbeddingPreprocessor`.

    Args:
        vocabulary: list of `V` different words, none empty or with a line break.
        vectors: `(V, D)`, finite.

    Attributes: `vocabulary`, a list; `vectors`, float32 `(V, D)`; `dim`, `D`.

    Raises:
        ValueError: the vocabulary is no list of different words, or the vectors do not fit.

    Example:
    >>> words = keras_zoo.models.WordVectors(["good", "bad"], [[1.0, 0.0], [0.0, 1.0]])
    >>> words.encode([["bad"], ["very", "good"]], 2).tolist()
    [[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]

    Reference: arXiv:2410.03979, which takes three fine-tuned transformers as encoders.
    """

    def __init__(self, vocabulary, vectors):
        words = isinstance(vocabulary, (list, tuple)) and all(
            isinstance(word, str) and word and "\n" not in word for word in vocabulary
        )
        if not words or not vocabulary or len(set(vocabulary)) < len(vocabulary):
            received = f"{len(vocabulary)} entries" if words else type(vocabulary).__name__
            raise ValueError(
                "`vocabulary` must be a list of different words, one at least. "
                f"Received: {received}"
            )
        vectors = np.asarray(vectors)
        fits = vectors.ndim == 2 and len(vectors) == len(vocabulary) and vectors.shape[1] > 0
        if not fits or vectors.dtype.kind not in "fiu" or not np.isfinite(vectors).all():
            raise ValueError(
                f"`vectors` must be finite numbers `({len(vocabulary)}, D)`. "
                f"Received: {vectors.dtype} of shape {vectors.shape}"
            )
        self.vocabulary = list(vocabulary)
        self.vectors = vectors.astype("float32")
        self._rows = {word: row for row, word in enumerate(self.vocabulary)}

    @property
    def dim(self):
        """Length of a vector."""
        return self.vectors.shape[1]

    def encode(self, texts, sequence_length):
        """The vectors of words, float32 `(B, sequence_length, D)`; 0 for unknown ones and padding.

        Args:
            texts: lists of words, one for each text.
            sequence_length: int. Further words are left out.
        """
        output = np.zeros((len(texts), sequence_length, self.dim), "float32")
        for i, words in enumerate(texts):
            for t, word in enumerate(words[:sequence_length]):
                row = self._rows.get(word)
                if row is not None:
                    output[i, t] = self.vectors[row]
        return output
