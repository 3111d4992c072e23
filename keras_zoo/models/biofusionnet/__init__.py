"""BioFusionNet: survival risk from images, genes and clinical data."""

from keras_zoo.models._presets import register_presets
from keras_zoo.models.biofusionnet.biofusionnet_backbone import BioFusionNetBackbone
from keras_zoo.models.biofusionnet.biofusionnet_risk_predictor import BioFusionNetRiskPredictor
from keras_zoo.models.biofusionnet.fusion_vae import FusionVAE

__all__ = ["BioFusionNetBackbone", "BioFusionNetRiskPredictor", "FusionVAE"]

register_presets(BioFusionNetBackbone)
