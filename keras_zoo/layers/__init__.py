"""Layers: everything with weights or other state that a network learns."""

from keras_zoo.layers.capsule import Capsule
from keras_zoo.layers.capsule_length import CapsuleLength
from keras_zoo.layers.co_dual_cross_attention import CoDualCrossAttention
from keras_zoo.layers.cosine_classifier import CosineClassifier
from keras_zoo.layers.domain_belonging_degree import DomainBelongingDegree
from keras_zoo.layers.dynamic_depthwise_conv_3d import DynamicDepthwiseConv3D
from keras_zoo.layers.dynamic_weighted_fusion import DynamicWeightedFusion
from keras_zoo.layers.factored_dense import FactoredDense
from keras_zoo.layers.feature_wise_modulation import FeatureWiseModulation
from keras_zoo.layers.fold_weighted_conv import fold_weighted_conv
from keras_zoo.layers.fourier_position_encoding import FourierPositionEncoding
from keras_zoo.layers.gaussian_naive_bayes import GaussianNaiveBayes
from keras_zoo.layers.global_token_cross_attention_3d import GlobalTokenCrossAttention3D
from keras_zoo.layers.hyperbolic_mlr import HyperbolicMLR
from keras_zoo.layers.logit_scale import LogitScale
from keras_zoo.layers.monotone_quantiles import MonotoneQuantiles
from keras_zoo.layers.point_set_encoder import PointSetEncoder
from keras_zoo.layers.primary_capsule import PrimaryCapsule
from keras_zoo.layers.quantile_aggregation import QuantileAggregation
from keras_zoo.layers.self_attention_pooling import SelfAttentionPooling
from keras_zoo.layers.stacked_embedding import StackedEmbedding
from keras_zoo.layers.to_poincare_ball import ToPoincareBall
from keras_zoo.layers.to_weighted_conv import to_weighted_conv
from keras_zoo.layers.weighted_conv import WeightedConv1D, WeightedConv2D, WeightedConv3D

__all__ = [
    "Capsule",
    "CapsuleLength",
    "CoDualCrossAttention",
    "CosineClassifier",
    "DomainBelongingDegree",
    "DynamicDepthwiseConv3D",
    "DynamicWeightedFusion",
    "FactoredDense",
    "FeatureWiseModulation",
    "FourierPositionEncoding",
    "GaussianNaiveBayes",
    "GlobalTokenCrossAttention3D",
    "HyperbolicMLR",
    "LogitScale",
    "MonotoneQuantiles",
    "PointSetEncoder",
    "PrimaryCapsule",
    "QuantileAggregation",
    "SelfAttentionPooling",
    "StackedEmbedding",
    "ToPoincareBall",
    "WeightedConv1D",
    "WeightedConv2D",
    "WeightedConv3D",
    "fold_weighted_conv",
    "to_weighted_conv",
]
