"""Canvases of one or two of the MNIST digits 0 to 4, whose pixels are to be told apart."""

import numpy as np
from _digits import mnist

DIGITS = 5
# Digits are in an order that stays; the parts share none.
TRAINING, VALIDATION, TEST = slice(1600), slice(1600, 2000), slice(2000, 2500)


def shuffled_digits():
    """Ink `(2500, 28, 28)` in [0, 255] and digits `(2500,)`, in a random order that stays."""
    pixels, labels = mnist()
    order = np.random.default_rng(0).permutation(np.flatnonzero(labels < DIGITS))
    return pixels[order].reshape(-1, 28, 28), labels[order]


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


def batches(labeled, unlabeled, seed, size=8):
    """Endless random batches of `size` images with labels and as many without, for `CWBASS`."""
    rng = np.random.default_rng(seed)
    while True:
        rows, others = (rng.integers(len(x), size=size) for x in (labeled[0], unlabeled))
        yield {"labeled": labeled[0][rows], "unlabeled": unlabeled[others]}, labeled[1][rows]
