"""Full-wave acoustics by the k-space pseudo-spectral method (Treeby, Cox, 2010)."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_number
from keras_zoo.simulators import _arguments as check
from keras_zoo.simulators import _kspace
from keras_zoo.simulators._progress import Progress

CHECK_EVERY = 32  # Steps between looks at whether the pressure is still one.
SLACK = 1e4  # How far above the sum of all that was emitted a stable run can never get.


@component(paper="deeptfus")
class KSpaceSolver:
    """Simulates sound in a medium that varies, on a regular grid of one, two or three axes.

    It solves the linear equations of motion and of mass for the pressure `p` (Pa), the particle
    velocity `u_i` (m/s) and the density of the wave, split by axis, `rho_i` (kg/m3). Gradients are
    exact up to the Nyquist frequency, by the Fourier transform F over all axes, and `kappa`
    makes the time step exact, too, where the medium is uniform. With the time step `dt`, the
    spacing `d_i` and `k` the angular wave number, a step is

        u_i   <- a_i (a_i u_i - dt / rho0 Re F^-1[i k_i exp(i k_i d_i / 2) kappa F p])
        v_i    = Re F^-1[i k_i exp(-i k_i d_i / 2) kappa F u_i]
        rho_i <- a_i (a_i rho_i - dt rho0 v_i) + Re F^-1[cos(c_max |k| dt / 2) F s_i]
        p      = c^2 (sum_i rho_i + A - E)

        kappa  = sin(c_max |k| dt / 2) / (c_max |k| dt / 2),   c_max = max c
        A      = tau Re F^-1[|k|^(y-2) F(rho0 sum_i v_i)],     tau = -2 alpha c^(y-1)
        E      = eta Re F^-1[|k|^(y-1) F sum_i rho_i],         eta = 2 alpha c^y tan(pi y / 2)

    where `s_i = 2 dt q / (n c d_i)` at the source voxels, with `q` their pressure (Pa) and n the
    number of axes, and 0 elsewhere. The velocities stand half a voxel on, where the density is a
    mean of two voxels. The factors `a_i` are below 1 in a perfectly matched layer (PML), which
    swallows what reaches the edge: without it the grid is periodic. What is absorbed is a power law
    of the frequency, with `alpha` in Np / ((rad/s)^y m); `y = 2` is Stokes absorption, for which
    `A = tau rho0 sum_i v_i` and `E = 0`.

    What a step costs is the transforms: on n axes, `3 n + 1` of real fields, 4 more with a power
    law, and one more for sources of which each has a signal of its own. In 3-D a lossless medium
    that varies keeps 13 numbers a voxel.

    Args:
        grid_shape: int or tuple of 1 to 3 ints above 1, `N`. The PML is a part of it.
        spacing: float > 0, or one for each axis. Distance between voxels, in m.
        time_step: float > 0, in s.
        sound_speed: float > 0, or array `N`, in m/s.
        density: float > 0, or array `N`, in kg/m3.
        absorption: float >= 0, or array `N`, `alpha` in dB / (MHz^y cm).
        absorption_power: float above 0 and below 3, `y`. At 1 the dispersion has no value.
        pml_size: int >= 0, or one for each axis. Voxels of the PML at both ends.
        pml_alpha: float >= 0, or one for each axis. Its strength, in Np per voxel.
        dtype: `"float32"` or `"float64"`. None for Keras's `floatx`. JAX computes float64 only
            where `jax_enable_x64` is set, else float32.

    Attributes:
        courant_number: `max(c) dt / min(d)`.

    Where the density is uniform, any time step is stable. Where it varies by a factor of two, as
    between water and bone, runs in 3-D were seen to blow up from a Courant number of 0.775 on, and
    in 2-D from 1.03: above 0.5 there is a warning. The shortest wave needs 3 voxels; 6 do well.
    Absorption is of first order in the time step: with 20 steps a period, a plane wave loses some
    percent less than it should. The field of a source voxel is that of a small, not of a singular
    source; one in the PML is damped like all else there.

    Raises:
        ValueError: an argument is out of its range or of another shape, the two PMLs of an axis do
            not fit it, or `absorption_power` is 1 and there is absorption.

    Example:
    >>> solver = keras_zoo.simulators.KSpaceSolver((64, 64), 1e-3, 2e-7)
    >>> mask = np.zeros((64, 64), bool)
    >>> mask[32, 32] = True
    >>> field = solver.steady_state(mask, frequency=2.5e5)["amplitude"]  # (64, 64), in Pa

    Reference: arXiv:2505.12998, which used k-Wave; the scheme is that of Treeby and Cox, J. Biomed.
    Opt. 15, 021314 (2010). Differs from k-Wave: nothing but rounding, for what is here. Half of
    each spectrum is computed, since the fields are real.
    """

    def __init__(
        self,
        grid_shape,
        spacing,
        time_step,
        sound_speed=1500.0,
        density=1000.0,
        absorption=0.0,
        absorption_power=1.5,
        pml_size=10,
        pml_alpha=2.0,
        dtype=None,
    ):
        self.grid_shape = check.check_grid_shape(grid_shape)
        axes = len(self.grid_shape)
        self.spacing = check.per_axis("spacing", spacing, axes)
        if min(self.spacing) == 0:
            raise ValueError(f"`spacing` must be positive. Received: spacing={spacing!r}")
        self.time_step = float(check_number("time_step", time_step, positive=True))
        self.sound_speed = check.field("sound_speed", sound_speed, self.grid_shape)
        self.density = check.field("density", density, self.grid_shape)
        self.absorption = check.field("absorption", absorption, self.grid_shape, positive=False)
        self.absorption_power = self._checked_power(absorption_power)
        self.pml_size = self._checked_pml(pml_size)
        self.pml_alpha = check.per_axis("pml_alpha", pml_alpha, axes)
        self.dtype = _checked_dtype(dtype)
        self.courant_number = float(self.sound_speed.max()) * self.time_step / min(self.spacing)
        self._warn_if_coarse()
        medium = _kspace.make_medium(
            self.grid_shape,
            self.spacing,
            self.time_step,
            self.sound_speed,
            self.density,
            self.absorption,
            self.absorption_power,
            self.pml_size,
            self.pml_alpha,
        )
        self._medium = keras.tree.map_structure(self._tensor, medium)

    def simulate(
        self, source_mask, source_signal, num_steps=None, sensor_mask=None, verbose="auto"
    ):
        """Lets sources sound into a medium at rest.

        Args:
            source_mask: bool array `N`, true at the sources. They are counted in C order.
            source_signal: array `(T,)`, one signal for all sources, or `(sources, T)`, in Pa. What
                is added at step n is its element n; after the last it is 0.
            num_steps: int > 0. By default `T`.
            sensor_mask: bool array `N`, true where the pressure is recorded, or None.
            verbose: 1 for a progress bar, 0 for none, `"auto"` for one after two seconds in a
                terminal.

        Returns:
            Dict of NumPy arrays: `"final_pressure"` `N`, and, if there is a `sensor_mask`,
            `"pressure"` `(sensors, num_steps)`, its column n after step n, sensors in C order.

        Raises:
            ValueError: an argument is out of its range or of another shape.
            FloatingPointError: the pressure is not finite, or larger than all that was emitted can
                add up to: the time step is too long. It is looked at every 32 steps.
        """
        sources = check.voxels("source_mask", source_mask, self.grid_shape)
        signal = _checked_signal(source_signal, len(sources))
        steps = signal.shape[-1] if num_steps is None else num_steps
        steps = check_count("num_steps", steps)
        sensors = None
        if sensor_mask is not None:
            sensors = self._indices(check.voxels("sensor_mask", sensor_mask, self.grid_shape))
        if signal.ndim == 1:
            source = self._fields(sources, np.ones((1, len(sources))))
            strengths, loudest = signal[:, None], len(sources) * np.abs(signal).sum()
        else:
            source = {
                "voxels": self._indices(sources),
                "scale": self._tensor(self._scales(sources)),
            }
            strengths, loudest = signal.T, np.abs(signal).sum()
        recorded = []
        for pressure in self._waves(source, strengths, steps, loudest, verbose):
            if sensors is not None:
                recorded.append(ops.convert_to_numpy(ops.take(pressure, sensors)))
        result = {"final_pressure": ops.convert_to_numpy(pressure)}
        if sensors is not None:
            result["pressure"] = np.stack(recorded, axis=1)
        return result

    def steady_state(
        self,
        source_mask,
        frequency,
        amplitude=1.0,
        phase=0.0,
        num_cycles=None,
        ramp_cycles=4,
        record_cycles=2,
        verbose="auto",
    ):
        """The sound of sources that have been humming for long.

        Source j has the pressure `w_n amplitude_j sin(2 pi n / m + phase_j)` at step n, with `m =
        1 / (frequency dt)` steps in a period, and `w_n` rising from 0 to 1 over the first
        `ramp_cycles` of them, as half of a cosine. Over the last `record_cycles`, M of them,

            Z = 2 / (M m) sum_n p_n exp(-2 pi i n / m)

        is summed as the run goes; no series is kept.

        Args:
            source_mask: bool array `N`, true at the sources. They are counted in C order.
            frequency: float > 0, in Hz. A period must have a whole number of steps, 3 at least.
            amplitude: float, or one for each source, in Pa.
            phase: float, or one for each source, in rad.
            num_cycles: int, periods in all. By default the ramp, the time that the slowest sound
                takes for 1.5 diagonals of the grid, and the recording.
            ramp_cycles: int >= 0.
            record_cycles: int > 0.
            verbose: 1 for a progress bar, 0 for none, `"auto"` for one after two seconds in a
                terminal.

        Returns:
            Dict of NumPy arrays `N`: `"amplitude"`, `|Z|` in Pa, and `"phase"`, the angle of Z in
            rad, from -pi to pi. One source voxel in uniform water, of a strength A, has at the
            distance r the amplitude `A d^2 / (lambda r)` and the phase `-2 pi r / lambda + pi / m`.

        Raises:
            ValueError: an argument is out of its range or of another shape, or a period has no
                whole number of steps.
            FloatingPointError: as for `simulate`.
        """
        sources = check.voxels("source_mask", source_mask, self.grid_shape)
        period = self._period(frequency)
        amplitude = check.per_source("amplitude", amplitude, len(sources))
        phase = check.per_source("phase", phase, len(sources))
        ramp = check_count("ramp_cycles", ramp_cycles, least=0)
        record = check_count("record_cycles", record_cycles)
        if num_cycles is None:
            diagonal = math.hypot(
                *(n * d for n, d in zip(self.grid_shape, self.spacing, strict=True))
            )
            crossing = math.ceil(1.5 * diagonal * frequency / float(self.sound_speed.min()))
            num_cycles = ramp + crossing + record
        steps = period * check_count("num_cycles", num_cycles)
        if num_cycles < ramp + record:
            raise ValueError(
                "`num_cycles` must be at least `ramp_cycles + record_cycles`. Received: "
                f"num_cycles={num_cycles}, ramp_cycles={ramp}, record_cycles={record}"
            )
        # sin(a + phase) = cos(phase) sin(a) + sin(phase) cos(a): two fields do for all sources.
        source = self._fields(sources, amplitude * np.stack([np.cos(phase), np.sin(phase)]))
        n = np.arange(steps)
        waves = np.stack([np.sin(2 * np.pi * n / period), np.cos(2 * np.pi * n / period)], axis=1)
        rise = np.minimum(n / (ramp * period), 1.0) if ramp else np.ones(steps)
        strengths = 0.5 * (1 - np.cos(np.pi * rise))[:, None] * waves
        loudest = np.abs(amplitude).sum() * steps
        begin = steps - record * period
        sums = [self._tensor(np.zeros(self.grid_shape)) for _ in range(2)]
        for i, pressure in enumerate(self._waves(source, strengths, steps, loudest, verbose)):
            if i >= begin:
                sums = _kspace.accumulate(sums, pressure, self._tensor(waves[i]))
        minus_im, re = (2 / (record * period) * ops.convert_to_numpy(total) for total in sums)
        return {"amplitude": np.hypot(re, minus_im), "phase": np.arctan2(-minus_im, re)}

    def _waves(self, source, strengths, num_steps, loudest, verbose):
        """The pressure after each step.

        Args:
            source: as for `_kspace.step`.
            strengths: array `(T, R)`, how strong each source is at each step; then 0.
            num_steps: int > 0.
            loudest: sum of the sizes of all that is emitted at all voxels, in Pa.
            verbose: as for `simulate`.
        """
        progress = Progress(num_steps, verbose)
        limit = self._limit(loudest)
        state = self._at_rest()
        silence = np.zeros_like(strengths[0])
        for n in range(num_steps):
            now = self._tensor(strengths[n] if n < len(strengths) else silence)
            state = _kspace.step(state, self._medium, source, now)
            if (n + 1) % CHECK_EVERY == 0 or n + 1 == num_steps:
                self._check_pressure(state[0], limit, n + 1)
            progress.update(n + 1)
            yield state[0]

    def _check_pressure(self, pressure, limit, steps):
        # A maximum does not show NaN on every backend.
        finite = bool(ops.convert_to_numpy(ops.all(ops.isfinite(pressure))))
        largest = float(ops.convert_to_numpy(ops.amax(ops.abs(pressure))))
        if not finite or largest > limit:
            raise FloatingPointError(
                f"The pressure blew up within {steps} steps: the time step is too long for this "
                f"medium. Received: time_step={self.time_step}, a Courant number of "
                f"{self.courant_number:.3g}"
            )

    def _limit(self, loudest):
        """A pressure that no stable run reaches, whatever echoes and foci there are."""
        stiffness = self.density * self.sound_speed**2
        gain = math.sqrt(float(stiffness.max() / stiffness.min())) * 2 * self.courant_number
        return SLACK * gain * float(loudest)

    def _at_rest(self):
        def zeros():
            return self._tensor(np.zeros(self.grid_shape))

        axes = range(len(self.grid_shape))
        return zeros(), [zeros() for _ in axes], [zeros() for _ in axes]

    def _fields(self, sources, weights):
        """A source of `_kspace.step`: one field for each row of weights `(R, sources)`."""
        fields = []
        for row in weights:
            field = np.zeros(math.prod(self.grid_shape))
            field[sources] = row * self._scales(sources)
            field = self._tensor(field.reshape(self.grid_shape))
            fields.append(_kspace.source_field(field, self._medium))
        return {"fields": fields}

    def _scales(self, sources):
        """`2 dt / (n c)` at the sources: from pressure to density, but for the spacing."""
        speed = np.broadcast_to(self.sound_speed, self.grid_shape).ravel()[sources]
        return 2 * self.time_step / (len(self.grid_shape) * speed)

    def _tensor(self, x):
        return ops.convert_to_tensor(np.asarray(x, self.dtype))

    def _indices(self, x):
        return ops.convert_to_tensor(x.astype("int32"))

    def _period(self, frequency):
        """Steps of a period."""
        check_number("frequency", frequency, positive=True)
        steps = 1 / (frequency * self.time_step)
        whole = round(steps)
        if whole < 3 or abs(steps - whole) > 1e-6 * steps:
            raise ValueError(
                "`frequency` must have a period of a whole number of time steps, 3 at least. "
                f"Received: frequency={frequency!r}, {steps:.7g} steps of {self.time_step}"
            )
        shortest = float(self.sound_speed.min()) / frequency
        if shortest < 3 * max(self.spacing):
            warnings.warn(
                f"The shortest wave has {shortest / max(self.spacing):.2g} voxels; below 3 it is "
                "not resolved.",
                stacklevel=3,
            )
        return whole

    def _checked_power(self, power):
        check_number("absorption_power", power, positive=True)
        if power >= 3 or (power == 1 and self.absorption.any()):
            raise ValueError(
                "`absorption_power` must be above 0, below 3, and not 1, where the dispersion has "
                f"no value. Received: absorption_power={power!r}"
            )
        return float(power)

    def _checked_pml(self, pml_size):
        sizes = check.per_axis("pml_size", pml_size, len(self.grid_shape))
        fits = [2 * size <= n for size, n in zip(sizes, self.grid_shape, strict=True)]
        if any(size % 1 for size in sizes) or not all(fits):
            raise ValueError(
                "`pml_size` must be a whole number for each axis, and fit it twice. "
                f"Received: pml_size={pml_size!r}, grid_shape={self.grid_shape}"
            )
        return tuple(int(size) for size in sizes)

    def _warn_if_coarse(self):
        if self.density.min() < self.density.max() and self.courant_number > 0.5:
            warnings.warn(
                "Where the density varies, a Courant number above 0.5 may be unstable: shorten "
                f"`time_step`. Received: time_step={self.time_step}, a Courant number of "
                f"{self.courant_number:.3g}",
                stacklevel=3,
            )


def _checked_dtype(dtype):
    if dtype is None:
        dtype = keras.config.floatx()
    if dtype not in ("float32", "float64"):
        raise ValueError(f'`dtype` must be "float32" or "float64". Received: dtype={dtype!r}')
    return dtype


def _checked_signal(signal, count):
    """`(T,)` or `(sources, T)`, float64."""
    values = np.asarray(signal)
    shaped = values.ndim == 1 or (values.ndim == 2 and len(values) == count)
    if not shaped or values.dtype.kind not in "iuf" or not values.size:
        raise ValueError(
            f"`source_signal` must be `(T,)`, or `(sources, T)` with {count} sources. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("`source_signal` must be finite. Received: NaN or infinity in it")
    return values.astype("float64")
