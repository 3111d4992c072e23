"""The network over stacked embeddings: from tokens to features of a text."""

import keras
from keras import ops
from keras_hub.models import Backbone

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_rate
from keras_zoo.layers import StackedEmbedding
from keras_zoo.models._presets import PresetMixin


@component(paper="arabic-emotion")
class StackedEmbeddingBackbone(PresetMixin, Backbone):
    """Reads the token embeddings of several encoders, by a meta-learner and an LSTM each way.

        X = StackedEmbedding(meta_units)([E_1, .., E_K])             (B, T, sum D_k + meta_units)
        h = BiLSTM(dropout(X)), the last states of both directions   (B, 2 lstm_units)

    The encoders are no part of it. `StackedEmbeddingPreprocessor` runs frozen ones; those that
    shall learn along are called in front of it, as in the second example.

    Args:
        embedding_dims: ints `D_k`, one for each encoder.
        meta_units: int.
        lstm_units: int.
        dropout: float in [0, 1).
        dtype: dtype or policy.
        **kwargs: `name`, `trainable` of `keras.Model`.

    Inputs: dict of `embedding_0` `(B, T, D_1)` and so on, and `padding_mask` bool `(B, T)`, True
    for tokens; padding is on the right. What stands in padding does not matter. A text without any
    token counts as one token whose embeddings are 0.
    Output: `(B, 2 lstm_units)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> backbone = keras_zoo.models.StackedEmbeddingBackbone(
    ...     (8, 6), meta_units=4, lstm_units=5
    ... )
    >>> tokens = {
    ...     "embedding_0": np.zeros((2, 7, 8)),
    ...     "embedding_1": np.zeros((2, 7, 6)),
    ...     "padding_mask": np.ones((2, 7), bool),
    ... }
    >>> tuple(backbone(tokens).shape)
    (2, 10)

    With encoders of one tokenizer, trained together:

    >>> ids, mask = keras.Input((7,), dtype="int32"), keras.Input((7,), dtype="bool")
    >>> encoders = [keras.layers.Embedding(100, dim) for dim in (8, 6)]
    >>> inputs = {f"embedding_{k}": encoder(ids) for k, encoder in enumerate(encoders)}
    >>> model = keras.Model([ids, mask], backbone({**inputs, "padding_mask": mask}))
    >>> len(model.trainable_weights)
    10

    Reference: arXiv:2410.03979. Differs from the official code: none is public. Widths, dropout and
    that all is trained at once are ours.
    """

    def __init__(
        self,
        embedding_dims=(768, 768, 768),
        meta_units=256,
        lstm_units=128,
        dropout=0.3,
        dtype=None,
        **kwargs,
    ):
        if not isinstance(embedding_dims, (list, tuple)) or not embedding_dims:
            raise ValueError(
                "`embedding_dims` must be positive integers, one at least. "
                f"Received: embedding_dims={embedding_dims!r}"
            )
        embedding_dims = tuple(check_count("embedding_dims", dim) for dim in embedding_dims)
        check_count("meta_units", meta_units)
        check_count("lstm_units", lstm_units)
        check_rate("dropout", dropout)

        # === Layers ===
        stack = StackedEmbedding(meta_units, dtype=dtype, name="stack")
        drop = keras.layers.Dropout(dropout, dtype=dtype, name="dropout")
        lstm = keras.layers.Bidirectional(
            keras.layers.LSTM(lstm_units, dtype=dtype, name="lstm"), dtype=dtype, name="bilstm"
        )

        # === Functional model ===
        inputs = {
            f"embedding_{k}": keras.Input((None, dim), name=f"embedding_{k}")
            for k, dim in enumerate(embedding_dims)
        }
        inputs["padding_mask"] = mask = keras.Input((None,), dtype="bool", name="padding_mask")
        embeddings = [
            ops.where(mask[:, :, None], inputs[f"embedding_{k}"], 0.0)
            for k in range(len(embedding_dims))
        ]
        # The LSTM must not meet a text without a token.
        first = ops.equal(ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1), 1)
        x = lstm(drop(stack(embeddings)), mask=ops.logical_or(mask, first))
        super().__init__(inputs, x, dtype=dtype, **kwargs)

        # === Config ===
        self.embedding_dims = embedding_dims
        self.meta_units = meta_units
        self.lstm_units = lstm_units
        self.dropout = dropout

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "embedding_dims": list(self.embedding_dims),
            "meta_units": self.meta_units,
            "lstm_units": self.lstm_units,
            "dropout": self.dropout,
        }
