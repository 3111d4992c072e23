"""Numerics that have a name of their own."""

from keras_zoo.ops.distribution import all_gather
from keras_zoo.ops.ens_loss import ens_loss_derivatives
from keras_zoo.ops.fft import fftn, ifftn
from keras_zoo.ops.gradients import input_gradient, value_and_grad
from keras_zoo.ops.icnn import icnn_score
from keras_zoo.ops.label_boundaries import label_boundaries
from keras_zoo.ops.masked import masked_logsumexp
from keras_zoo.ops.monotone_quantiles import monotone_quantiles
from keras_zoo.ops.poincare import (
    mobius_add,
    poincare_distance,
    poincare_expmap,
    poincare_expmap0,
    poincare_project,
)
from keras_zoo.ops.projected_gradient_attack import projected_gradient_attack
from keras_zoo.ops.scatter import scatter_add_rows
from keras_zoo.ops.squash import squash

__all__ = [
    "all_gather",
    "ens_loss_derivatives",
    "fftn",
    "icnn_score",
    "ifftn",
    "input_gradient",
    "label_boundaries",
    "masked_logsumexp",
    "mobius_add",
    "monotone_quantiles",
    "poincare_distance",
    "poincare_expmap",
    "poincare_expmap0",
    "poincare_project",
    "projected_gradient_attack",
    "scatter_add_rows",
    "squash",
    "value_and_grad",
]
