"""Fourier transforms over one, two or three axes, on pairs of real and imaginary parts."""

import math
from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component

Tensor = Any
Pair = tuple[Any, Any]


@component(paper="deeptfus")
def fftn(x: Pair, num_axes: int | None = None) -> Pair:
    """Discrete Fourier transform over the last one, two or three axes.

        X[k] = sum_j x[j] exp(-2 pi i (k_1 j_1 / N_1 + ... + k_n j_n / N_n))

    `keras.ops` has `fft` over one axis and `fft2` over two; this has three, and an inverse.

    Args:
        x: pair of tensors of one shape, the real and the imaginary part.
        num_axes: 1, 2 or 3, how many of the last axes are transformed. By default all.

    Returns:
        Pair of tensors of that shape, float32 (float64 for such, on backends that have it). One NaN
        makes a NaN of every number of its transform, in one part or in both.

    Raises:
        ValueError: `x` is no pair of one shape, or has no such axes.

    Example:
    >>> re, im = keras_zoo.ops.fftn((volume, keras.ops.zeros_like(volume)))  # as np.fft.fftn

    Reference: arXiv:2505.12998, whose simulator is made of these; `numpy.fft.fftn`.
    """
    pair, num_axes = _checked(x, num_axes)
    return _transform(pair, num_axes)


@component(paper="deeptfus")
def ifftn(x: Pair, num_axes: int | None = None) -> Pair:
    """Inverse of `fftn`.

        x[j] = 1 / (N_1 ... N_n)  sum_k X[k] exp(2 pi i (k_1 j_1 / N_1 + ... + k_n j_n / N_n))

    Args:
        x: pair of tensors of one shape, the real and the imaginary part.
        num_axes: 1, 2 or 3, how many of the last axes are transformed. By default all.

    Returns:
        Pair of tensors of that shape, as `fftn`.

    Raises:
        ValueError: `x` is no pair of one shape, or has no such axes.

    Example:
    >>> re, im = keras_zoo.ops.ifftn(keras_zoo.ops.fftn((volume, 0.0 * volume)))

    Reference: arXiv:2505.12998, whose simulator is made of these; `numpy.fft.ifftn`.
    """
    pair, num_axes = _checked(x, num_axes)
    return _inverse(pair, num_axes)


def half_spectrum(x: Tensor) -> Pair:
    """The half of a real array's transform that determines the other, at half the cost.

    Args:
        x: float32 or float64 tensor `(N_1, ..., N_n)`, n from 1 to 3.

    Returns:
        Pair of tensors `(N_n // 2 + 1, N_1, ..., N_{n-1})`: the last axis, which is cut, comes
        first, so that the others need not be moved.
    """
    pair = ops.rfft(x)
    others = len(x.shape) - 1
    if others == 0:
        return pair
    re, im = (ops.moveaxis(part, -1, 0) for part in pair)
    return _transform((re, im), others)


def from_half_spectrum(spectrum: Pair, size: int) -> Tensor:
    """Inverse of `half_spectrum`, of an array whose last axis has `size` elements."""
    others = len(spectrum[0].shape) - 1
    if others:
        re, im = _inverse(spectrum, others)
        spectrum = ops.moveaxis(re, 0, -1), ops.moveaxis(im, 0, -1)
    return ops.irfft(spectrum, size)


def _transform(x: Pair, num_axes: int) -> Pair:
    """`fftn` of what is checked."""
    if num_axes == 1:
        return ops.fft(x)
    x = ops.fft2(x)
    if num_axes == 2:
        return x
    re, im = ops.fft((ops.moveaxis(x[0], -3, -1), ops.moveaxis(x[1], -3, -1)))
    return ops.moveaxis(re, -1, -3), ops.moveaxis(im, -1, -3)


def _inverse(x: Pair, num_axes: int) -> Pair:
    """`ifftn` of what is checked: with the parts exchanged, the transform runs backwards."""
    count = math.prod(x[0].shape[-num_axes:])
    im, re = _transform((x[1], x[0]), num_axes)
    return re / count, im / count


def _checked(x: Any, num_axes: int | None) -> tuple[Pair, int]:
    """The pair in full precision, and how many axes to transform."""
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"`x` must be a pair (real, imaginary). Received: {type(x).__name__}")
    re, im = (ops.convert_to_tensor(part) for part in x)
    if tuple(re.shape) != tuple(im.shape):
        raise ValueError(
            "`x` must be a pair of tensors of one shape. "
            f"Received: shapes {tuple(re.shape)} and {tuple(im.shape)}"
        )
    rank = len(re.shape)
    wanted = rank if num_axes is None else num_axes
    if isinstance(wanted, bool) or wanted not in (1, 2, 3) or wanted > rank:
        raise ValueError(
            "`num_axes` must be 1, 2 or 3, and `x` have so many axes. "
            f"Received: num_axes={num_axes!r}, x of shape {tuple(re.shape)}"
        )
    if None in re.shape[rank - wanted :] or 0 in re.shape[rank - wanted :]:
        raise ValueError(
            "The axes of `x` that are transformed must have known lengths above 0. "
            f"Received: x of shape {tuple(re.shape)}"
        )
    dtypes = [keras.backend.standardize_dtype(part.dtype) for part in (re, im)]
    dtype = "float64" if "float64" in dtypes else "float32"
    return (ops.cast(re, dtype), ops.cast(im, dtype)), int(wanted)
