import math

import numpy as np
import pytest

from keras_zoo.simulators import focused_bowl

SHAPE = (40, 36, 32)
APEX, FOCUS = (6.0, 18.0, 16.0), (22.0, 17.0, 15.5)


def naive(shape, apex, focus, aperture, n):
    """The spiral of the definition, point by point, in whatever frame about the axis."""
    apex, focus = np.array(apex), np.array(focus)
    radius = math.dist(apex, focus)
    phi = math.asin(aperture / (2 * radius))
    axis = (apex - focus) / radius
    found = []
    for i in range(n):
        cos = 1 - (1 - math.cos(phi)) * i / (n - 1)
        azimuth = math.pi * (3 - math.sqrt(5)) * i
        found.append((math.acos(cos), azimuth % (2 * math.pi)))
    return axis, radius, phi, found


def test_points_lie_on_the_bowl():
    bowl = focused_bowl(SHAPE, APEX, FOCUS, 20.0)
    axis, radius, phi, _ = naive(SHAPE, APEX, FOCUS, 20.0, 2)
    assert bowl.dtype == np.int64
    assert bowl.shape[1] == 3
    offsets = bowl - np.array(FOCUS)
    distances = np.linalg.norm(offsets, axis=1)
    # A voxel's centre is at most half of its diagonal from the point that it holds.
    assert np.abs(distances - radius).max() <= math.sqrt(3) / 2
    angles = np.arccos(np.clip(offsets @ axis / distances, -1, 1))
    assert angles.max() <= phi + math.sqrt(3) / 2 / radius
    assert angles.max() >= phi - math.sqrt(3) / radius
    assert {tuple(row) for row in bowl} >= {(6, 18, 16)}


def test_points_of_the_spiral_before_they_are_rounded():
    """On a fine grid, heights and turns of the spiral can be read off."""
    scale, n = 1e6, 7
    shape = (10**8,) * 3
    apex, focus = 5e7 + scale * np.array(((0.0, 0, 3), (0.0, 0, 0)))
    bowl = focused_bowl(shape, apex, focus, 4 * scale, n) / scale - 50
    _, radius, _, spiral = naive(shape, (0, 0, 3), (0, 0, 0), 4.0, n)
    order = np.argsort(-bowl[:, 2])
    found = bowl[order]
    for row, (theta, _) in zip(found, spiral, strict=True):
        np.testing.assert_allclose(row[2], radius * math.cos(theta), atol=1e-5)
    turns = np.unwrap(np.arctan2(found[1:, 1], found[1:, 0]))
    steps = np.abs(np.diff(turns)) % (2 * math.pi)
    golden = math.pi * (3 - math.sqrt(5))
    np.testing.assert_allclose(np.minimum(steps, 2 * math.pi - steps), golden, atol=1e-4)


def test_default_number_of_points_leaves_no_holes():
    """Many more points find few voxels more, those that the bowl grazes."""
    phi = math.asin(20.0 / (2 * math.dist(APEX, FOCUS)))
    area = 2 * math.pi * math.dist(APEX, FOCUS) ** 2 * (1 - math.cos(phi))
    bowl = focused_bowl(SHAPE, APEX, FOCUS, 20.0)
    same = focused_bowl(SHAPE, APEX, FOCUS, 20.0, math.ceil(4 * area))
    np.testing.assert_array_equal(bowl, same)
    assert len(bowl) > 0.8 * len(focused_bowl(SHAPE, APEX, FOCUS, 20.0, 40 * len(bowl)))


def test_order_and_uniqueness():
    bowl = focused_bowl(SHAPE, APEX, FOCUS, 20.0)
    rows = [tuple(row) for row in bowl]
    assert rows == sorted(set(rows))


def test_voxels_outside_are_left_out():
    inside = focused_bowl(SHAPE, (1, 18, 16), (15, 18, 16), 28.0)
    assert ((inside >= 0) & (inside < SHAPE)).all()
    wide = focused_bowl((200,) * 3, (81, 98, 96), (95, 98, 96), 28.0) - (80, 80, 80)
    kept = wide[((wide >= 0) & (wide < SHAPE)).all(axis=1)]
    np.testing.assert_array_equal(inside, kept)
    assert focused_bowl(SHAPE, (-50, 0, 0), (-30, 0, 0), 10.0).shape == (0, 3)


def test_halves_are_rounded_upwards():
    assert focused_bowl(SHAPE, (4.5, 5.5, 6.5), (9.5, 5.5, 6.5), 1.0, 1).tolist() == [[5, 6, 7]]


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 0, -1), (1, 1, 1), (0, -1, 2)])
def test_any_axis(axis):
    direction = np.array(axis) / np.linalg.norm(axis)
    focus = np.array((20.0, 20, 20))
    bowl = focused_bowl((40,) * 3, focus + 12 * direction, focus, 24.0) - focus
    distances = np.linalg.norm(bowl, axis=1)
    assert np.abs(distances - 12).max() <= math.sqrt(3) / 2
    # A half sphere: its mean lies half way along the axis.
    np.testing.assert_allclose(bowl.mean(0), 6 * direction, atol=0.6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grid_shape", (40, 36)),
        ("apex", (1, 2)),
        ("apex", (1, 2, np.nan)),
        ("focus", "abc"),
        ("focus", APEX),
        ("aperture", 0.0),
        ("aperture", 40.0),
        ("num_points", 0),
        ("num_points", 2.5),
    ],
)
def test_bad_input(name, value):
    arguments = {"grid_shape": SHAPE, "apex": APEX, "focus": FOCUS, "aperture": 20.0}
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}="):
        focused_bowl(**{**arguments, name: value})


def test_widest_aperture():
    assert len(focused_bowl(SHAPE, (6, 18, 16), (14, 18, 16), 16.0)) > 100
