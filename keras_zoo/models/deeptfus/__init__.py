"""DeepTFUS: the pressure field of focused ultrasound through a skull, from CT and transducer."""

from keras_zoo.models._presets import register_presets
from keras_zoo.models.deeptfus.deeptfus_backbone import DeepTFUSBackbone
from keras_zoo.models.deeptfus.deeptfus_pressure_estimator import DeepTFUSPressureEstimator
from keras_zoo.models.deeptfus.deeptfus_pressure_estimator_preprocessor import (
    DeepTFUSPressureEstimatorPreprocessor,
)

__all__ = [
    "DeepTFUSBackbone",
    "DeepTFUSPressureEstimator",
    "DeepTFUSPressureEstimatorPreprocessor",
]

register_presets(DeepTFUSBackbone)
