"""KSpaceSolver against k-Wave's numbers, plain loops, and what is known in closed form."""

import itertools
import math

import numpy as np
import pytest

from keras_zoo.simulators import KSpaceSolver, focused_bowl
from tests.harness import BACKEND, golden

RNG = np.random.default_rng(0)


def mask_at(shape, *places):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


def assert_near_peak(actual, expected, tolerance=2e-5):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# Against k-Wave, as the paper ran it


@pytest.mark.parametrize("name", ["kspace_2d_powerlaw", "kspace_3d_lossless"])
def test_matches_k_wave(name):
    g = golden("deeptfus", name)
    run = {k: g.pop(k) for k in ("source_mask", "source_signal", "num_steps", "sensor_mask")}
    pressure, final = g.pop("pressure"), g.pop("final_pressure")
    for number in ("time_step", "absorption_power", "pml_alpha"):
        g[number] = float(g[number])
    found = KSpaceSolver(**g).simulate(**{**run, "num_steps": int(run["num_steps"])})
    assert_near_peak(found["pressure"], pressure)
    assert_near_peak(found["final_pressure"], final)


@pytest.mark.skipif(BACKEND == "jax", reason="has no float64, unless told to")
def test_float64():
    g = golden("deeptfus", "kspace_3d_lossless")
    names = ("grid_shape", "spacing", "sound_speed", "density", "pml_size")
    solver = KSpaceSolver(
        time_step=float(g["time_step"]), dtype="float64", **{name: g[name] for name in names}
    )
    found = solver.simulate(g["source_mask"], g["source_signal"], sensor_mask=g["sensor_mask"])
    assert found["final_pressure"].dtype == np.float64
    assert_near_peak(found["pressure"], g["pressure"], 1e-13)


# Against plain loops, in float64


def transform(x, sign):
    """The sum that defines the discrete Fourier transform, term by term."""
    total = np.zeros(x.shape, complex)
    places = list(np.ndindex(x.shape))
    for k in places:
        turns = [sum(a * b / n for a, b, n in zip(k, j, x.shape, strict=True)) for j in places]
        total[k] = np.sum(x.ravel() * np.exp(sign * 2j * np.pi * np.array(turns)))
    return total if sign < 0 else total / x.size


def through(x, multiplier):
    return transform(multiplier * transform(x, -1), 1).real


def naive(shape, spacing, dt, c, rho0, alpha, y, pml, pml_alpha, sources, signal, steps):
    """The card of the scheme, voxel by voxel; pressure after each step, `(steps, N)`."""
    n, c_max = len(shape), c.max()
    k = np.zeros((n, *shape))
    for place in np.ndindex(shape):
        for i in range(n):
            j = place[i] if place[i] < (shape[i] + 1) // 2 else place[i] - shape[i]
            k[(i, *place)] = 2 * math.pi * j / (shape[i] * spacing[i])
    size = np.sqrt((k**2).sum(0))
    half = c_max * size * dt / 2
    kappa = np.where(half > 0, np.sin(half) / np.where(half > 0, half, 1), 1.0)
    absorb = np.ones((2, n, *shape))
    staggered = np.zeros((n, *shape))
    for place, i in itertools.product(np.ndindex(shape), range(n)):
        following = list(place)
        following[i] = min(place[i] + 1, shape[i] - 1)
        staggered[(i, *place)] = (rho0[place] + rho0[tuple(following)]) / 2
        for s, m in itertools.product(range(2), [pml]):
            x = place[i] + 1 + 0.5 * s
            depth = 0.0
            if place[i] < m:
                depth = (m + 1 - x) / m
            elif place[i] >= shape[i] - m:
                depth = (x - (shape[i] - m)) / m
            exponent = pml_alpha * c_max / spacing[i] * depth**4 * dt / 2
            absorb[(s, i, *place)] = math.exp(-exponent)
    nepers = 100 * alpha * (1e-6 / (2 * math.pi)) ** y / (20 * math.log10(math.e))
    safe = np.where(size > 0, size, 1.0)
    p, u, rho = np.zeros(shape), np.zeros((n, *shape)), np.zeros((n, *shape))
    series = []
    for step in range(steps):
        spectrum = transform(p, -1)
        for i in range(n):
            operator = 1j * k[i] * np.exp(0.5j * k[i] * spacing[i]) * kappa
            slope = transform(operator * spectrum, 1).real
            u[i] = absorb[1, i] * (absorb[1, i] * u[i] - dt / staggered[i] * slope)
        total = np.zeros(shape)
        for i in range(n):
            operator = 1j * k[i] * np.exp(-0.5j * k[i] * spacing[i]) * kappa
            divergence = through(u[i], operator)
            total += divergence
            rho[i] = absorb[0, i] * (absorb[0, i] * rho[i] - dt * rho0 * divergence)
            added = np.zeros(shape)
            for row, place in enumerate(sources):
                now = signal[row][step] if step < len(signal[row]) else 0.0
                added[place] = now * 2 * dt / (n * c[place] * spacing[i])
            rho[i] += through(added, np.cos(half))
        density = rho.sum(0)
        gain = loss = 0.0
        if alpha.any() and y == 2:
            gain = -2 * nepers * c * rho0 * total
        elif alpha.any():
            first = np.where(size > 0, safe ** (y - 2), 0.0)
            second = np.where(size > 0, safe ** (y - 1), 0.0)
            gain = -2 * nepers * c ** (y - 1) * through(rho0 * total, first)
            loss = 2 * nepers * c**y * math.tan(math.pi * y / 2) * through(density, second)
        p = c**2 * (density + gain - loss)
        series.append(p.copy())
    return np.stack(series)


