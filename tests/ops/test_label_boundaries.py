"""Boundaries of label maps, against Sobel filters of one-hot masks."""

import keras
import numpy as np
import pytest

from keras_zoo.ops import label_boundaries
from tests.harness import golden, to_numpy

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
RNG = np.random.default_rng(0)


def naive(labels, classes, border="constant"):
    """Filters each class's mask by plain loops."""
    labels = np.clip(np.asarray(labels).astype("int64"), 0, classes - 1)
    images, height, width = labels.shape
    found = np.zeros(labels.shape, "float32")
    for n, i, j, k in np.ndindex(images, height, width, classes):
        x = y = 0
        for di, dj in np.ndindex(3, 3):
            row, column = i + di - 1, j + dj - 1
            if border == "symmetric":
                row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            if 0 <= row < height and 0 <= column < width:
                inside = int(labels[n, row, column] == k)
                x += SOBEL[di, dj] * inside
                y += SOBEL[dj, di] * inside
        if x != 0 or y != 0:
            found[n, i, j] = 1
    return found


def test_matches_the_official_arithmetic():
    g = golden("cw-bass", "boundaries")
    found = to_numpy(label_boundaries(g["labels"], int(g["num_classes"])))
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, g["boundary"])


@pytest.mark.parametrize("border", ["constant", "symmetric"])
@pytest.mark.parametrize(("classes", "size"), [(1, (3, 4)), (2, (9, 8)), (3, (7, 10)), (9, (6, 5))])
def test_matches_plain_loops(classes, size, border):
    # Few classes in small windows: every way in which both sides can weigh the same occurs.
    labels = RNG.integers(0, classes, (4, *size))
    found = to_numpy(label_boundaries(labels, classes, border))
    np.testing.assert_array_equal(found, naive(labels, classes, border))


@pytest.mark.parametrize("border", ["constant", "symmetric"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2), (0, 3)])
def test_images_of_any_size(size, border):
    labels = RNG.integers(0, 2, (3, *size))
    found = to_numpy(label_boundaries(labels, 2, border))
    np.testing.assert_array_equal(found, naive(labels, 2, border))


def test_the_frame_is_a_boundary_by_default():
    labels = np.full((1, 5, 6), 2)
    frame = np.ones((1, 5, 6))
    frame[:, 1:-1, 1:-1] = 0
    np.testing.assert_array_equal(to_numpy(label_boundaries(labels, 4)), frame)
    assert not to_numpy(label_boundaries(labels, 4, border="symmetric")).any()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_labels_that_are_no_class_count_as_the_nearest(dtype):
    labels = RNG.integers(0, 3, (2, 6, 6))
    labels[0, :3] = 255
    if dtype != "uint8":
        labels[1, 2] = -7
    found = to_numpy(label_boundaries(labels.astype(dtype), 3))
    np.testing.assert_array_equal(found, naive(labels, 3))
    np.testing.assert_array_equal(found, naive(np.clip(labels, 0, 2), 3))


def test_the_image_data_format_changes_nothing():
    labels, before = RNG.integers(0, 3, (2, 6, 5)), keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        found = to_numpy(label_boundaries(labels, 3))
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_array_equal(found, naive(labels, 3))


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 2.0}, "num_classes"),
        ({"border": "reflect"}, "border"),
        ({"border": None}, "border"),
        ({"labels": np.zeros((4, 4), "int32")}, "labels"),
        ({"labels": np.zeros((1, 4, 4, 1), "int32")}, "labels"),
        ({"labels": np.zeros((1, 4, 4), "float32")}, "labels"),
    ],
)
def test_bad_arguments(kwargs, name):
    arguments = {"labels": np.zeros((1, 4, 4), "int32"), "num_classes": 2, **kwargs}
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
        label_boundaries(**arguments)
