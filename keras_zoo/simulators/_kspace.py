"""One time step of the first-order k-space pseudo-spectral method, and what it multiplies by.

The step is a pure function of tensors, so that solvers of one shape share one compilation.
Spectra are the halves that `keras_zoo.ops.fft.half_spectrum` gives, the cut axis first. On the
staggered grids each operator maps real fields to real fields, at the Nyquist frequency too, so
that half a spectrum is all there is to know.
"""

import math

import numpy as np
from keras import ops

from keras_zoo._backend import compiled
from keras_zoo.ops.fft import from_half_spectrum, half_spectrum

NEPERS_PER_DECIBEL = 1 / (20 * math.log10(math.e))


def make_medium(
    grid_shape, spacing, time_step, sound_speed, density, absorption, power, pml_size, pml_alpha
):
    """The multipliers of a step, float64, by name; fields that do not vary are scalars."""
    c_max = float(np.max(sound_speed))
    waves = _wave_numbers(grid_shape, spacing)
    magnitude = np.sqrt(sum(k**2 for k in waves))
    phase = 0.5 * c_max * magnitude * time_step
    axes = range(len(grid_shape))
    pml = [
        [
            _absorbing_layer(axis, grid_shape, pml_size, pml_alpha, shift, c_max * time_step / d)
            for axis, d in enumerate(spacing)
        ]
        for shift in (0.0, 0.5)
    ]
    shifted = [1j * k * np.exp(0.5j * k * d) for k, d in zip(waves, spacing, strict=True)]
    medium = {
        "kappa": _cut_first(np.sinc(phase / np.pi)),
        "source_kappa": _cut_first(np.cos(phase)),
        "gradient": [(_cut_first(g.real), _cut_first(g.imag)) for g in shifted],
        "step_over_density": [time_step / _staggered(density, axis) for axis in axes],
        "density_step": time_step * density,
        "stiffness": sound_speed**2,
        "pml": pml[0],
        "pml_staggered": pml[1],
        "inverse_spacing": [np.asarray(1 / d) for d in spacing],
    }
    if np.any(absorption):
        medium |= _absorption(absorption, power, sound_speed, magnitude, time_step)
    return medium


def _wave_numbers(grid_shape, spacing):
    """Angular wave numbers of each axis, to be broadcast; of the last one the upper half."""
    last = len(grid_shape) - 1
    numbers = []
    for axis, (size, d) in enumerate(zip(grid_shape, spacing, strict=True)):
        frequencies = (np.fft.rfftfreq if axis == last else np.fft.fftfreq)(size, d)
        numbers.append(2 * np.pi * _along(axis, last + 1, frequencies))
    return numbers


def _along(axis, num_axes, values):
    """A vector that lies along one axis of several."""
    return values.reshape([-1 if i == axis else 1 for i in range(num_axes)])


def _cut_first(x):
    """In the layout of `half_spectrum`."""
    return np.moveaxis(x, -1, 0)


def _staggered(density, axis):
    """The density half a voxel on: means of neighbours, and at the far end the last voxel's."""
    if density.ndim == 0:
        return density
    values = np.moveaxis(density, axis, 0)
    means = np.concatenate([0.5 * (values[:-1] + values[1:]), values[-1:]])
    return np.moveaxis(means, 0, axis)


def _absorbing_layer(axis, grid_shape, pml_size, pml_alpha, shift, courant):
    """Factors along an axis that damp waves within `pml_size` voxels of both ends."""
    size = pml_size[axis]
    factors = np.ones(grid_shape[axis])
    if size:
        x = np.arange(1, size + 1) + shift
        left, right = (size + 1 - x) / size, x / size
        for place, depth in ((slice(size), left), (slice(-size, None), right)):
            factors[place] = np.exp(-0.5 * pml_alpha[axis] * courant * depth**4)
    return _along(axis, len(grid_shape), factors)