@pytest.mark.parametrize(
    ("shape", "power", "absorbing", "own_signals"),
    [((9,), 1.4, True, True), ((6, 5), 2.0, True, False), ((4, 3, 5), 1.5, False, True)],
    ids=["1-D power law", "2-D Stokes", "3-D lossless"],
)
def test_matches_plain_loops(shape, power, absorbing, own_signals):
    spacing, dt = (4e-4, 5e-4, 6e-4)[: len(shape)], 4e-8
    c, rho0 = RNG.uniform(1500, 2500, shape), RNG.uniform(1000, 1900, shape)
    alpha = RNG.uniform(1, 20, shape) * absorbing
    sources = [(1,) * len(shape), (2,) * len(shape)]
    signal = RNG.normal(size=(2, 5) if own_signals else 5)
    rows = signal if own_signals else [signal, signal]
    series = naive(shape, spacing, dt, c, rho0, alpha, power, 1, 1.5, sources, rows, 8)
    solver = KSpaceSolver(shape, spacing, dt, c, rho0, alpha, power, pml_size=1, pml_alpha=1.5)
    mask = mask_at(shape, *sources)
    found = solver.simulate(mask, signal, 8, np.ones(shape, bool))
    assert_near_peak(found["pressure"], series.reshape(8, -1).T)
    assert_near_peak(found["final_pressure"], series[-1])


# What is known in closed form


SHAPE, SPACING, FREQUENCY, STEPS = (28, 28, 28), 1e-3, 2.5e5, 10
WAVE = 1500 / FREQUENCY


@pytest.fixture(scope="module")
def water():
    return KSpaceSolver(SHAPE, SPACING, 1 / (STEPS * FREQUENCY), pml_size=6)


def green(places, source):
    """`d^2 / (lambda r) exp(-i k r)`, of voxels."""
    r = np.linalg.norm((places - np.asarray(source)) * SPACING, axis=-1)
    r = np.maximum(r, 1e-9)
    return SPACING**2 / (WAVE * r) * np.exp(-2j * np.pi * r / WAVE), r


def interior():
    """Places `(V, 3)` outside of the PML."""
    return np.stack(np.meshgrid(*[np.arange(7, 21)] * 3, indexing="ij"), -1).reshape(-1, 3)


def test_one_source_in_water(water):
    source = (13, 13, 13)
    waves = water.steady_state(mask_at(SHAPE, source), FREQUENCY, amplitude=2.0, phase=0.4)
    places = interior()
    expected, r = green(places, source)
    places, expected = places[r > 4 * SPACING], 2 * expected[r > 4 * SPACING]
    amplitude, phase = (waves[name][tuple(places.T)] for name in ("amplitude", "phase"))
    ratio = amplitude / np.abs(expected)
    assert abs(ratio.mean() - 1) < 3e-3
    assert np.abs(ratio - 1).max() < 0.1
    late = np.exp(1j * (phase - np.angle(expected) - np.pi / STEPS - 0.4))
    assert abs(np.angle(late.mean())) < 5e-3
    assert np.angle(late).std() < 0.02
    assert np.abs(waves["phase"]).max() <= np.pi


