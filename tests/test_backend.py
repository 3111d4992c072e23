"""What `keras.ops` does not offer."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo._backend import constant, custom_gradient
from keras_zoo.ops import input_gradient
from tests.harness import assert_close, gradient


class Counting(keras.Model):
    """The loss of step n, from 1 on, is `n w^2 / 2`."""

    def __init__(self):
        super().__init__()
        self.w = self.add_weight(name="w", shape=(), initializer="ones")
        counter = {"shape": (), "initializer": "ones", "dtype": "int32", "trainable": False}
        self.steps = self.add_weight(name="steps", **counter)
        self.built = True

    def call(self, x):
        return x

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        n = constant(ops.cast(self.steps, "float32") / 2)
        self.steps.assign(self.steps + 1)
        return n * ops.sum(ops.square(self.w))


@pytest.mark.codegen
def test_constant_is_of_before_its_variable_changed():
    """A compiled backward pass does not compute it again, of the next step's variable."""
    model = Counting()
    model.compile(keras.optimizers.SGD(0.1), jit_compile=True)
    model.fit(np.zeros((3, 1)), np.zeros(3), batch_size=1, verbose=0)
    assert_close(model.w, 0.9 * 0.8 * 0.7)
    assert_close(model.steps, 4)


@custom_gradient
def cubes_times(x, y):
    """`x^3 y`, with a gradient that says twice what it is."""
    square = x * x

    def grad(upstream):
        return 6 * square * y * upstream, 2 * square * x * upstream

    return square * x * y, grad


def test_custom_gradient():
    """It is what `grad` says, and so are its own derivatives, the third as well."""
    x, y = np.array([1.0, -2.0], "float32"), np.array([3.0, 0.5], "float32")

    def of_x(x):
        return cubes_times(x, ops.convert_to_tensor(y))

    def slope(x):
        return input_gradient(of_x, x, create_graph=True)

    def curvature(x):
        return input_gradient(slope, x, create_graph=True)

    def by_y(x):
        return input_gradient(lambda y: cubes_times(x, y), y, create_graph=True)

    expected = {of_x: 6 * x**2 * y, slope: 12 * x * y, curvature: 12 * y, by_y: 6 * x**2}
    for fn, derivative in expected.items():
        assert_close(gradient(lambda x, fn=fn: ops.sum(fn(x)), x)[1], derivative)
