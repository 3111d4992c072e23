"""Input gradients: values, inside a training step with batch norm and dropout, second order."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.ops import input_gradient, value_and_grad
from tests.harness import assert_close, to_numpy

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def test_one_output_per_example():
    value, gradient = value_and_grad(lambda x: ops.sum(x**3, axis=-1), ops.convert_to_tensor(X))
    assert_close(value, (X**3).sum(-1))
    assert_close(gradient, 3 * X**2)


def test_several_outputs_per_example():
    a = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    gradient = input_gradient(lambda x: ops.matmul(x**2, a), ops.convert_to_tensor(X))
    expected = np.stack([[2 * row * a[:, k] for k in range(4)] for row in X])
    assert_close(gradient, expected)


def test_images_and_unused_inputs():
    x = np.ones((2, 4, 4, 1), "float32")
    assert_close(input_gradient(lambda x: ops.sum(x, axis=(1, 2, 3)), x), np.ones_like(x))
    assert_close(input_gradient(lambda x: ops.sum(0 * x, axis=(1, 2, 3)), x), np.zeros_like(x))


def test_nan_stays_nan():
    x = X.copy()
    x[2, 1] = np.nan
    assert np.isnan(to_numpy(input_gradient(lambda x: ops.sum(x**2, -1), x))[2, 1])


def test_wrong_output_rank():
    with pytest.raises(ValueError, match=r"`fn` must .*Received: output shape"):
        input_gradient(lambda x: ops.sum(x), X)


def test_second_order():
    """d/dx of |grad f|^2 for f = sum x^3 is 36 x^3; without create_graph it is nothing."""

    def penalty(create_graph):
        def fn(x):
            return ops.sum(
                input_gradient(lambda x: ops.sum(x**3, -1), x, create_graph=create_graph) ** 2, -1
            )

        return fn

    assert_close(input_gradient(penalty(True), X), 36 * X**3, atol=1e-4)
    constant = input_gradient(lambda x: penalty(False)(x) + ops.sum(x, -1), X)
    assert_close(constant, np.ones_like(X))


class Adversarial(keras.Model):
    """Adds the loss at x + epsilon sign(gradient): an input gradient in a training step."""

    def __init__(self, net, create_graph=False, **kwargs):
        super().__init__(**kwargs)
        self.net = net
        self.create_graph = create_graph

    def call(self, x, training=None):
        return self.net(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        def squared_error(x):
            return ops.sum((self.net(x, training=training) - y) ** 2, axis=-1)

        gradient = input_gradient(squared_error, x, create_graph=self.create_graph)
        if self.create_graph:
            return ops.mean(squared_error(x)) + 0.1 * ops.mean(gradient**2)
        return ops.mean(squared_error(x + 0.1 * ops.sign(gradient)))


def make_net(dropout, batch_norm=True):
    layers = [keras.layers.Dense(8, activation="tanh", kernel_initializer="ones")]
    layers += [keras.layers.BatchNormalization()] if batch_norm else []
    layers += [keras.layers.Dropout(dropout, seed=0), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((3,)), *layers])


@pytest.mark.parametrize(
    ("create_graph", "jit_compile"),
    [(False, "auto"), (True, "auto"), pytest.param(True, True, marks=pytest.mark.slow)],
)
def test_in_a_compiled_step(create_graph, jit_compile):
    """Trains with batch norm and dropout, and evaluates, where torch records no gradients."""
    keras.utils.set_random_seed(0)
    model = Adversarial(make_net(0.3), create_graph)
    model.compile(keras.optimizers.SGD(0.01), jit_compile=jit_compile)
    x = np.random.default_rng(2).normal(size=(32, 3)).astype("float32")
    y = x[:, :1]
    history = model.fit(x, y, epochs=3, batch_size=12, verbose=0)
    assert np.all(np.isfinite(history.history["loss"]))
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert np.isfinite(model.evaluate(x, y, batch_size=12, verbose=0))


def test_batch_statistics_count_each_batch_once():
    """The pass made for the gradient leaves no trace in the moving averages."""
    x = np.random.default_rng(3).normal(size=(8, 3)).astype("float32") + 1
    means = []
    for cls in (Adversarial, None):
        keras.utils.set_random_seed(0)
        net = make_net(0.0)
        if cls:
            model = cls(net, create_graph=True)
            model.compile(keras.optimizers.SGD(0.0))
        else:
            model = keras.Sequential([net])
            model.compile(keras.optimizers.SGD(0.0), loss="mse")
        model.fit(x, x[:, :1], batch_size=8, epochs=1, verbose=0)
        means.append(to_numpy(net.layers[1].moving_mean))
    # The trainer runs one pass for y_pred and one for its loss: two updates, not three.
    momentum = 0.99
    assert_close(means[0], means[1] * (1 + momentum), rtol=1e-4)


def test_same_dropout_mask_as_the_ordinary_pass():
    """The seed that the gradient's pass draws from is the one that the next pass draws from."""
    keras.utils.set_random_seed(0)
    dropout = keras.layers.Dropout(0.5, seed=1)
    x = ops.ones((1, 64))
    gradient = input_gradient(lambda x: ops.sum(dropout(x, training=True), -1), x)
    assert_close(gradient, dropout(x, training=True))
    assert np.any(to_numpy(gradient) != to_numpy(dropout(x, training=True)))
