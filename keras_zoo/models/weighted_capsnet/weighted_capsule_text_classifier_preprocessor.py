"""From texts to ids of words."""

import collections

import keras
import numpy as np
from keras_hub.models import Preprocessor

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_flag
from keras_zoo.models._words import SCRIPTS, as_strings, split_words
from keras_zoo.models.weighted_capsnet.weighted_capsule_ensemble import WeightedCapsuleEnsemble


@component(paper="weighted-capsnet")
class WeightedCapsuleTextClassifierPreprocessor(Preprocessor):
    """Splits texts into words, and gives each word its id.

    A word is a run of letters, digits, inner apostrophes and half-spaces (the zero-width non-joiner
    of Persian), or a run of other signs, so that emoticons stay whole. Words that are not in the
    vocabulary are left out.

    Args:
        vocabulary: list of words, the ids of which are 1, 2, ...; None until `adapt` finds them.
        sequence_length: int `T`. Further words of the vocabulary are left out.
        lowercase: bool.
        script: None, or what letters of Arabic script are written as in one form: "persian" (kaf
            and yeh of Persian for those of Arabic), "arabic" (alef without hamza and madda, yeh for
            alef maksura, heh for teh marbuta). Either makes digits 0 to 9, and drops tatweel and
            diacritics.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.

    Inputs: `x`, a text or a list or array of texts; `y` and `sample_weight`, handed on.
    Output: `x`, `(x, y)` or `(x, y, sample_weight)`, where `x` are int32 ids `(B, T)`, 0 behind a
    text's end. `adapt` finds the vocabulary in texts; it is saved with the preprocessor.

    Raises:
        ValueError: an argument is out of its range, a word occurs twice; `x` is no text; there is
            no vocabulary yet.

    Example:
    >>> preprocessor = keras_zoo.models.WeightedCapsuleTextClassifierPreprocessor(
    ...     sequence_length=4, script="persian"
    ... )
    >>> preprocessor.adapt(["a good phone", "good :)"], vocabulary_size=5)
    >>> preprocessor.vocabulary
    ['good', ':)', 'a', 'phone']
    >>> preprocessor(["Good, a phone!"]).tolist()
    [[1, 3, 4, 0]]

    Reference: arXiv:2306.17068, of which no code is public; the words are our own definition.
    """

    backbone_cls = WeightedCapsuleEnsemble

    def __init__(self, vocabulary=None, sequence_length=32, lowercase=True, script=None, **kwargs):
        check_count("sequence_length", sequence_length)
        check_flag("lowercase", lowercase)
        if script is not None:
            check_choice("script", script, SCRIPTS)
        ids = None if vocabulary is None else _ids(vocabulary)
        super().__init__(**kwargs)
        self._ids = ids
        self.sequence_length = sequence_length
        self.lowercase = lowercase
        self.script = script

    @property
    def vocabulary(self):
        """The words in the order of their ids, or None."""
        return None if self._ids is None else list(self._ids)

    @property
    def vocabulary_size(self):
        """Number of ids: all words', and 0."""
        return len(self._vocabulary_ids()) + 1

    def adapt(self, x, vocabulary_size=5000):
        """Takes the most frequent words of texts as the vocabulary.

        Args:
            x: a list or array of texts.
            vocabulary_size: int of at least 2, ids with that of padding. Of words that are as
                frequent those that sort first are taken.
        """
        check_count("vocabulary_size", vocabulary_size, least=2)
        counts = collections.Counter(word for text in as_strings(x) for word in self.split(text))
        if not counts:
            raise ValueError(f"`x` must hold words. Received: x={x!r}")
        order = sorted(counts, key=lambda word: (-counts[word], word))
        self._ids = _ids(order[: vocabulary_size - 1])

    def split(self, text):
        """The words of one text, known or not."""
        return split_words(text, self.lowercase, self.script)

    def call(self, x, y=None, sample_weight=None):
        """The ids of a batch of texts."""
        known = self._vocabulary_ids()
        texts = as_strings(x)
        ids = np.zeros((len(texts), self.sequence_length), "int32")
        for row, text in zip(ids, texts, strict=True):
            found = [known[word] for word in self.split(text) if word in known]
            row[: len(found)] = found[: self.sequence_length]
        return keras.utils.pack_x_y_sample_weight(ids, y, sample_weight)

    def get_config(self):
        """The constructor's arguments, with the vocabulary that `adapt` found."""
        own = {
            "vocabulary": self.vocabulary,
            "sequence_length": self.sequence_length,
            "lowercase": self.lowercase,
            "script": self.script,
        }
        return {**super().get_config(), **own}

    def _vocabulary_ids(self):
        if self._ids is None:
            raise ValueError(
                "`vocabulary` must be given, or found by `adapt`. Received: vocabulary=None"
            )
        return self._ids


def _ids(vocabulary):
    """A dict of each word's id, from 1 on."""
    words = list(vocabulary) if isinstance(vocabulary, (list, tuple)) else []
    ids = {word: i for i, word in enumerate(words, 1) if isinstance(word, str)}
    if not ids or len(ids) < len(words):
        raise ValueError(
            f"`vocabulary` must be a list of different words. Received: vocabulary={vocabulary!r}"
        )
    return ids
