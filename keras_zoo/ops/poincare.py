"""Points and directions of the Poincare ball, a model of hyperbolic space."""

import math
from typing import Any

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.ops._precision import full_precision

Tensor = Any

SHORTEST = 1e-5  # Norms are divided by at least this.
EDGE = 1e-3  # How far from the edge points are kept, as a part of the radius.
EPSILON = 1e-5  # Keeps the denominator of an addition away from 0.
LARGEST_TANH = 15.0
LARGEST_ARTANH = 1 - 1e-5


@component(paper="hyp-oc")
def poincare_project(x: Tensor, c: float = 1.0) -> Tensor:
    """Brings points that are outside of the ball, or all but on its edge, back into it.

        x                                      if |x| <= (1 - 1e-3) / sqrt c
        x / |x| * (1 - 1e-3) / sqrt c          otherwise

    Args:
        x: `(..., d)`, finite.
        c: float > 0. Curvature; the ball has the radius `1 / sqrt c`.

    Returns:
        Tensor of the shape of `x`, float32 (float64 for such). NaN stays NaN.

    Raises:
        ValueError: `c` is no positive number, `x` has no axis.

    Example:
    >>> keras_zoo.ops.poincare_project([3.0, 4.0])  # [0.5994, 0.7992]

    Reference: arXiv:2404.14406; github.com/Kartik-3004/hyp-oc, `hyptorch`.
    """
    (x,) = checked_points(c, x=x)
    norm = ops.maximum(safe_norm(x), SHORTEST)
    radius = (1 - EDGE) / math.sqrt(c)
    return ops.where(norm > radius, x / norm * radius, x)


