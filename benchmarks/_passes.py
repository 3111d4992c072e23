"""Forward and backward passes on the active backend, ready to be timed."""

import os

import keras

BACKEND = os.environ.get("KERAS_BACKEND", keras.backend.backend())
# "compiled" is XLA on TensorFlow, "graph" a plain tf.function.
MODES = ("eager", "compiled", "graph") if BACKEND == "tensorflow" else ("eager", "compiled")


def make_pass(fn, inputs, constants, mode, cotangent=None):
    """A function that runs `fn` and its gradient once, and ends when both are there.

    Args:
        fn: function of `(*inputs, *constants)` to a scalar, or to what `cotangent` fits.
        inputs: arrays for which the gradient is wanted.
        constants: arrays for which it is not.
        mode: "eager", "compiled", "graph".
        cotangent: array of the shape of the output, None for a scalar.
    """
    return MAKERS[BACKEND](fn, inputs, constants, mode, cotangent)


def _torch_pass(fn, inputs, constants, mode, cotangent):
    import torch

    inputs = [torch.tensor(x, requires_grad=True) for x in inputs]
    constants = [torch.tensor(x) for x in constants]
    cotangent = None if cotangent is None else torch.tensor(cotangent)
    if mode == "compiled":
        # The sides of a table are one function to it, which it would give up compiling at the
        # eighth, and compile for any size from the second size on.
        torch._dynamo.config.recompile_limit = 1_000
        fn = torch.compile(fn, dynamic=False)

    def run():
        for x in inputs:
            x.grad = None
        fn(*inputs, *constants).backward(cotangent)

    return run


def _jax_pass(fn, inputs, constants, mode, cotangent):
    import jax

    def step(inputs, constants, cotangent):
        value, pullback = jax.vjp(lambda *x: fn(*x, *constants), *inputs)
        return value, pullback(jax.numpy.ones_like(value) if cotangent is None else cotangent)

    if mode == "compiled":
        step = jax.jit(step)
    arguments = jax.tree.map(jax.numpy.asarray, (inputs, constants, cotangent))
    return lambda: jax.block_until_ready(step(*arguments))


def _tensorflow_pass(fn, inputs, constants, mode, cotangent):
    import tensorflow as tf

    def step(inputs, constants, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = fn(*inputs, *constants)
        return value, tape.gradient(value, inputs, cotangent)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "compiled")
    arguments = tf.nest.map_structure(tf.constant, (list(inputs), list(constants)))
    cotangent = None if cotangent is None else tf.constant(cotangent)
    return lambda: tf.nest.map_structure(lambda t: t.numpy(), step(*arguments, cotangent))


MAKERS = {"torch": _torch_pass, "jax": _jax_pass, "tensorflow": _tensorflow_pass}