def test_bowl_in_water(water):
    bowl = focused_bowl(SHAPE, (7, 13, 13), (17, 13, 13), 16.0)
    waves = water.steady_state(mask_at(SHAPE, tuple(bowl.T)), FREQUENCY)
    found = waves["amplitude"] * np.exp(1j * (waves["phase"] - np.pi / STEPS))
    places = interior()
    near = np.min(np.linalg.norm(places[:, None] - bowl, axis=-1), axis=1)
    places = places[near > 4]
    expected = sum(green(places, source)[0] for source in bowl)
    found = found[tuple(places.T)]
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
    assert np.linalg.norm(places[np.argmax(np.abs(found))] - (17, 13, 13)) <= 3


def test_steady_state_is_the_transform_of_the_series(water):
    """With sources of different amplitude and phase; the default number of periods."""
    places = [(9, 9, 9), (9, 15, 12), (18, 13, 13)]
    amplitude, phase = np.array([1.0, 2.0, 0.5]), np.array([0.0, 1.0, -2.0])
    mask = mask_at(SHAPE, *places)
    waves = water.steady_state(mask, FREQUENCY, amplitude, phase, ramp_cycles=2, record_cycles=1)
    diagonal = SPACING * math.sqrt(3) * 28
    cycles = 2 + math.ceil(1.5 * diagonal * FREQUENCY / 1500) + 1
    n = np.arange(cycles * STEPS)
    window = np.where(n < 2 * STEPS, (1 - np.cos(np.pi * n / (2 * STEPS))) / 2, 1.0)
    signal = window * amplitude[:, None] * np.sin(2 * np.pi * n / STEPS + phase[:, None])
    sensors = mask_at(SHAPE, (10, 10, 10), (14, 14, 14), (13, 20, 8))
    series = water.simulate(mask, signal, sensor_mask=sensors)["pressure"][:, -STEPS:]
    z = 2 / STEPS * series @ np.exp(-2j * np.pi * n[-STEPS:] / STEPS)
    found = (waves["amplitude"] * np.exp(1j * waves["phase"]))[sensors]
    np.testing.assert_allclose(found, z, rtol=1e-3, atol=1e-4 * np.abs(z).max())


LINE, DT = 256, 1e-3 / 1500


def pulse(steps=120, centre=30, width=8.0):
    return np.exp(-(((np.arange(steps) - centre) / width) ** 2))


@pytest.fixture(scope="module")
def line():
    return KSpaceSolver(LINE, 1e-3, DT)


def test_a_line_carries_the_signal_itself(line):
    """On one axis a source sends its own pressure both ways, at one voxel a step."""
    sensors = mask_at(LINE, 100, 130, 170)
    found = line.simulate(mask_at(LINE, 130), pulse(), sensor_mask=sensors)["pressure"]
    for row, distance in enumerate((30, 0, 40)):
        delayed = pulse(120, 30 + distance + (-0.5 if distance else 0))
        np.testing.assert_allclose(found[row], delayed, atol=0.05)


def test_pml_swallows_the_wave():
    """Nothing is left once it has passed; without a PML it goes round for ever."""
    left = {}
    for size, alpha in ((20, 2.0), (0, 2.0), (20, 0.0)):
        solver = KSpaceSolver(LINE, 1e-3, DT, pml_size=size, pml_alpha=alpha)
        run = solver.simulate(mask_at(LINE, 128), pulse(), 350)
        left[size, alpha] = np.abs(run["final_pressure"]).max()
    assert left[20, 2.0] < 2e-3
    assert left[0, 2.0] > 0.9
    assert left[20, 0.0] == pytest.approx(left[0, 2.0], rel=1e-3)


