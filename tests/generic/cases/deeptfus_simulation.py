"""The simulator of transcranial ultrasound, and the data that it makes."""

from keras_zoo import datasets, ops, simulators
from tests.generic._cases import PlainCase

PAPER = "deeptfus"

CASES = [
    PlainCase(ops.fftn, PAPER, "a function on pairs of tensors"),
    PlainCase(ops.ifftn, PAPER, "a function on pairs of tensors"),
    PlainCase(simulators.KSpaceSolver, PAPER, "a simulator, to numpy arrays"),
    PlainCase(simulators.focused_bowl, PAPER, "a function on numpy arrays"),
    PlainCase(simulators.ct_to_acoustic, PAPER, "a function on numpy arrays"),
    PlainCase(datasets.skull_phantoms, PAPER, "a data set"),
]
