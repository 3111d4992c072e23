"""Numerics that have a name of their own."""

from keras_zoo.ops.distribution import all_gather
from keras_zoo.ops.gradients import input_gradient, value_and_grad
from keras_zoo.ops.icnn import icnn_score
from keras_zoo.ops.masked import masked_logsumexp
from keras_zoo.ops.scatter import scatter_add_rows

__all__ = [
    "all_gather",
    "icnn_score",
    "input_gradient",
    "masked_logsumexp",
    "scatter_add_rows",
    "value_and_grad",
]