def test_echo_of_a_change_of_impedance():
    """Reflected and passed pressures are those of the impedances, density and speed varying."""
    c, rho0 = np.full(LINE, 1500.0), np.full(LINE, 1000.0)
    c[128:], rho0[128:] = 2200.0, 1400.0
    solver = KSpaceSolver(LINE, 1e-3, 0.45e-3 / 2200, c, rho0)
    sensors = mask_at(LINE, 100, 160)
    signal = pulse(150, 60, 18.0)
    found = solver.simulate(mask_at(LINE, 60), signal, 460, sensors)["pressure"]
    z = (1500.0 * 1000, 2200.0 * 1400)
    echo = found[0, 270:]  # After the wave itself has passed the sensor.
    assert found[0].max() == pytest.approx(1.0, abs=0.01)
    assert echo.max() == pytest.approx((z[1] - z[0]) / (z[1] + z[0]), abs=0.01)
    assert found[1].max() == pytest.approx(2 * z[1] / (z[1] + z[0]), abs=0.02)


@pytest.mark.parametrize("power", [1.5, 2.0])
def test_absorption_follows_its_power_law(power):
    """Amplitudes of a line's steady state fall by `alpha f^y` decibels a centimetre."""
    solver = KSpaceSolver(LINE, 1e-3, 1 / (40 * 1.5e5), absorption=1.0, absorption_power=power)
    amplitude = solver.steady_state(mask_at(LINE, 40), 1.5e5, num_cycles=22)["amplitude"]
    decibels = 20 * np.log10(amplitude[60] / amplitude[180])
    assert decibels == pytest.approx(0.15**power * 12, rel=0.01)


# How runs behave


def test_nothing_follows_the_end_of_a_signal(line):
    source, everywhere = mask_at(LINE, 20, 40), np.ones(LINE, bool)
    short = RNG.normal(size=10)
    long = np.concatenate([short, np.zeros(20)])
    padded = line.simulate(source, long, sensor_mask=everywhere)
    found = line.simulate(source, short, 30, everywhere)
    np.testing.assert_array_equal(found["pressure"], padded["pressure"])
    assert found["pressure"].shape == (LINE, 30)
    np.testing.assert_array_equal(found["pressure"][:, -1], found["final_pressure"])
    # Fewer steps than the signal has: the first of them.
    first = line.simulate(source, long, 7, everywhere)
    np.testing.assert_array_equal(first["pressure"], padded["pressure"][:, :7])
    assert set(line.simulate(source, short)) == {"final_pressure"}


def test_one_signal_is_that_signal_at_each_source(line):
    source, signal = mask_at(LINE, 20, 21, 40), RNG.normal(size=20)
    shared = line.simulate(source, signal)["final_pressure"]
    own = line.simulate(source, np.stack([signal] * 3))["final_pressure"]
    assert_near_peak(own, shared)
    louder = line.simulate(source, 3 * signal)["final_pressure"]
    assert_near_peak(louder, 3 * shared)


def test_per_axis_arguments():
    signal, source = pulse(20, 8, 3.0), mask_at((12, 12), (6, 6))
    one = KSpaceSolver((12, 12), 1e-3, 2e-7, pml_size=3, pml_alpha=1.0)
    per_axis = {"spacing": (1e-3, 1e-3), "pml_size": [3, 3], "pml_alpha": (1.0, 1.0)}
    other = KSpaceSolver((12, 12), time_step=2e-7, **per_axis)
    for name in ("spacing", "pml_size", "pml_alpha"):
        assert getattr(one, name) == getattr(other, name)
    a, b = (s.simulate(source, signal)["final_pressure"] for s in (one, other))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a, a.T, atol=1e-6 * a.max())


def test_source_inside_the_pml(line):
    inside = line.simulate(mask_at(LINE, 1), pulse(60, 20), 60)["final_pressure"]
    assert np.isfinite(inside).all()
    assert np.abs(inside).max() < 0.5


# What goes wrong


def unstable():
    c = RNG.uniform(1500, 3100, (24, 24))
    rho0 = RNG.uniform(1000, 1900, (24, 24))
    return {"sound_speed": c, "density": rho0, "pml_size": 4}


def test_a_time_step_that_is_too_long():
    fields = unstable()
    with pytest.warns(UserWarning, match=r"Courant number above 0\.5.*Received: time_step="):
        solver = KSpaceSolver((24, 24), 1e-3, 6e-7, **fields)
    assert solver.courant_number == pytest.approx(fields["sound_speed"].max() * 6e-4)
    source = mask_at((24, 24), (12, 12))
    blew_up = r"blew up within (\d+) steps.*Received: time_step=6e-07"
    with pytest.raises(FloatingPointError, match=blew_up) as error:
        solver.simulate(source, np.ones(20), 100_000)
    # Long before the end, and before the pressure is infinite.
    assert int(str(error.value).split("within ")[1].split()[0]) < 1000


