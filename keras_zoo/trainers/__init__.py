"""Trainers: procedures that train a model, or search what it is trained with."""

from keras_zoo.trainers.aldr_trainer import ALDRTrainer
from keras_zoo.trainers.cw_bass import CWBASS
from keras_zoo.trainers.density_search import DensitySearch
from keras_zoo.trainers.ens_loss_trainer import EnsLossTrainer
from keras_zoo.trainers.factored_output_trainer import FactoredOutputTrainer
from keras_zoo.trainers.hyp_oc import HypOC
from keras_zoo.trainers.metrix import Metrix
from keras_zoo.trainers.smooth_adversarial_trainer import SmoothAdversarialTrainer
from keras_zoo.trainers.stacked_quantile_regressor import StackedQuantileRegressor

__all__ = [
    "CWBASS",
    "ALDRTrainer",
    "DensitySearch",
    "EnsLossTrainer",
    "FactoredOutputTrainer",
    "HypOC",
    "Metrix",
    "SmoothAdversarialTrainer",
    "StackedQuantileRegressor",
]
