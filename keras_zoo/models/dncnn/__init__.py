"""DnCNN: image denoising by predicting the noise."""

from keras_zoo.models._presets import register_presets
from keras_zoo.models.dncnn.dncnn_backbone import DnCNNBackbone
from keras_zoo.models.dncnn.dncnn_denoiser import DnCNNDenoiser

__all__ = ["DnCNNBackbone", "DnCNNDenoiser"]

register_presets(DnCNNBackbone)
