"""Peak memory of MultiSimilarityLoss, forward and backward, as the batch grows.

Each figure comes from a process of its own: the most resident memory while the loss and its
gradient are worked out, beyond what was resident before. `chunk` is `chunk_size`; 0 is the whole
similarity matrix at once. The mode is what `fit` uses: a jitted step on JAX, a `tf.function` on
TensorFlow, eager on torch.

    KERAS_BACKEND=torch python benchmarks/chunked_memory.py
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
from _runner import write_csv

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
DIMENSIONS = 128
KEYS = ("backend", "chunk", "n")


def step(chunk):
    """A function of `(x, labels)` that returns the gradient as numpy."""
    import keras

    from keras_zoo.losses import MultiSimilarityLoss

    loss = MultiSimilarityLoss(chunk_size=chunk or None)
    if BACKEND == "jax":
        import jax

        grad = jax.jit(jax.grad(lambda x, labels: loss(labels, x)))
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(reduce_retracing=True)
        def grad(x, labels):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(labels, x)
            return tape.gradient(value, x)
    else:

        def grad(x, labels):
            x = x.requires_grad_()
            loss(labels, x).backward()
            return x.grad

    convert = keras.ops.convert_to_tensor
    return lambda x, labels: keras.ops.convert_to_numpy(grad(convert(x), convert(labels)))


def status(field):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) / 1024


def measure(n, chunk):
    """Prints peak extra MiB and seconds as JSON."""
    rng = np.random.default_rng(0)

    def batch(n):
        return rng.normal(size=(n, DIMENSIONS)).astype("float32"), np.arange(n, dtype="int32") // 5

    run = step(chunk)
    run(*batch(2 * max(chunk, 64) + 5))
    x, labels = batch(n)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, start = status("VmRSS"), time.perf_counter()
    gradient = run(x, labels)
    seconds = time.perf_counter() - start
    if not np.isfinite(gradient).all():
        raise RuntimeError("the gradient is not finite")
    print(json.dumps({"peak_mib": round(status("VmHWM") - before), "seconds": round(seconds, 2)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--whole", type=int, default=8192, help="largest batch without chunks")
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--one", type=int, nargs=2, help="n and chunk: measure in this process")
    args = parser.parse_args()
    if args.one:
        return measure(*args.one)
    for chunk in (args.chunk, 0):
        for n in args.n:
            if chunk or n <= args.whole:
                command = [sys.executable, __file__, "--one", str(n), str(chunk)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row = {"backend": BACKEND, "chunk": chunk, "n": n, "d": DIMENSIONS}
                row |= json.loads(done.stdout.splitlines()[-1])
                print(row, flush=True)
                write_csv("chunked_memory", [row], KEYS)


if __name__ == "__main__":
    main()
