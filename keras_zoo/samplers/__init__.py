"""Samplers: data sets that decide what stands in a batch."""

from keras_zoo.samplers.class_balanced_sampler import ClassBalancedSampler

__all__ = ["ClassBalancedSampler"]
