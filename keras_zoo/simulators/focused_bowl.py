"""Voxels of a focused ultrasound transducer."""

import math

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_number
from keras_zoo.simulators import _arguments as check


@component(paper="deeptfus")
def focused_bowl(grid_shape, apex, focus, aperture, num_points=None):
    """Voxels of a spherical bowl: what radiates from all of them meets at the focus.

    With the radius of curvature `R = |focus - apex|` and the half angle `phi = arcsin(aperture /
    (2 R))`, points i = 0, ..., n - 1 wind from the apex to the rim in a golden spiral about the
    axis, evenly in area:

        cos theta_i = 1 - (1 - cos phi) i / (n - 1),    azimuth_i = i pi (3 - sqrt 5)

    Each is rounded to the nearest voxel, halves upwards. Voxels outside of the grid are left out.

    Args:
        grid_shape: tuple of 3 ints.
        apex: 3 floats, the middle of the bowl, in voxels. Whole numbers are the voxels' centres.
        focus: 3 floats, in voxels.
        aperture: float > 0, the diameter of the rim, in voxels, at most `2 R`.
        num_points: int > 0, n. By default 4 for each voxel's face of the bowl's area, rounded up,
            so that only voxels that the bowl grazes are missed.

    Returns:
        int64 array `(M, 3)` of voxels, in lexicographic order, each once. M is 0 if all are out.

    Raises:
        ValueError: an argument is out of its range, the focus is the apex, or the aperture is
            wider than the sphere.

    Example:
    >>> bowl = keras_zoo.simulators.focused_bowl((40, 40, 40), (4, 20, 20), (24, 20, 20), 24.0)
    >>> mask = np.zeros((40, 40, 40), bool)
    >>> mask[tuple(bowl.T)] = True

    Reference: arXiv:2505.12998, section 4.
    """
    grid_shape = check.check_grid_shape(grid_shape, ranks=(3,))
    apex, focus = check.point("apex", apex), check.point("focus", focus)
    check_number("aperture", aperture, positive=True)
    radius = float(np.linalg.norm(apex - focus))
    if radius == 0:
        raise ValueError(f"`focus` must differ from `apex`. Received: focus={tuple(focus)}")
    if aperture > 2 * radius:
        raise ValueError(
            f"`aperture` must be at most twice the distance from `apex` to `focus`, {2 * radius}. "
            f"Received: aperture={aperture!r}"
        )
    cap = 1 - math.cos(math.asin(aperture / (2 * radius)))
    if num_points is None:
        num_points = math.ceil(4 * 2 * math.pi * radius**2 * cap)
    num_points = check_count("num_points", num_points)
    i = np.arange(num_points)
    cos = 1 - cap * i / max(num_points - 1, 1)
    sin = np.sqrt(np.maximum(1 - cos**2, 0.0))
    azimuth = math.pi * (3 - math.sqrt(5)) * i
    axis, first, second = _frame((apex - focus) / radius)
    directions = (
        cos[:, None] * axis
        + (sin * np.cos(azimuth))[:, None] * first
        + (sin * np.sin(azimuth))[:, None] * second
    )
    voxels = np.unique(np.floor(focus + radius * directions + 0.5).astype("int64"), axis=0)
    return voxels[((voxels >= 0) & (voxels < grid_shape)).all(axis=1)]


def _frame(axis):
    """A right-handed frame with a given first axis."""
    # The coordinate that the axis has least of is farthest from being parallel to it.
    first = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    first /= np.linalg.norm(first)
    return axis, first, np.cross(axis, first)
