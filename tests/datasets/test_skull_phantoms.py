import math
import sys

import numpy as np
import pytest

from keras_zoo.datasets import skull_phantoms
from tests.harness import BACKEND

SIZE = 14
# Of a lower frequency than usual, so that the wave is shorter than the volume by as little.
RUN = {"size": SIZE, "spacing": 1.5e-3, "frequency": 2.5e5, "verbose": 0}


@pytest.fixture(scope="module")
def data():
    return skull_phantoms(2, seed=3, **RUN)


def test_shapes_and_ranges(data):
    shapes = {name: array.shape for name, array in data.items()}
    assert shapes == {
        "images": (2, SIZE, SIZE, SIZE, 1),
        "transducer_points": (2, 128, 3),
        "pressure": (2, SIZE, SIZE, SIZE),
    }
    assert {array.dtype for array in data.values()} == {np.dtype("float32")}
    for array in data.values():
        assert np.isfinite(array).all()
    bone = data["images"][data["images"] > 0]
    assert bone.min() == pytest.approx(0.2)  # 400 HU
    assert bone.max() == pytest.approx(1.0)  # 2000 HU
    assert (data["pressure"] > 0).all()
    peaks = data["pressure"].max(axis=(1, 2, 3))
    np.testing.assert_allclose(peaks, math.log(2), rtol=1e-6)


def voxels(data):
    return (data["transducer_points"] + 1) * (SIZE - 1) / 2


def test_points_are_voxels_of_a_bowl_outside_the_skull(data):
    for image, points in zip(data["images"][..., 0], voxels(data), strict=True):
        rows = np.rint(points).astype(int)
        np.testing.assert_allclose(points, rows, atol=1e-4)
        assert (rows >= 0).all()
        assert (rows < SIZE).all()
        assert len(np.unique(rows, axis=0)) > 30
        assert (image[tuple(rows.T)] == 0).all()


def test_near_field_is_out_of_the_way(data):
    """Around the bowl stands the smallest value; the focus is not there."""
    for pressure, points in zip(data["pressure"], voxels(data), strict=True):
        rows = np.rint(points).astype(int)
        assert np.unique(pressure[tuple(rows.T)]).size == 1
        assert (pressure[tuple(rows.T)] == pressure.min()).all()
        focus = np.array(np.unravel_index(pressure.argmax(), pressure.shape))
        assert np.linalg.norm(rows - focus, axis=1).min() > 2


def test_skull_is_a_shell(data):
    """Bone around a middle without; each half of the volume has some."""
    for image in data["images"][..., 0]:
        middle = SIZE // 2
        assert image[middle, middle, middle] == 0
        for axis in range(3):
            line = [middle] * 3
            line[axis] = slice(None)
            along = image[tuple(line)] > 0
            assert along[:middle].any()
            assert along[middle:].any()
        assert not image[0].any()


def test_sample_depends_on_seed_and_place_alone(data, monkeypatch):
    first = skull_phantoms(1, seed=3, **RUN)
    for name, array in first.items():
        # Two runs of one simulation on TensorFlow differ in the last bit.
        atol = 1e-6 if name == "pressure" and BACKEND == "tensorflow" else 0
        np.testing.assert_allclose(array[0], data[name][0], rtol=0, atol=atol)
        assert not np.array_equal(data[name][0], data[name][1])
    module = sys.modules[skull_phantoms.__module__]
    monkeypatch.setattr(module, "_steady_amplitude", lambda ct, *_: 1.0 + ct)
    other = skull_phantoms(1, seed=4, **RUN)
    for name in ("images", "transducer_points"):
        assert not np.array_equal(other[name], first[name])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("num_samples", [0, 1.5, True, None]),
        ("size", [0, 11, 24.0]),
        ("spacing", [0.0, -1e-3, float("nan")]),
        ("frequency", [0.0, None, "1"]),
        ("seed", [-1, None, 0.5, True]),
        ("verbose", [2, None, True]),
    ],
)
def test_bad_input(name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}="):
            skull_phantoms(**{"num_samples": 1, **RUN, name: value})
