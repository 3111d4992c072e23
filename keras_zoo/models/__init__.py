"""Whole models in keras-hub's form, with presets; needs the extra `models`."""

try:
    import keras_hub  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_zoo.models needs keras-hub: `pip install keras-zoo[models]`"
    ) from error

from keras_zoo.models._presets import golden_difference
from keras_zoo.models.dncnn import DnCNNBackbone, DnCNNDenoiser

__all__ = ["DnCNNBackbone", "DnCNNDenoiser", "golden_difference"]
