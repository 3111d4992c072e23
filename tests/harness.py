"""What the tests share: golden files, gradients on the active backend, comparisons."""

import pathlib

import keras
import numpy as np
from keras import ops

from keras_zoo import _backend

GOLDEN = pathlib.Path(__file__).parent / "golden"
BACKEND = keras.backend.backend()


def golden(slug, name):
    """The arrays of tests/golden/<slug>/<name>.npz as a dict."""
    with np.load(GOLDEN / slug / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def to_numpy(x):
    return ops.convert_to_numpy(x)


def assert_close(actual, expected, rtol=1e-5, atol=1e-5):
    """As `np.testing.assert_allclose`, on tensors of any backend; NaN and shapes count."""
    actual, expected = np.asarray(to_numpy(actual)), np.asarray(to_numpy(expected))
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape}"
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def channels_first(layer):
    """`layer` as a function; a CPU has TensorFlow's convolutions of this format under XLA alone."""
    if BACKEND != "tensorflow":
        return layer
    import tensorflow as tf

    return tf.function(layer, jit_compile=True)


def gradient(fn, x):
    """Value and gradient of a scalar function of one array, as numpy.

    Unlike `ops.input_gradient` examples may meet in `fn`, as they do in pair losses.
    """
    (result,) = gradients(fn, [x])
    return result


def gradients(fn, points):
    """As `gradient`, at each of several points of the same shape."""

    def both(x):
        value, vjp = _backend.value_and_vjp(fn, x, False)
        return ops.stop_gradient(value), vjp(ops.ones_like(value))

    points = [ops.convert_to_tensor(x) for x in points]
    if BACKEND == "jax":
        both = as_one_program(both, points[0])
    return [tuple(map(to_numpy, both(x))) for x in points]


def as_one_program(fn, *arrays):
    """`fn` of arrays such as these as one program on JAX, which else compiles each operation apart.

    What `fn` holds goes in by an argument, as weights do, since XLA does other things to constants.
    """
    import jax
    from jax.extend import core

    traced = jax.make_jaxpr(fn)(*arrays)

    @jax.jit
    def run(held, *arrays):
        return core.jaxpr_as_fun(core.ClosedJaxpr(traced.jaxpr, held))(*arrays)

    return lambda *arrays: run(traced.consts, *arrays)


def numeric_gradient(fn, x, eps=1e-6):
    """Central differences of a scalar numpy function, in float64."""
    x = np.array(x, "float64")
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        left, right = x.copy(), x.copy()
        left[index] -= eps
        right[index] += eps
        result[index] = (fn(right) - fn(left)) / (2 * eps)
    return result
