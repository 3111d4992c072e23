"""Accuracy of zero-shot classification."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_labels
from keras_zoo.metrics._arrays import unit_rows


@component(paper="cwcl")
def zero_shot_accuracy(embeddings, labels, class_embeddings):
    """Fraction of examples whose nearest class embedding, by cosine, is that of their class.

        accuracy = mean_i [ argmax_c cos(embeddings_i, class_embeddings_c) = labels_i ]

    A class embedding is, for instance, the mean of those of several prompts for the class.

    Args:
        embeddings: array `(N, D)`.
        labels: array of integers `(N,)` or `(N, 1)`, rows of `class_embeddings`.
        class_embeddings: array `(C, D)`.

    Returns:
        A float. Of equal cosines the first class is taken. A row of zeros has cosine 0 with all.
        NaN if an embedding holds NaN, or for no examples.

    Raises:
        ValueError: shapes do not fit; labels are not integers, or name no class.

    Example:
    >>> keras_zoo.metrics.zero_shot_accuracy([[2.0, 0.1], [1.0, 3.0]], [0, 1], [[1, 0], [0, 1]])
    1.0

    Reference: arXiv:2309.14580, evaluation.
    """
    embeddings = np.asarray(embeddings, dtype="float64")
    classes = np.asarray(class_embeddings, dtype="float64")
    labels = check_labels("labels", labels)
    if embeddings.ndim != 2 or classes.ndim != 2 or embeddings.shape[1] != classes.shape[1]:
        raise ValueError(
            "`embeddings` must be `(N, D)` and `class_embeddings` `(C, D)`. "
            f"Received: shapes {embeddings.shape} and {classes.shape}"
        )
    if len(labels) != len(embeddings) or ((labels < 0) | (labels >= len(classes))).any():
        raise ValueError(
            "`labels` must name a row of `class_embeddings` for each row of `embeddings`. "
            f"Received: {len(labels)} labels {labels[:5]}, {len(embeddings)} rows, "
            f"{len(classes)} classes"
        )
    if len(labels) == 0 or np.isnan(embeddings).any() or np.isnan(classes).any():
        return float("nan")
    cosines = unit_rows(embeddings) @ unit_rows(classes).T
    return float(np.mean(np.argmax(cosines, axis=1) == labels))
