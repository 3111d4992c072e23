"""Data sets that are computed, not downloaded."""

from keras_zoo.datasets.skull_phantoms import skull_phantoms

__all__ = [
    "skull_phantoms",
]
