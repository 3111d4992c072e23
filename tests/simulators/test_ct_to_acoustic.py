import math

import numpy as np
import pytest

from keras_zoo.simulators import KSpaceSolver, ct_to_acoustic

CT = np.array([[-1000.0, 0.0, 100.0, 249.0], [250.0, 900.0, 2000.0, 3000.0]])


def naive(hu, top, rho, c, a, threshold, soft):
    h = min(max(hu, 0.0), top)
    density = rho[0] + (rho[1] - rho[0]) * h / top
    speed = c[0] + (c[1] - c[0]) * (density - rho[0]) / (rho[1] - rho[0])
    bone = a[0] + (a[1] - a[0]) * (1 - math.sqrt(h / top))
    return density, speed, bone if h >= threshold else soft


@pytest.mark.parametrize(
    "settings",
    [
        (2000, (1000, 1900), (1500, 3100), (4.0, 8.7), 250, 0.0),
        (1500, (990, 2100), (1480, 2900), (2.0, 21.5), 0, 0.3),
    ],
)
def test_matches_plain_loops(settings):
    found = ct_to_acoustic(CT, *settings)
    assert list(found) == ["density", "sound_speed", "absorption"]
    for place in np.ndindex(CT.shape):
        expected = naive(CT[place], *settings)
        for field, value in zip(found.values(), expected, strict=True):
            assert field[place] == pytest.approx(value, rel=1e-12)


def test_defaults_and_ends():
    found = ct_to_acoustic(CT)
    assert found["density"].dtype == np.float64
    assert found["density"][0, 1] == 1000
    assert found["density"][1, 2:].tolist() == [1900, 1900]
    assert found["sound_speed"][1, 3] == 3100
    # Dense bone absorbs less than porous bone; below the threshold nothing does.
    assert found["absorption"][0].tolist() == [0, 0, 0, 0]
    assert found["absorption"][1, 0] > found["absorption"][1, 1] > found["absorption"][1, 2] == 4.0


def test_integers_and_one_number():
    assert ct_to_acoustic(np.int16(2000))["density"] == 1900
    whole = ct_to_acoustic(CT.astype("int16"))
    np.testing.assert_array_equal(whole["absorption"], ct_to_acoustic(CT)["absorption"])


def test_uniform_density():
    """A range of no width is one: the sound speed still follows the CT number."""
    found = ct_to_acoustic(CT, density_range=(1000, 1000))
    assert (found["density"] == 1000).all()
    assert found["sound_speed"][1, 2] == 3100


def test_fits_the_solver():
    KSpaceSolver(CT.shape, 1e-3, 1e-7, pml_size=1, **ct_to_acoustic(CT))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ct", [np.nan, 1.0]),
        ("ct", "head"),
        ("hu_max", 0),
        ("hu_max", None),
        ("density_range", (1000,)),
        ("density_range", (0, 1900)),
        ("sound_speed_range", (1500, np.inf)),
        ("sound_speed_range", (-1500, 1500)),
        ("absorption_range", (-1.0, 8.7)),
        ("absorption_range", 4.0),
        ("skull_threshold", None),
        ("soft_absorption", -0.1),
        ("soft_absorption", float("nan")),
    ],
)
def test_bad_input(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`.* must .*Received: "):
        ct_to_acoustic(**{"ct": CT, name: value})
