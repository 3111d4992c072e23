"""Losses for `model.compile`: pure functions of `(y_true, y_pred)`."""

from keras_zoo.losses.binomial_deviance_loss import BinomialDevianceLoss
from keras_zoo.losses.contrastive_loss import ContrastiveLoss
from keras_zoo.losses.lifted_structure_loss import LiftedStructureLoss
from keras_zoo.losses.multi_similarity_loss import MultiSimilarityLoss
from keras_zoo.losses.n_pair_loss import NPairLoss
from keras_zoo.losses.pair_based_loss import PairBasedLoss
from keras_zoo.losses.triplet_loss import TripletLoss

__all__ = [
    "BinomialDevianceLoss",
    "ContrastiveLoss",
    "LiftedStructureLoss",
    "MultiSimilarityLoss",
    "NPairLoss",
    "PairBasedLoss",
    "TripletLoss",
]
