"""Hyp-OC: telling what is genuine from all else, in hyperbolic space."""

from keras_zoo.models._presets import register_presets
from keras_zoo.models.hyp_oc.hyp_oc_anomaly_detector import HypOCAnomalyDetector
from keras_zoo.models.hyp_oc.hyp_oc_backbone import HypOCBackbone

__all__ = ["HypOCAnomalyDetector", "HypOCBackbone"]

register_presets(HypOCBackbone)
