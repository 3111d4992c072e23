"""Texts as lists of words, in scripts from left and from right."""

import re
import unicodedata

import numpy as np

SCRIPTS = ("arabic", "persian")

# Signs that stand on letters, which Python does not count as parts of words: Latin's, Arabic's.
_MARKS = (
    "\u0300-\u036f"
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
)
_LETTERS = rf"\w[\w{_MARKS}]*"
# The zero-width non-joiner, in Persian the half-space within a word.
_HALF_SPACE = "\u200c"
# Words with inner apostrophes and half-spaces, and runs of other signs, such as emoticons.
_WORD = re.compile(rf"{_LETTERS}(?:['\u2019{_HALF_SPACE}]{_LETTERS})*|[^\w\s{_HALF_SPACE}]+")
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_HALF_SPACES = re.compile(f"{_HALF_SPACE}{{2,}}")

_DIGITS = {ord(digit): str(i % 10) for i, digit in enumerate("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹")}
_TATWEEL = {0x0640: None}
# By their code points, since the letters of a pair look alike.
_FORMS = {
    # Alef with madda, hamza above, hamza below, wasla; alef maksura; teh marbuta.
    "arabic": {
        0x0622: "\u0627",
        0x0623: "\u0627",
        0x0625: "\u0627",
        0x0671: "\u0627",
        0x0649: "\u064a",
        0x0629: "\u0647",
    },
    # Alef with hamza above, hamza below, wasla; kaf; yeh, alef maksura; teh marbuta, heh with yeh.
    "persian": {
        0x0623: "\u0627",
        0x0625: "\u0627",
        0x0671: "\u0627",
        0x0643: "\u06a9",
        0x064A: "\u06cc",
        0x0649: "\u06cc",
        0x0629: "\u0647",
        0x06C0: "\u0647",
    },
}


def normalized(text, script):
    """One form for what Arabic script writes in several.

    Joined forms of letters become letters, digits 0 to 9; tatweel and the marks on letters go.
    "arabic" takes alef without hamza and madda, yeh for alef maksura, heh for teh marbuta;
    "persian" takes Persian kaf and yeh for the Arabic, and keeps alef with madda.
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join(unicodedata.normalize("NFKC", c) if _is_joined(c) else c for c in text)
    text = text.translate({**_DIGITS, **_TATWEEL, **_FORMS[script]})
    return "".join(c for c in text if not ("\u0600" <= c <= "\u08ff" and unicodedata.combining(c)))


def split_words(text, lowercase=True, script=None):
    """The words of a text: letters, digits and inner apostrophes, or runs of other signs.

    Words of Persian that a half-space divides stay whole; marks of direction are left out.

    Args:
        text: str.
        lowercase: bool.
        script: one of `SCRIPTS`, see `normalized`, or None to leave letters as they are.
    """
    text = _HALF_SPACES.sub(_HALF_SPACE, _DIRECTIONS.sub("", text))
    if lowercase:
        text = text.lower()
    return _WORD.findall(normalized(text, script) if script else text)


def as_strings(x):
    """A list of Python strings of a text, or of a list, array or tensor of texts."""
    if isinstance(x, (str, bytes)):
        x = [x]
    if not isinstance(x, (list, tuple, np.ndarray)):
        x = x.numpy() if hasattr(x, "numpy") else np.asarray(x)
    texts = np.asarray(x, dtype=object).tolist()
    texts = texts if isinstance(texts, list) else [texts]
    texts = [text.decode("utf-8") if isinstance(text, bytes) else text for text in texts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"`x` must be a text, or a list of texts. Received: {type(texts[0]).__name__}"
        )
    return texts


def _is_joined(c):
    """Whether a character is a form that a letter takes beside others."""
    return "\ufb50" <= c <= "\ufdff" or "\ufe70" <= c <= "\ufefc"
