"""Data sets that are computed, or come with a package of the package index."""

from keras_zoo.datasets.rated_texts import rated_texts
from keras_zoo.datasets.skull_phantoms import skull_phantoms

__all__ = [
    "rated_texts",
    "skull_phantoms",
]