def test_no_warning_where_all_is_well(recwarn):
    KSpaceSolver((24, 24), 1e-3, 0.4e-3 / 3100, **unstable())
    KSpaceSolver((24, 24), 1e-3, 6e-7)  # The density is uniform.
    assert not recwarn.list


def test_waves_that_the_grid_does_not_resolve():
    solver = KSpaceSolver(LINE, 1e-3, DT / 2)
    with pytest.warns(UserWarning, match=r"shortest wave has 2\.5 voxels; below 3"):
        solver.steady_state(mask_at(LINE, 30), 6e5, num_cycles=6)


def test_progress(line, capsys):
    run = (mask_at(LINE, 30), np.ones(5))
    line.simulate(*run)
    line.simulate(*run, verbose=0)
    assert capsys.readouterr().out == ""
    line.simulate(*run, verbose=1)
    assert "5/5" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"`verbose` must be.*Received: verbose=2"):
        line.simulate(*run, verbose=2)


SETTINGS = {"grid_shape": (12, 12), "spacing": 1e-3, "time_step": 1e-7, "pml_size": 3}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("grid_shape", [(), (12, 1), (4, 4, 4, 4), (12.0, 12.0), 0, "12"]),
        ("spacing", [0.0, -1.0, (1e-3,) * 3, float("nan"), (1e-3, 0.0), "1"]),
        ("time_step", [0.0, -1e-7, float("inf"), None, True]),
        ("sound_speed", [0.0, -1.0, np.ones((3, 3)), np.full((12, 12), np.nan), "1500"]),
        ("density", [0.0, -1.0, np.ones(12), np.zeros((12, 12))]),
        ("absorption", [-1.0, np.ones(12), float("nan")]),
        ("absorption_power", [0.0, 3.0, None, float("nan")]),
        ("pml_size", [-1, 7, 2.5, (3, 3, 3), (3, 7)]),
        ("pml_alpha", [-1.0, (1.0,) * 3, float("inf")]),
        ("dtype", ["float16", "bfloat16", "int32"]),
    ],
)
def test_bad_settings(name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"(?s)`{name}` must .*Received: "):
            KSpaceSolver(**{**SETTINGS, name: value})


def test_dispersion_has_no_value_at_the_power_of_one():
    with pytest.raises(ValueError, match=r"`absorption_power`.*Received: absorption_power=1"):
        KSpaceSolver(**SETTINGS, absorption=1.0, absorption_power=1)
    KSpaceSolver(**SETTINGS, absorption=0.0, absorption_power=1)


RUN = {"source_mask": mask_at(LINE, 20, 40), "source_signal": np.ones(5)}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("source_mask", [np.zeros(LINE, bool), np.ones(LINE - 1, bool), np.full(LINE, 2), None]),
        ("sensor_mask", [np.zeros(LINE, bool), np.ones((LINE, 1), bool), np.full(LINE, 0.5)]),
        ("source_signal", [np.ones((3, 5)), 1.0, [], np.ones((2, 0)), ["a"], [1.0, np.nan]]),
        ("num_steps", [0, -1, 2.5, True]),
    ],
)
def test_bad_runs(line, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"(?s)`{name}` must .*Received: "):
            line.simulate(**{**RUN, name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("source_mask", [np.zeros(LINE, bool), np.ones(LINE - 1, bool)]),
        ("frequency", [0.0, 1.1e5, 1 / (2 * DT), None]),
        ("amplitude", [np.ones(3), float("nan"), "1"]),
        ("phase", [np.ones(3), float("inf")]),
        ("num_cycles", [0, 5, 2.5]),
        ("ramp_cycles", [-1, 0.5, False]),
        ("record_cycles", [0, -1, 1.5]),
    ],
)
def test_bad_steady_states(line, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"(?s)`{name}` must .*Received: "):
            line.steady_state(
                **{"source_mask": RUN["source_mask"], "frequency": 1 / (12 * DT), name: value}
            )
