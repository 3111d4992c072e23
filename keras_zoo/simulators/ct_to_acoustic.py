"""Acoustic properties of a head, from its computed tomography."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.simulators import _arguments as check


@component(paper="deeptfus")
def ct_to_acoustic(
    ct,
    hu_max=2000,
    density_range=(1000, 1900),
    sound_speed_range=(1500, 3100),
    absorption_range=(4.0, 8.7),
    skull_threshold=250,
    soft_absorption=0.0,
):
    """Density, sound speed and absorption from Hounsfield units.

    With `h` the CT number, clipped to `[0, hu_max]` and divided by `hu_max`, and the ends of each
    range written `r_0` and `r_1`, and so on:

        density     r = r_0 + (r_1 - r_0) h                                            kg/m3
        sound speed c = c_0 + (c_1 - c_0) (r - r_0) / (r_1 - r_0)                        m/s
        absorption  a = a_0 + (a_1 - a_0) (1 - sqrt h)   in the skull          dB/(MHz^y cm)
                    a = soft_absorption                  elsewhere

    so that water, at 0 HU, has the lower ends, and dense bone absorbs less than porous bone. The
    skull is where the clipped CT number is `skull_threshold` or more.

    Args:
        ct: array of any shape, in HU.
        hu_max: float > 0, in HU.
        density_range: 2 floats > 0, in kg/m3.
        sound_speed_range: 2 floats > 0, in m/s.
        absorption_range: 2 floats >= 0, in dB / (MHz^y cm): of the densest bone, and of bone at
            0 HU.
        skull_threshold: float, in HU.
        soft_absorption: float >= 0, in dB / (MHz^y cm).

    Returns:
        Dict of float64 arrays of the shape of `ct`: `"density"`, `"sound_speed"`, `"absorption"`,
        the arguments of `KSpaceSolver`.

    Raises:
        ValueError: `ct` is not finite, or another argument is out of its range.

    Example:
    >>> medium = keras_zoo.simulators.ct_to_acoustic(ct)
    >>> solver = keras_zoo.simulators.KSpaceSolver(ct.shape, 5e-4, 5e-8, **medium)

    Reference: arXiv:2505.12998, section 4. The form is the paper's; the ends of the ranges are
    ours, usual values of the transcranial literature.
    """
    values = np.asarray(ct)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(
            f"`ct` must hold finite numbers. Received: {values.dtype} of shape {values.shape}"
        )
    check_number("hu_max", hu_max, positive=True)
    check_number("skull_threshold", skull_threshold)
    density = check.number_range("density_range", density_range)
    speed = check.number_range("sound_speed_range", sound_speed_range)
    absorption = check.number_range("absorption_range", absorption_range)
    soft = check_number("soft_absorption", soft_absorption)
    if min(density + speed) <= 0:
        raise ValueError(
            "`density_range` and `sound_speed_range` must be positive. Received: "
            f"density_range={density_range!r}, sound_speed_range={sound_speed_range!r}"
        )
    if min(*absorption, soft) < 0:
        raise ValueError(
            "`absorption_range` and `soft_absorption` must not be negative. Received: "
            f"absorption_range={absorption_range!r}, soft_absorption={soft_absorption!r}"
        )
    units = np.clip(values.astype("float64"), 0.0, hu_max)
    share = units / hu_max
    # Of the density's range each value has the share that it has of the range of the CT.
    bone = absorption[0] + (absorption[1] - absorption[0]) * (1 - np.sqrt(share))
    return {
        "density": density[0] + (density[1] - density[0]) * share,
        "sound_speed": speed[0] + (speed[1] - speed[0]) * share,
        "absorption": np.where(units >= skull_threshold, bone, soft),
    }
