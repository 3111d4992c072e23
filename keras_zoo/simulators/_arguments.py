"""Refusals that the simulators share."""

import numpy as np


def check_grid_shape(grid_shape, ranks=(1, 2, 3)):
    """The shape as a tuple of ints above 1."""
    sizes = np.atleast_1d(np.asarray(grid_shape))
    whole = sizes.ndim == 1 and sizes.dtype.kind in "iu" and (sizes > 1).all()
    if not whole or len(sizes) not in ranks:
        raise ValueError(
            f"`grid_shape` must hold {' or '.join(map(str, ranks))} integers above 1. "
            f"Received: grid_shape={grid_shape!r}"
        )
    return tuple(int(size) for size in sizes)


def per_axis(name, value, num_axes):
    """A number, or one for each axis, as a tuple of finite floats, none below 0."""
    values = np.asarray(value)
    sound = values.dtype.kind in "iuf" and values.shape in ((), (1,), (num_axes,))
    if not sound or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f"`{name}` must be a number of at least 0, or one for each of {num_axes} axes. "
            f"Received: {name}={value!r}"
        )
    return tuple(float(v) for v in np.broadcast_to(values, (num_axes,)))


def field(name, value, grid_shape, positive=True):
    """A number, or one for each voxel, as a float64 array of the rank 0 or of the grid's."""
    values = np.asarray(value)
    fits = values.dtype.kind in "iuf" and values.shape in ((), grid_shape)
    if not fits or not np.isfinite(values).all() or np.min(values) < 0:
        raise ValueError(
            f"`{name}` must be finite and not negative, one number or one for each voxel of "
            f"{grid_shape}. Received: {_shown(value)}"
        )
    if positive and np.min(values) == 0:
        raise ValueError(f"`{name}` must be positive everywhere. Received: {_shown(value)}")
    return values.astype("float64")


def voxels(name, mask, grid_shape):
    """The places where a mask is true, in C order, as indices into the flat grid."""
    mask = np.asarray(mask)
    binary = mask.dtype.kind in "biuf" and np.isin(mask, (0, 1)).all()
    if mask.shape != grid_shape or not binary or not mask.any():
        raise ValueError(
            f"`{name}` must be a mask of the shape {grid_shape}, of True and False, with at least "
            f"one True. Received: {_shown(mask)}"
        )
    return np.flatnonzero(mask)


def per_source(name, value, count):
    """A number, or one for each source, as a float64 vector."""
    values = np.asarray(value)
    fits = values.dtype.kind in "iuf" and values.shape in ((), (count,))
    if not fits or not np.isfinite(values).all():
        raise ValueError(
            f"`{name}` must be a finite number, or one for each of the {count} voxels of "
            f"`source_mask`. Received: {_shown(value)}"
        )
    return np.broadcast_to(values.astype("float64"), (count,))


def point(name, value):
    """Three finite coordinates."""
    values = np.asarray(value)
    if values.shape != (3,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"`{name}` must hold 3 finite numbers. Received: {name}={value!r}")
    return values.astype("float64")


def number_range(name, value):
    """Two finite numbers."""
    values = np.asarray(value)
    if values.shape != (2,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"`{name}` must hold 2 finite numbers. Received: {name}={value!r}")
    return float(values[0]), float(values[1])


def _shown(value):
    """A short text of a number or of an array."""
    value = np.asarray(value)
    return repr(value[()]) if value.ndim == 0 else f"{value.dtype} of shape {value.shape}"