@component(paper="hyp-oc")
def mobius_add(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    """Sum of two points of the ball: where `y` lies, seen from `x` as the centre.

                  (1 + 2c<x,y> + c|y|^2) x + (1 - c|x|^2) y
        x (+) y = -------------------------------------------
                    1 + 2c<x,y> + c^2 |x|^2 |y|^2 + 1e-5

    It has `0` as its zero and `-x` as the opposite of `x`, but is not commutative. As `c` goes to
    0 it becomes `x + y`.

    Args:
        x: `(..., d)`, inside of the ball.
        y: likewise; the leading axes broadcast.
        c: float > 0. Curvature; the ball has the radius `1 / sqrt c`.

    Returns:
        `(..., d)`, float32 (float64 for such). NaN stays NaN.

    Raises:
        ValueError: `c` is no positive number, the last axes differ.

    Example:
    >>> keras_zoo.ops.mobius_add([0.5, 0.0], [0.5, 0.0])  # [0.8, 0.0]

    Reference: arXiv:2404.14406; github.com/Kartik-3004/hyp-oc, `hyptorch`. The 1e-5 is theirs.
    """
    x, y = checked_points(c, x=x, y=y)
    return _add(x, y, c)


@component(paper="hyp-oc")
def poincare_expmap0(u: Tensor, c: float = 1.0) -> Tensor:
    """The point at which the way from the centre of the ball along `u` ends.

        tanh(sqrt c |u|) u / (sqrt c |u|)

    Args:
        u: `(..., d)`, directions of any length; 0 leads to the centre, and has a finite gradient.
        c: float > 0. Curvature; the ball has the radius `1 / sqrt c`.

    Returns:
        Tensor of the shape of `u`, float32 (float64 for such). Long ways end on the edge, up to
        rounding: see `poincare_project`. NaN stays NaN.

    Raises:
        ValueError: `c` is no positive number, `u` has no axis.

    Example:
    >>> keras_zoo.ops.poincare_expmap0([1.0, 0.0])  # [0.7616, 0.0]

    Reference: arXiv:2404.14406; github.com/Kartik-3004/hyp-oc, `hyptorch`.
    """
    (u,) = checked_points(c, u=u)
    return _step(u, 1.0, c)


@component(paper="hyp-oc")
def poincare_expmap(x: Tensor, u: Tensor, c: float = 1.0) -> Tensor:
    """The point at which the way from `x` along `u` ends.

        x (+) tanh(sqrt c lambda |u| / 2) u / (sqrt c |u|),    lambda = 2 / (1 - c|x|^2)

    with `(+)` that of `mobius_add`. At `x = 0` it is `poincare_expmap0`.

    Args:
        x: `(..., d)`, inside of the ball.
        u: directions, likewise, of any length; the leading axes broadcast.
        c: float > 0. Curvature; the ball has the radius `1 / sqrt c`.

    Returns:
        `(..., d)`, float32 (float64 for such). NaN stays NaN.

    Raises:
        ValueError: `c` is no positive number, the last axes differ.

    Example:
    >>> keras_zoo.ops.poincare_expmap([0.5, 0.0], [0.75, 0.0])  # [0.9137, 0.0]

    Reference: arXiv:2404.14406; github.com/Kartik-3004/hyp-oc, `hyptorch`.
    """
    x, u = checked_points(c, x=x, u=u)
    # On the edge the factor is infinite, and its product with the gradient of tanh no number.
    room = ops.maximum(1 - c * ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-7)
    return _add(x, _step(u, 1 / room, c), c)


@component(paper="hyp-oc")
def poincare_distance(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    """Length of the shortest way between two points of the ball.

        2 / sqrt c  artanh(sqrt c |-x (+) y|)

    with `(+)` that of `mobius_add`.

    Args:
        x: `(..., d)`, inside of the ball.
        y: likewise; the leading axes broadcast.
        c: float > 0. Curvature; the ball has the radius `1 / sqrt c`. As it goes to 0, the
            distance becomes `2 |x - y|`.

    Returns:
        `(...)`, float32 (float64 for such). Equal points are at 0, up to rounding; their gradient
        is finite, and 0 where the difference is exactly that. The argument of artanh is at most
        1 - 1e-5: no distance is above `12.2 / sqrt c`, and there the gradient is 0. NaN stays NaN.

    Raises:
        ValueError: `c` is no positive number, the last axes differ.

    Example:
    >>> keras_zoo.ops.poincare_distance([0.0, 0.0], [0.5, 0.0])  # 1.0986

    Reference: arXiv:2404.14406; github.com/Kartik-3004/hyp-oc, `hyptorch`.
    """
    chord = chord_length(x, y, c)
    # A comparison keeps NaN, as a minimum need not.
    inside = ops.where(chord > LARGEST_ARTANH, LARGEST_ARTANH, chord)
    return 2 / math.sqrt(c) * ops.arctanh(inside)


def chord_length(x: Tensor, y: Tensor, c: float) -> Tensor:
    """`sqrt c |-x (+) y|`, from 0 to 1, `(...)`."""
    chord = safe_norm(mobius_add(ops.negative(x), y, c))[..., 0]  # It checks `c`.
    return math.sqrt(c) * chord


def safe_norm(x: Tensor) -> Tensor:
    """Norms over the last axis, which stays; 0 has the gradient 0, and no square overflows."""
    # Not by the maximum, which TensorFlow does not take of no rows.
    size = ops.stop_gradient(ops.sum(ops.abs(x), axis=-1, keepdims=True))
    # Between the bounds the reciprocal, by which compilers multiply instead, is a normal number.
    size = ops.where(size > 1e-30, ops.minimum(size, 1e30), 1.0)
    squares = ops.sum(ops.square(x / size), axis=-1, keepdims=True)
    nothing = ops.equal(squares, 0)
    return size * ops.where(nothing, 0.0, ops.sqrt(ops.where(nothing, 1.0, squares)))


def clip_norm(x: Tensor, radius: float) -> Tensor:
    """Vectors of the last axis, made shorter where they are longer than `radius`."""
    return x * ops.minimum(radius / (safe_norm(x) + SHORTEST), 1.0)


def checked_points(c: float, **points: Tensor) -> list[Tensor]:
    """The points in full precision, after a look at the curvature and at their last axes."""
    check_number("c", c, positive=True)
    found = {name: full_precision(x) for name, x in points.items()}
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in found.values()}
    if len(dtypes) > 1:
        found = {name: ops.cast(x, "float64") for name, x in found.items()}
    shapes = {name: tuple(x.shape) for name, x in found.items()}
    sizes = {shape[-1] if shape else 0 for shape in shapes.values()} - {None}
    if len(sizes) > 1 or 0 in sizes:
        names = " and ".join(f"`{name}`" for name in points)
        received = ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"{names} must be `(..., d)`, with one and the same d. Received: {received}"
        )
    return list(found.values())


def _add(x: Tensor, y: Tensor, c: float) -> Tensor:
    """`mobius_add` of points that are checked."""
    xy, xx, yy = (ops.sum(a * b, axis=-1, keepdims=True) for a, b in ((x, y), (x, x), (y, y)))
    numerator = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    return numerator / (1 + 2 * c * xy + c * xx * c * yy + EPSILON)


def _step(u: Tensor, stretch: Tensor | float, c: float) -> Tensor:
    """`tanh(sqrt c stretch |u|) u / (sqrt c |u|)`."""
    length = math.sqrt(c) * ops.maximum(safe_norm(u), SHORTEST)
    return ops.tanh(ops.minimum(stretch * length, LARGEST_TANH)) * (u / length)
