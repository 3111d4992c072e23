"""DWFF-Net: segmentation from several depths of a frozen vision transformer."""

from keras_zoo.models._presets import register_presets
from keras_zoo.models.dwffnet.dwffnet_backbone import DWFFNetBackbone
from keras_zoo.models.dwffnet.dwffnet_image_converter import DWFFNetImageConverter
from keras_zoo.models.dwffnet.dwffnet_image_segmenter import DWFFNetImageSegmenter
from keras_zoo.models.dwffnet.dwffnet_image_segmenter_preprocessor import (
    DWFFNetImageSegmenterPreprocessor,
)

__all__ = [
    "DWFFNetBackbone",
    "DWFFNetImageConverter",
    "DWFFNetImageSegmenter",
    "DWFFNetImageSegmenterPreprocessor",
]

register_presets(DWFFNetBackbone)
