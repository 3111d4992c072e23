"""A keras-hub text backbone as an encoder of words."""

import os

import numpy as np
from keras import ops
from keras_hub.models import Backbone
from keras_hub.tokenizers import Tokenizer

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count


@component(paper="arabic-emotion")
class SubwordEncoder:
    """A keras-hub text backbone with its tokenizer, as an encoder of whole words.

    One of those that `StackedEmbeddingPreprocessor` takes.

    Tokenizers of different encoders cut a text into different subwords, so all encoders get the
    same list of words. Each word is cut into subwords by itself, with a space before it unless it
    is the first; between the tokenizer's start and end token they make up the text that the
    backbone reads. A word's embedding is the backbone's output at its first subword, or the mean
    of those at its subwords. This rule is ours.

    Args:
        backbone: a keras-hub backbone whose inputs are `token_ids`, `padding_mask` and, if it has
            them, `segment_ids`, and whose output, or `sequence_output` of it, is `(B, L, D)`.
        tokenizer: the keras-hub tokenizer that goes with it.
        pooling: "first" or "mean".
        token_length: int `L`, or None for 128, or what the backbone can read if that is less. A
            word whose subwords do not all fit is 0, as is one without any.
        preset: where `from_preset` finds backbone and tokenizer again. Without one the encoder
            cannot be part of a saved preprocessor.

    Attributes: the arguments, and `dim`, `D`.

    Raises:
        ValueError: an argument is out of its range; the backbone or tokenizer is none that fits.

    Example:
    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "glad", "sad", "##ly"]
    >>> tokenizer = keras_hub.tokenizers.BertTokenizer(words)
    >>> bert = keras_hub.models.BertBackbone(
    ...     8, num_layers=1, num_heads=2, hidden_dim=4, intermediate_dim=6, max_sequence_length=16
    ... )
    >>> encoder = keras_zoo.models.SubwordEncoder(bert, tokenizer, token_length=16)
    >>> encoder.encode([["gladly", "sad"], ["glad"]], 3).shape
    (2, 3, 4)

    Reference: arXiv:2410.03979.
    """

    def __init__(self, backbone, tokenizer, pooling="first", token_length=None, preset=None):
        known = {"token_ids", "padding_mask", "segment_ids"}
        names = set(backbone.input) if isinstance(backbone, Backbone) else set()
        if "token_ids" not in names or not names <= known:
            raise ValueError(
                f"`backbone` must be a keras-hub backbone whose inputs are among {sorted(known)}. "
                f"Received: backbone={backbone!r}"
            )
        if not isinstance(tokenizer, Tokenizer) or None in _special_tokens(tokenizer):
            raise ValueError(
                "`tokenizer` must be a keras-hub tokenizer with a start, an end and a padding "
                f"token. Received: tokenizer={tokenizer!r}"
            )
        most = getattr(backbone, "max_sequence_length", None)
        if token_length is None:
            token_length = min(128, most or 128)
        if check_count("token_length", token_length) > (most or token_length):
            raise ValueError(
                f"`token_length` must be at most {most}, the backbone's. Received: {token_length=}"
            )
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pooling = check_choice("pooling", pooling, ("first", "mean"))
        self.token_length = token_length
        self.preset = preset

    @classmethod
    def from_preset(cls, preset, pooling="first", token_length=None):
        """The encoder of a keras-hub preset.

        Args:
            preset: folder that keras-hub's `save_to_preset` wrote, with a backbone and a tokenizer,
                or what keras-hub knows: a name, or an address such as `"hf://user/model"`.
            pooling: as in the constructor.
            token_length: as in the constructor.
        """
        source = os.fspath(preset)
        backbone = Backbone.from_preset(source)
        return cls(backbone, Tokenizer.from_preset(source), pooling, token_length, source)

    @property
    def dim(self):
        """Length of an embedding."""
        return _sequence(self.backbone.output).shape[-1]

    def tokenize(self, texts, sequence_length):
        """What the backbone reads, and where the words are in it.

        A model whose encoder learns along takes these as its inputs: with the backbone's output
        `x` `(B, L, D)` at its inputs, the words' embeddings are `keras.ops.matmul(pooling, x)`.

        Args:
            texts: lists of words, one for each text.
            sequence_length: int `T`. Further words are left out.

        Returns:
            Dict of the backbone's inputs `(B, L)`, and `pooling`, float32 `(B, T, L)`.
        """
        pieces = self._pieces(texts)
        start, end, padding = _special_tokens(self.tokenizer)
        ids = np.full((len(texts), self.token_length), padding, "int32")
        mask = np.zeros(ids.shape, "bool")
        pooling = np.zeros((len(texts), sequence_length, self.token_length), "float32")
        for i, words in enumerate(texts):
            row = [start]
            for t, word in enumerate(words[:sequence_length]):
                found = pieces[word, t == 0]
                if len(row) + len(found) >= self.token_length:
                    break
                if found:
                    read = found[:1] if self.pooling == "first" else found
                    pooling[i, t, len(row) : len(row) + len(read)] = 1 / len(read)
                row += found
            row = [*row, end][: self.token_length]
            ids[i, : len(row)], mask[i, : len(row)] = row, True
        inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
        kept = {name: value for name, value in inputs.items() if name in self.backbone.input}
        return {**kept, "pooling": pooling}

    def encode(self, texts, sequence_length):
        """The embeddings of words, float32 `(B, sequence_length, D)`; 0 in padding.

        Args:
            texts: lists of words, one for each text.
            sequence_length: int. Further words are left out.
        """
        inputs = self.tokenize(texts, sequence_length)
        pooling = inputs.pop("pooling")
        output = _sequence(self.backbone(inputs, training=False))
        return np.matmul(pooling, ops.convert_to_numpy(ops.cast(output, "float32")))

    def _pieces(self, texts):
        """Ids of the subwords of each word, at the start of a text and further on."""
        words = sorted({(word, t == 0) for text in texts for t, word in enumerate(text)})
        if not words:
            return {}
        ids = self.tokenizer([word if first else f" {word}" for word, first in words])
        ids = ids.to_list() if hasattr(ids, "to_list") else ids
        return {key: [int(i) for i in row] for key, row in zip(words, ids, strict=True)}


def _special_tokens(tokenizer):
    names = ("start_token_id", "end_token_id", "pad_token_id")
    return [getattr(tokenizer, name, None) for name in names]


def _sequence(output):
    return output["sequence_output"] if isinstance(output, dict) else output
