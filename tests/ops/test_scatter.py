"""Adding rows to a variable: duplicates, training steps, refusals."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.ops.scatter import gather_rows, map_rows, replace_rows, scatter_add_rows
from tests.harness import assert_close


def test_adds_duplicates_once_each():
    variable = keras.Variable(np.arange(8.0).reshape(4, 2))
    scatter_add_rows(variable, [2, 0, 2], np.array([[1.0, 2], [3, 4], [5, 6]], "float32"))
    assert_close(variable, [[3, 5], [2, 3], [10, 13], [6, 7]])


def test_inside_a_training_step():
    """A layer that counts the ids that it meets, in `fit` on each backend."""

    class Count(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seen = self.add_weight(shape=(5, 1), initializer="zeros", trainable=False)

        def call(self, ids):
            if ids.shape[0] != 0:
                scatter_add_rows(self.seen, ops.cast(ids[:, 0], "int32"), ops.ones_like(ids))
            return ids

    layer = Count()
    model = keras.Sequential([keras.Input((1,)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    start = keras.ops.convert_to_numpy(layer.seen)
    ids = np.array([0, 1, 1, 3, 3, 3], "float32")[:, None]
    model.fit(ids, ids, batch_size=4, epochs=2, verbose=0)
    assert_close(layer.seen - start, 2.0 * np.array([[1], [2], [0], [3], [0]]))


@pytest.mark.parametrize("indices", [[[0, 1]], 0])
def test_refuses_other_ranks(indices):
    variable = keras.Variable(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"`indices` must be.*Received"):
        scatter_add_rows(variable, indices, np.ones((2, 2), "float32"))


def test_refuses_other_rows():
    variable = keras.Variable(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="Received: variable"):
        scatter_add_rows(variable, [0], np.ones((1, 3), "float32"))
    assert_close(variable, np.zeros((4, 2)))


def test_gathers_maps_and_replaces_rows():
    start = np.arange(14.0).reshape(7, 2).astype("float32")
    variable = keras.Variable(start)
    assert_close(gather_rows(variable, [6, 0, 6]), start[[6, 0, 6]])
    sums = list(map_rows(lambda rows: ops.sum(rows, axis=0), variable, block_size=6))
    assert [first for first, _ in sums] == [0, 3, 6]
    assert_close(ops.stack([s for _, s in sums]), [[6, 9], [24, 27], [12, 13]])
    replace_rows(lambda rows: 2 * rows + 1, variable)
    assert_close(variable, 2 * start + 1)
    scatter_add_rows(variable, [3], np.ones((1, 2), "float32"))
    assert_close(gather_rows(variable, [3]), [[14, 16]])
