"""KSpaceSolver against the solver of k-wave-python, where `keras-zoo[kwave]` is installed."""

import importlib
import importlib.util
import urllib.request

import numpy as np
import pytest

from keras_zoo.simulators import KSpaceSolver

RNG = np.random.default_rng(0)
STEPS = 40


@pytest.fixture
def kwave(monkeypatch):
    """A function that imports modules of k-wave-python."""
    if importlib.util.find_spec("kwave") is None:
        pytest.skip("k-wave-python is not installed: pip install 'keras-zoo[kwave]'")

    def out_of_reach(*args, **kwargs):
        raise TimeoutError

    # Its import fetches binaries that its solver in Python does not need.
    monkeypatch.setattr(urllib.request, "urlretrieve", out_of_reach)
    return lambda name: importlib.import_module(f"kwave.{name}")


CASES = {
    "1-D power law": ((64,), 1.4, True),
    "2-D Stokes": ((28, 25), 2.0, False),
    "2-D power law": ((28, 25), 1.1, True),
    "3-D power law": ((16, 14, 15), 1.6, True),
}


@pytest.mark.parametrize("name", CASES)
def test_matches_k_wave_python(kwave, name):
    shape, power, own_signals = CASES[name]
    axes, dt, pml = len(shape), 5e-8, 4
    spacing = (5e-4, 6e-4, 4e-4)[:axes]
    c, rho0 = RNG.uniform(1500, 2500, shape), RNG.uniform(1000, 1900, shape)
    alpha = RNG.uniform(0.1, 5, shape)
    sources, sensors = np.zeros(shape, bool), np.zeros(shape, bool)
    sources[tuple(RNG.integers(4, 10, (axes, 3)))] = True
    sensors[tuple(RNG.integers(2, 12, (axes, 6)))] = True
    signal = RNG.normal(size=(sources.sum(), STEPS) if own_signals else STEPS)

    grid = kwave("kgrid").kWaveGrid(list(shape), list(spacing))
    grid.setTime(STEPS, dt)
    medium = kwave("kmedium").kWaveMedium(
        sound_speed=c, density=rho0, alpha_coeff=alpha, alpha_power=power
    )
    source, sensor = kwave("ksource").kSource(), kwave("ksensor").kSensor(sensors)
    source.p_mask, source.p = sources, np.atleast_2d(signal)
    sensor.record = ["p", "p_final"]
    expected = kwave("kspaceFirstOrder").kspaceFirstOrder(
        grid, medium, source, sensor, pml_size=pml, pml_inside=True, quiet=True
    )

    solver = KSpaceSolver(shape, spacing, dt, c, rho0, alpha, power, pml_size=pml)
    found = solver.simulate(sources, signal, sensor_mask=sensors)
    peak = np.abs(expected["p"]).max()
    np.testing.assert_allclose(found["pressure"], expected["p"], rtol=0, atol=2e-5 * peak)
    # Its own final pressure comes without the PML.
    inside = found["final_pressure"][(slice(pml, -pml),) * axes]
    np.testing.assert_allclose(inside, expected["p_final"], rtol=0, atol=2e-5 * peak)
