"""What `keras.ops` does not offer."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo._backend import constant
from tests.harness import assert_close


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
