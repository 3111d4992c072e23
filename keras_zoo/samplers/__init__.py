"""Samplers: data sets that decide what stands in a batch."""

from keras_zoo.samplers.class_balanced_sampler import ClassBalancedSampler
from keras_zoo.samplers.episode_sampler import EpisodeSampler

__all__ = [
    "ClassBalancedSampler",
    "EpisodeSampler",
]
