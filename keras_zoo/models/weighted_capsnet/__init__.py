"""Capsule networks over texts of several domains."""

from keras_zoo.models._presets import register_presets
from keras_zoo.models.weighted_capsnet.capsule_text_classifier import CapsuleTextClassifier
from keras_zoo.models.weighted_capsnet.weighted_capsule_ensemble import WeightedCapsuleEnsemble
from keras_zoo.models.weighted_capsnet.weighted_capsule_text_classifier import (
    WeightedCapsuleTextClassifier,
)
from keras_zoo.models.weighted_capsnet.weighted_capsule_text_classifier_preprocessor import (
    WeightedCapsuleTextClassifierPreprocessor,
)

register_presets(WeightedCapsuleEnsemble)

__all__ = [
    "CapsuleTextClassifier",
    "WeightedCapsuleEnsemble",
    "WeightedCapsuleTextClassifier",
    "WeightedCapsuleTextClassifierPreprocessor",
]