def _absorption(alpha, power, sound_speed, magnitude, time_step):
    """Multipliers of the power law; from dB / (MHz^y cm) to Np / ((rad/s)^y m)."""
    alpha = 100 * alpha * (1e-6 / (2 * np.pi)) ** power * NEPERS_PER_DECIBEL
    if power == 2:  # Stokes: no dispersion, and nothing non-local.
        return {"loss": -2 * alpha * sound_speed / time_step}
    tau = -2 * alpha * sound_speed ** (power - 1)
    eta = 2 * alpha * sound_speed**power * math.tan(math.pi * power / 2)
    nonzero = np.where(magnitude > 0, magnitude, 1.0)
    laplacians = [np.where(magnitude > 0, nonzero ** (power - p), 0.0) for p in (2, 1)]
    return {
        "loss": tau / time_step,
        "dispersion": eta,
        "loss_laplacian": _cut_first(laplacians[0]),
        "dispersion_laplacian": _cut_first(laplacians[1]),
    }


@compiled
def step(state, medium, source, strengths):
    """The state one time step on.

    Args:
        state: pressure `N`, and for each axis a particle velocity and a part of the density.
        medium: the tensors of `make_medium`.
        source: where sound comes from, see `_emitted`.
        strengths: `(R,)`, how strong each source is now.
    """
    pressure, velocities, densities = state
    size, axes = pressure.shape[-1], range(len(pressure.shape))
    spectrum = _scaled(half_spectrum(pressure), medium["kappa"])
    emitted = _emitted(medium, source, strengths, size)
    moved, packed, change = [], [], 0.0
    for i in axes:
        re, im = medium["gradient"][i]
        slope = from_half_spectrum(_product(spectrum, (re, im)), size)
        pml = medium["pml_staggered"][i]
        moved.append(pml * (pml * velocities[i] - medium["step_over_density"][i] * slope))
        flow = _scaled(half_spectrum(moved[i]), medium["kappa"])
        # Minus the conjugate: the divergence is taken half a voxel back.
        divergence = from_half_spectrum(_product(flow, (-re, im)), size)
        inflow = medium["density_step"] * divergence
        pml = medium["pml"][i]
        kept = pml * (pml * densities[i] - inflow)
        packed.append(kept + medium["inverse_spacing"][i] * emitted)
        change = change + inflow
    return _pressure(medium, sum(packed), change, size), moved, packed


def _pressure(medium, density, change, size):
    """Equation of state, with the absorption and the dispersion of the power law."""
    total = density
    if "dispersion" in medium:
        change = _filtered(change, medium["loss_laplacian"], size)
        total = total - medium["dispersion"] * _filtered(
            density, medium["dispersion_laplacian"], size
        )
    if "loss" in medium:
        total = total + medium["loss"] * change
    return medium["stiffness"] * total


def _emitted(medium, source, strengths, size):
    """What the sources add now, the correction for the time step included, `N`.

    Either fields of which each has one strength, or voxels of which each has one.
    """
    if "fields" in source:
        return sum(strengths[i] * field for i, field in enumerate(source["fields"]))
    shape = [*medium["source_kappa"].shape[1:], size]
    strengths = strengths * source["scale"]
    flat = ops.scatter(source["voxels"][:, None], strengths, (math.prod(shape),))
    return _filtered(ops.reshape(flat, shape), medium["source_kappa"], size)


@compiled
def source_field(field, medium):
    """A field of `_emitted`: the sources on the grid, corrected for the time step."""
    return _filtered(field, medium["source_kappa"], field.shape[-1])


@compiled
def accumulate(sums, pressure, weights):
    """Sums of the pressure with two weights, `(2, N)` in all."""
    return [total + weights[i] * pressure for i, total in enumerate(sums)]


def _filtered(x, multiplier, size):
    return from_half_spectrum(_scaled(half_spectrum(x), multiplier), size)


def _scaled(pair, factor):
    return pair[0] * factor, pair[1] * factor


def _product(x, y):
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]
