"""Trainers: procedures that train a model, or search what it is trained with."""

from keras_zoo.trainers.aldr_trainer import ALDRTrainer
from keras_zoo.trainers.density_search import DensitySearch
from keras_zoo.trainers.factored_output_trainer import FactoredOutputTrainer
from keras_zoo.trainers.metrix import Metrix

__all__ = [
    "ALDRTrainer",
    "DensitySearch",
    "FactoredOutputTrainer",
    "Metrix",
]
