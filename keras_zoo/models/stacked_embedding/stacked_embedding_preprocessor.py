"""From texts to the token embeddings of several frozen encoders."""

import dataclasses
import os
import pathlib

import keras
import numpy as np
from keras_hub.models import Preprocessor

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag
from keras_zoo.models._presets import preset_file
from keras_zoo.models._words import as_strings, split_words
from keras_zoo.models.stacked_embedding.stacked_embedding_backbone import StackedEmbeddingBackbone
from keras_zoo.models.stacked_embedding.subword_encoder import SubwordEncoder
from keras_zoo.models.stacked_embedding.word_vectors import WordVectors

ASSETS = "word_vectors.npz"


@component(paper="arabic-emotion")
class StackedEmbeddingPreprocessor(Preprocessor):
    """Splits texts into words, and embeds each word by every encoder.

    A word is a run of letters, digits, inner apostrophes and half-spaces, or a run of other signs,
    so that emoticons stay whole. All encoders get the same words, and so have the same positions.
    They are frozen: a training step does not reach them.

    Args:
        encoders: list of one or more of: `WordVectors`; `SubwordEncoder`, a keras-hub backbone with
            its tokenizer; the preset of such, a folder or an address such as `"hf://user/model"`.
        sequence_length: int `T`. Further words are left out.
        lowercase: bool.
        arabic: bool. Whether to write Arabic letters in one form (alef without hamza and madda, yeh
            for alef maksura, heh for teh marbuta), digits as 0 to 9, and to drop diacritics and
            tatweel.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.

    Inputs: `x`, a text or a list or array of texts, of which tasks make batches by grain (no
    `tf.data.Dataset`: its functions see no Python strings); `y` and `sample_weight`, handed on.
    Output: `x`, `(x, y)` or `(x, y, sample_weight)`, where `x` is a dict of `embedding_0`
    `(B, T, D_1)` and so on, and `padding_mask` bool `(B, T)`. A text without words has a mask of
    False.

    Saved with its vectors of words, in half the space where float16 holds them exactly. Subword
    encoders are saved as the address of their preset, from where they are fetched when a loaded
    preprocessor first needs them.

    Raises:
        ValueError: an argument is out of its range; `x` is no text; it is saved with an encoder
            that came from no preset.

    Example:
    >>> good = keras_zoo.models.WordVectors(["good", ":)"], [[1.0], [2.0]])
    >>> preprocessor = keras_zoo.models.StackedEmbeddingPreprocessor([good], sequence_length=3)
    >>> x = preprocessor(["Good :)", ":)"])
    >>> x["embedding_0"][..., 0].tolist()
    [[1.0, 2.0, 0.0], [2.0, 0.0, 0.0]]
    >>> x["padding_mask"].tolist()
    [[True, True, False], [True, False, False]]

    Reference: arXiv:2410.03979. Differs from the official code: none is public. The paper also
    drops punctuation and all that is not Arabic, and writes emojis as words.
    """

    backbone_cls = StackedEmbeddingBackbone

    def __init__(self, encoders, sequence_length=64, lowercase=True, arabic=False, **kwargs):
        if not isinstance(encoders, (list, tuple)) or not encoders:
            raise ValueError(
                f"`encoders` must be a list of one or more. Received: encoders={encoders!r}"
            )
        check_count("sequence_length", sequence_length)
        check_flag("lowercase", lowercase)
        check_flag("arabic", arabic)
        made = tuple(_as_encoder(encoder) for encoder in encoders)
        super().__init__(**kwargs)
        # A tuple, which Keras does not track: nothing here is to be trained.
        self._encoders = made
        self.sequence_length = sequence_length
        self.lowercase = lowercase
        self.arabic = arabic

    @property
    def encoders(self):
        """The encoders; those of which only the address is known are fetched now."""
        if any(isinstance(encoder, _Address) for encoder in self._encoders):
            self._encoders = tuple(
                encoder.fetch() if isinstance(encoder, _Address) else encoder
                for encoder in self._encoders
            )
        return self._encoders

    @property
    def embedding_dims(self):
        """The lengths of the embeddings."""
        return tuple(encoder.dim for encoder in self._encoders)

    def split(self, text):
        """The words of one text, as the encoders get them."""
        return split_words(text, self.lowercase, "arabic" if self.arabic else None)

    def call(self, x, y=None, sample_weight=None):
        """The embeddings of a batch of texts."""
        texts = [self.split(text)[: self.sequence_length] for text in as_strings(x)]
        counts = np.array([len(words) for words in texts], "int64")
        x = {
            f"embedding_{k}": encoder.encode(texts, self.sequence_length)
            for k, encoder in enumerate(self.encoders)
        }
        x["padding_mask"] = np.arange(self.sequence_length) < counts[:, None]
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def get_config(self):
        """The constructor's arguments; vectors of words are kept in a file of their own."""
        own = {
            "encoders": [_encoder_config(encoder) for encoder in self._encoders],
            "sequence_length": self.sequence_length,
            "lowercase": self.lowercase,
            "arabic": self.arabic,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """Makes the preprocessor; `load_assets` then brings the vectors of words."""
        return cls(**{**config, "encoders": [_from_config(c) for c in config["encoders"]]})

    def save_assets(self, dir_path):
        """Writes the vectors of words into a folder."""
        arrays = {}
        for k, encoder in enumerate(self._encoders):
            if isinstance(encoder, WordVectors):
                text = "\n".join(encoder.vocabulary)
                arrays[f"vocabulary_{k}"] = np.frombuffer(text.encode("utf-8"), "uint8")
                half = encoder.vectors.astype("float16")
                exact = np.array_equal(half, encoder.vectors)
                arrays[f"vectors_{k}"] = half if exact else encoder.vectors
        if arrays:
            np.savez_compressed(os.path.join(dir_path, ASSETS), **arrays)

    def load_assets(self, dir_path):
        """Reads the vectors of words from a folder that `save_assets` wrote."""
        if not any(isinstance(encoder, WordVectors) for encoder in self._encoders):
            return
        encoders = list(self._encoders)
        with np.load(os.path.join(dir_path, ASSETS), allow_pickle=False) as file:
            for k, encoder in enumerate(encoders):
                if isinstance(encoder, WordVectors):
                    words = file[f"vocabulary_{k}"].tobytes().decode("utf-8").split("\n")
                    encoders[k] = WordVectors(words, file[f"vectors_{k}"])
        self._encoders = tuple(encoders)

    def save_to_preset(self, preset_dir):
        """Writes the preprocessor into the folder of a preset."""
        super().save_to_preset(preset_dir)
        folder = pathlib.Path(preset_dir) / "assets" / "preprocessor"
        folder.mkdir(parents=True, exist_ok=True)
        self.save_assets(str(folder))

    def load_preset_assets(self, preset):
        """Reads the vectors of words of a preset."""
        if any(isinstance(encoder, WordVectors) for encoder in self._encoders):
            path = preset_file(preset, f"assets/preprocessor/{ASSETS}")
            self.load_assets(os.path.dirname(path))


@dataclasses.dataclass(frozen=True)
class _Address:
    """A subword encoder that is still to be fetched.

    Keras lets no file outside of a model's own be read while the model is read.
    """

    preset: str
    pooling: str
    token_length: int
    dim: int

    def fetch(self):
        return SubwordEncoder.from_preset(self.preset, self.pooling, self.token_length)


def _as_encoder(encoder):
    if isinstance(encoder, (WordVectors, SubwordEncoder, _Address)):
        return encoder
    if isinstance(encoder, (str, os.PathLike)):
        return SubwordEncoder.from_preset(encoder)
    raise ValueError(
        "`encoders` must be WordVectors, SubwordEncoders, or presets of keras-hub. "
        f"Received: {encoder!r}"
    )


def _encoder_config(encoder):
    if isinstance(encoder, WordVectors):
        return {"dim": encoder.dim}
    if encoder.preset is None:
        raise ValueError(
            "`encoders` must come from presets, where they are to be saved: save backbone and "
            "tokenizer with `save_to_preset`, and give `SubwordEncoder.from_preset` the folder. "
            f"Received: {encoder.backbone.name}"
        )
    return {
        "preset": str(encoder.preset),
        "pooling": encoder.pooling,
        "token_length": encoder.token_length,
        "dim": encoder.dim,
    }


def _from_config(config):
    if not isinstance(config, dict):
        return config
    if "preset" in config:
        return _Address(**config)
    return WordVectors(["?"], np.zeros((1, config["dim"])))
