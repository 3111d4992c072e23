"""Where the classes of a segmentation meet."""

import functools
from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count

Tensor = Any

BORDERS = ("constant", "symmetric")
OUTSIDE = -1  # A class of its own, which the frame of an image meets.


@component(paper="cw-bass")
def label_boundaries(labels: Tensor, num_classes: int, border: str = "constant") -> Tensor:
    """Marks the pixels at which the mask of any class has an edge.

    With `S` the Sobel filter `[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]` and `*` the convolution over an
    image:

        m = 1 where (S * [labels = k]) or (S^T * [labels = k]) is not 0 for any class k, else 0

    No mask is made: no class responds where the labels on both sides of a pixel, weighed by 1, 2
    and 1, are the same. Memory is that of nine maps of labels, whatever the number of classes.

    Args:
        labels: ints `(B, H, W)`. Those outside of `[0, num_classes)` count as the nearest class:
            255, which often stands for "unknown", as the last one.
        num_classes: int > 0.
        border: what is beyond the image: "constant" for no class, so that its whole frame is a
            boundary; "symmetric" for what is at its edge, so that a frame of one class is none.

    Returns:
        `(B, H, W)`, float32, of 0 and 1. `H` and `W` are any; an image of one pixel has no
        boundary, since both of its sides are alike.

    Raises:
        ValueError: `labels` are no ints or not `(B, H, W)`; another argument is out of its range.

    Example:
    >>> labels = [[[0, 0, 0, 1, 1]] * 5]
    >>> m = keras_zoo.ops.label_boundaries(labels, 2, border="symmetric")
    >>> keras.ops.convert_to_numpy(m)[0, 0].tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0]

    Reference: arXiv:2502.15152; github.com/psychofict/CW-BASS. Differs from the official code:
    none; "symmetric" is added.
    """
    num_classes = check_count("num_classes", num_classes)
    check_choice("border", border, BORDERS)
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if "int" not in dtype or len(labels.shape) != 3:
        raise ValueError(
            "`labels` must be ints `(B, H, W)`. "
            f"Received: labels of shape {tuple(labels.shape)} and dtype {dtype}"
        )
    labels = ops.clip(ops.cast(labels, "int32"), 0, num_classes - 1)
    padded = _padded_columns(_padded_rows(labels, border), border)
    places = (slice(0, -2), slice(1, -1), slice(2, None))
    # The nine neighbours of all pixels, each a map of labels.
    (a, b, c), (d, _, e), (f, g, h) = [[padded[:, i, j] for j in places] for i in places]
    flat = ops.logical_and(_same_weights(a, d, f, c, e, h), _same_weights(a, b, c, f, g, h))
    return ops.cast(ops.logical_not(flat), "float32")


def _padded_rows(labels: Tensor, border: str) -> Tensor:
    """One more row above and below."""
    top, bottom = labels[:, :1], labels[:, -1:]
    if border == "constant":
        top = bottom = ops.full_like(top, OUTSIDE)
    return ops.concatenate([top, labels, bottom], axis=1)


def _padded_columns(labels: Tensor, border: str) -> Tensor:
    """One more column on the left and on the right."""
    left, right = labels[:, :, :1], labels[:, :, -1:]
    if border == "constant":
        left = right = ops.full_like(left, OUTSIDE)
    return ops.concatenate([left, labels, right], axis=2)


def _same_weights(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    """Whether `a, b, b, c` are `d, e, e, f` in some order."""
    ends = ops.logical_or(_all_equal((a, d), (c, f)), _all_equal((a, f), (c, d)))
    straight = ops.logical_and(ends, ops.equal(b, e))
    # The middle of one side is both ends of the other.
    return ops.logical_or(straight, _all_equal((a, c), (c, e), (d, f), (f, b)))


def _all_equal(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Where all of these pairs are of equal labels."""
    return functools.reduce(ops.logical_and, (ops.equal(one, other) for one, other in pairs))
