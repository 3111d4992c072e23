"""Whole models in keras-hub's form, with presets; needs the extra `models`."""

try:
    import keras_hub  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_zoo.models needs keras-hub: `pip install keras-zoo[models]`"
    ) from error

from keras_zoo.models._presets import golden_difference, write_golden
from keras_zoo.models.biofusionnet import (
    BioFusionNetBackbone,
    BioFusionNetRiskPredictor,
    FusionVAE,
)
from keras_zoo.models.conformal_quantile_calibrator import ConformalQuantileCalibrator
from keras_zoo.models.deeptfus import (
    DeepTFUSBackbone,
    DeepTFUSPressureEstimator,
    DeepTFUSPressureEstimatorPreprocessor,
)
from keras_zoo.models.dncnn import DnCNNBackbone, DnCNNDenoiser
from keras_zoo.models.dwffnet import (
    DWFFNetBackbone,
    DWFFNetImageConverter,
    DWFFNetImageSegmenter,
    DWFFNetImageSegmenterPreprocessor,
)
from keras_zoo.models.hyp_oc import HypOCAnomalyDetector, HypOCBackbone
from keras_zoo.models.stacked_embedding import (
    StackedEmbeddingBackbone,
    StackedEmbeddingClassifier,
    StackedEmbeddingPreprocessor,
    SubwordEncoder,
    WordVectors,
)
from keras_zoo.models.weighted_capsnet import (
    CapsuleTextClassifier,
    WeightedCapsuleEnsemble,
    WeightedCapsuleTextClassifier,
    WeightedCapsuleTextClassifierPreprocessor,
)

__all__ = [
    "BioFusionNetBackbone",
    "BioFusionNetRiskPredictor",
    "CapsuleTextClassifier",
    "ConformalQuantileCalibrator",
    "DWFFNetBackbone",
    "DWFFNetImageConverter",
    "DWFFNetImageSegmenter",
    "DWFFNetImageSegmenterPreprocessor",
    "DeepTFUSBackbone",
    "DeepTFUSPressureEstimator",
    "DeepTFUSPressureEstimatorPreprocessor",
    "DnCNNBackbone",
    "DnCNNDenoiser",
    "FusionVAE",
    "HypOCAnomalyDetector",
    "HypOCBackbone",
    "StackedEmbeddingBackbone",
    "StackedEmbeddingClassifier",
    "StackedEmbeddingPreprocessor",
    "SubwordEncoder",
    "WeightedCapsuleEnsemble",
    "WeightedCapsuleTextClassifier",
    "WeightedCapsuleTextClassifierPreprocessor",
    "WordVectors",
    "golden_difference",
    "write_golden",
]
