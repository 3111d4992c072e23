"""Capsule networks over texts of several domains."""

from keras_zoo.models.weighted_capsnet.capsule_text_classifier import CapsuleTextClassifier
from keras_zoo.models.weighted_capsnet.weighted_capsule_ensemble import WeightedCapsuleEnsemble

__all__ = ["CapsuleTextClassifier", "WeightedCapsuleEnsemble"]
