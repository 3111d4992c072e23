"""Layers: everything with weights or other state that a network learns."""

from keras_zoo.layers.cosine_classifier import CosineClassifier
from keras_zoo.layers.fold_weighted_conv import fold_weighted_conv
from keras_zoo.layers.logit_scale import LogitScale
from keras_zoo.layers.to_weighted_conv import to_weighted_conv
from keras_zoo.layers.weighted_conv import WeightedConv1D, WeightedConv2D, WeightedConv3D

__all__ = [
    "CosineClassifier",
    "LogitScale",
    "WeightedConv1D",
    "WeightedConv2D",
    "WeightedConv3D",
    "fold_weighted_conv",
    "to_weighted_conv",
]
