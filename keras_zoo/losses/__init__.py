"""Losses for `model.compile`: pure functions of `(y_true, y_pred)`."""

from keras_zoo.losses.aldr_loss import ALDRLoss
from keras_zoo.losses.any_loss import AnyLoss
from keras_zoo.losses.binomial_deviance_loss import BinomialDevianceLoss
from keras_zoo.losses.combined_loss import CombinedLoss
from keras_zoo.losses.comp_sum_loss import CompSumLoss
from keras_zoo.losses.confidence_weighted_boundary_loss import ConfidenceWeightedBoundaryLoss
from keras_zoo.losses.contrastive_loss import ContrastiveLoss
from keras_zoo.losses.cwcl_loss import CWCLLoss
from keras_zoo.losses.dice_focal_loss import DiceFocalLoss
from keras_zoo.losses.hybrid_multi_label_loss import HybridMultiLabelLoss
from keras_zoo.losses.hyperbolic_pairwise_confusion_loss import HyperbolicPairwiseConfusionLoss
from keras_zoo.losses.icnn_loss import ICNNLoss
from keras_zoo.losses.info_nce_loss import InfoNCELoss
from keras_zoo.losses.ldr_loss import LDRLoss
from keras_zoo.losses.lifted_structure_loss import LiftedStructureLoss
from keras_zoo.losses.mann_whitney_loss import MannWhitneyLoss
from keras_zoo.losses.mann_whitney_retrieval_loss import MannWhitneyRetrievalLoss
from keras_zoo.losses.margin_loss import MarginLoss
from keras_zoo.losses.margin_softmax_loss import MarginSoftmaxLoss
from keras_zoo.losses.metrix_embedding_loss import metrix_embedding_loss
from keras_zoo.losses.multi_similarity_loss import MultiSimilarityLoss
from keras_zoo.losses.n_pair_loss import NPairLoss
from keras_zoo.losses.pair_based_loss import PairBasedLoss
from keras_zoo.losses.pressure_field_loss import PressureFieldLoss
from keras_zoo.losses.proto_triplet_loss import ProtoTripletLoss
from keras_zoo.losses.prototypical_loss import PrototypicalLoss
from keras_zoo.losses.quantile_loss import QuantileLoss
from keras_zoo.losses.smooth_adversarial_comp_sum_loss import SmoothAdversarialCompSumLoss
from keras_zoo.losses.taylor_softmax_loss import TaylorSoftmaxLoss
from keras_zoo.losses.triplet_loss import TripletLoss
from keras_zoo.losses.unpg_loss import UNPGLoss
from keras_zoo.losses.weighted_cox_loss import WeightedCoxLoss
from keras_zoo.losses.z_loss import ZLoss

__all__ = [
    "ALDRLoss",
    "AnyLoss",
    "BinomialDevianceLoss",
    "CWCLLoss",
    "CombinedLoss",
    "CompSumLoss",
    "ConfidenceWeightedBoundaryLoss",
    "ContrastiveLoss",
    "DiceFocalLoss",
    "HybridMultiLabelLoss",
    "HyperbolicPairwiseConfusionLoss",
    "ICNNLoss",
    "InfoNCELoss",
    "LDRLoss",
    "LiftedStructureLoss",
    "MannWhitneyLoss",
    "MannWhitneyRetrievalLoss",
    "MarginLoss",
    "MarginSoftmaxLoss",
    "MultiSimilarityLoss",
    "NPairLoss",
    "PairBasedLoss",
    "PressureFieldLoss",
    "ProtoTripletLoss",
    "PrototypicalLoss",
    "QuantileLoss",
    "SmoothAdversarialCompSumLoss",
    "TaylorSoftmaxLoss",
    "TripletLoss",
    "UNPGLoss",
    "WeightedCoxLoss",
    "ZLoss",
    "metrix_embedding_loss",
]
