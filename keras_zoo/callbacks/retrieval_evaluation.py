"""Recall@K of a held-out set at the end of each epoch."""

import keras
import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_labels, check_ranks
from keras_zoo.metrics import recall_at_k


@component(paper="multi-similarity")
class RetrievalEvaluation(keras.callbacks.Callback):
    """Embeds a set with the model after each epoch, and logs its self-retrieval Recall@K.

    Writes `val_recall_at_1` and so on into the logs, so that `ModelCheckpoint`, `EarlyStopping`
    and `CSVLogger` that stand AFTER it in the list of callbacks can watch them, and the history
    holds them.

    Args:
        x: input of the model, `(n, ...)`.
        y: array of integers `(n,)` or `(n, 1)`, the classes.
        k: int, or sequence of ints.
        normalize: bool. Whether similarities are cosines; otherwise inner products.
        batch_size: int > 0, for `model.predict`.
        prefix: str, put before `recall_at_k`.

    Examples without another one of their class in `x` are left out of the mean. Where an
    embedding holds NaN the recall is NaN.

    Raises:
        ValueError: an argument is out of its range, lengths differ, or the model does not return
            one `(n, D)` array.

    Example:
    >>> recall = keras_zoo.callbacks.RetrievalEvaluation(x_val, y_val)
    >>> stop = keras.callbacks.EarlyStopping("val_recall_at_1", mode="max", patience=3)
    >>> model.fit(sampler, epochs=50, callbacks=[recall, stop])

    Reference: arXiv:1904.06627, evaluation.
    """

    def __init__(self, x, y, k=(1, 2, 4, 8), normalize=True, batch_size=256, prefix="val_"):
        super().__init__()
        self.k = check_ranks(k)
        labels = check_labels("y", y)
        lengths = {len(leaf) for leaf in keras.tree.flatten(x)}
        if lengths != {len(labels)}:
            raise ValueError(
                "`x` and `y` must have the same number of rows. "
                f"Received: x with {sorted(lengths)} rows, y with {len(labels)}"
            )
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(
                f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}"
            )
        if not isinstance(prefix, str):
            raise ValueError(f"`prefix` must be a string. Received: prefix={prefix!r}")
        self.x, self.y = x, labels
        self.normalize = normalize
        self.batch_size = int(batch_size)
        self.prefix = prefix

    def on_epoch_end(self, epoch, logs=None):
        """Adds the recalls to the logs."""
        embeddings = self.model.predict(self.x, batch_size=self.batch_size, verbose=0)
        if not isinstance(embeddings, np.ndarray) or embeddings.ndim != 2:
            shapes = keras.tree.map_structure(np.shape, embeddings)
            raise ValueError(
                f"The model must return one array of embeddings `(n, D)`. Received: {shapes}"
            )
        recalls = recall_at_k(embeddings, self.y, k=self.k, normalize=self.normalize)
        if logs is not None:
            for k, recall in zip(self.k, recalls, strict=True):
                logs[f"{self.prefix}recall_at_{k}"] = float(recall)
