"""Simulators: full-wave acoustics, and what sets its scenes up."""

from keras_zoo.simulators.ct_to_acoustic import ct_to_acoustic
from keras_zoo.simulators.focused_bowl import focused_bowl
from keras_zoo.simulators.kspace_solver import KSpaceSolver

__all__ = [
    "KSpaceSolver",
    "ct_to_acoustic",
    "focused_bowl",
]
