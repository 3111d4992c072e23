"""Words of texts in Latin, Arabic and Persian."""

# ruff: noqa: RUF001

import pytest

from keras_zoo.models._words import as_strings, split_words

HALF = "\u200c"


def test_words_and_signs():
    assert split_words("It's SO good:-) 10/10!!") == [
        "it's",
        "so",
        "good",
        ":-)",
        "10",
        "/",
        "10",
        "!!",
    ]
    assert split_words("So", lowercase=False) == ["So"]
    assert split_words(" \n\u200f") == []
    # A mark of its own on the letter, as some keyboards write it.
    assert split_words("cafe\u0301 noir") == ["cafe\u0301", "noir"]


def test_a_persian_sentence():
    # "I do not like these phones; I gave 25 tomans!", yeh and kaf of an Arabic keyboard.
    text = f"اين گوشي{HALF}ها را دوست نمي{HALF}{HALF}دارم؛ ۲۵ تومان دادم! كتاب\u200f"
    words = split_words(text, script="persian")
    assert words == [
        "این",
        f"گوشی{HALF}ها",
        "را",
        "دوست",
        f"نمی{HALF}دارم",
        "؛",
        "25",
        "تومان",
        "دادم",
        "!",
        "کتاب",
    ]
    # Alef with madda is another letter, though it may come in two signs.
    assert split_words("آب ا\u0653ب", script="persian") == ["آب", "آب"]
    # Half-spaces at the edge of a word belong to none.
    assert split_words(f"{HALF}خوب{HALF} {HALF}", script="persian") == ["خوب"]


def test_an_arabic_sentence():
    # "The phone is excellent, and the service was very beautiful (5 of 5)", with vowels, tatweel.
    text = "الهَاتِفُ مُمتـــاز، وكانت الخِدمَةُ جميلةً جدًّا (٥ من ٥)"
    words = split_words(text, script="arabic")
    assert " ".join(words) == "الهاتف ممتاز ، وكانت الخدمه جميله جدا ( 5 من 5 )"
    assert split_words("أحمد إلى آخر ٱسم", script="arabic") == ["احمد", "الي", "اخر", "اسم"]
    # Forms of letters that stand beside others, and two letters in one sign.
    assert split_words("\ufeb3\ufefc\ufee1", script="arabic") == ["سلام"]


def test_letters_stay_as_they_are_without_a_script():
    # Marks on the letters do not tear the word.
    assert split_words("مُحَمَّد ٥ كتاب") == ["مُحَمَّد", "٥", "كتاب"]
    for script in ("arabic", "persian"):
        assert split_words("café 12 :)", script=script) == ["café", "12", ":)"]


def test_texts_of_many_kinds():
    assert as_strings("a") == as_strings(b"a") == as_strings(("a",)) == ["a"]
    with pytest.raises(ValueError, match=r"`x`.*Received: int"):
        as_strings([1, "a"])
