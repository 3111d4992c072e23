"""Losses, layers, training procedures and models from published papers, on `keras.ops`."""

import importlib

from keras_zoo import layers, losses, metrics, ops, trainers
from keras_zoo._catalog import LAZY_ROOMS, list_components
from keras_zoo._presets import list_presets

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "callbacks",
    "datasets",
    "layers",
    "list_components",
    "list_presets",
    "losses",
    "metrics",
    "models",
    "ops",
    "samplers",
    "simulators",
    "trainers",
]


def __getattr__(name):
    if name in LAZY_ROOMS:
        return importlib.import_module(f"keras_zoo.{name}")
    raise AttributeError(f"module 'keras_zoo' has no attribute {name!r}")


def __dir__():
    return __all__
