"""MultiSimilarityLoss, forward and backward: against pytorch-metric-learning and a floor.

The floor is what no loss on all pairs can do without: `S = F F^T`, and its gradient back to `F`
for a given `dL/dS`. Reference of each row: the floor, or pytorch-metric-learning's miner and loss
(on torch).

    KERAS_BACKEND=torch python benchmarks/multi_similarity.py
"""

import argparse
import itertools
import os

import keras
import numpy as np
from _runner import rows_against, time_in_turns, write_csv

from keras_zoo.losses import MultiSimilarityLoss

BACKEND = os.environ.get("KERAS_BACKEND", keras.backend.backend())


def batch(n, d):
    """Embeddings, labels with five examples a class, and a cotangent of S.

    Classes overlap, as in training: points of 16 dimensions, turned into `d`, so that the
    similarities, and with them the pairs that mining keeps, are alike for every `d`.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(n) // 5
    points = rng.normal(size=(n // 5 + 1, 16))[labels] + rng.normal(size=(n, 16))
    turn = np.linalg.qr(rng.normal(size=(d, 16)))[0]
    return (points @ turn.T).astype("float32"), labels, rng.normal(size=(n, n)).astype("float32")


def torch_sides(x, labels, cotangent, mode):
    """Functions that run one forward and backward pass each."""
    import torch
    from pytorch_metric_learning import losses, miners

    x = torch.tensor(x, requires_grad=True)
    labels, cotangent = torch.tensor(labels), torch.tensor(cotangent)
    loss = MultiSimilarityLoss()
    miner, theirs = miners.MultiSimilarityMiner(0.1), losses.MultiSimilarityLoss(2, 40, 0.5)
    fns = {
        "keras_zoo": lambda x: loss(labels, x),
        "pytorch-metric-learning": lambda x: theirs(x, labels, miner(x, labels)),
        "floor": lambda x: x @ x.T,
    }
    if mode == "compiled":
        for name in ("keras_zoo", "floor"):
            fns[name] = torch.compile(fns[name])

    def side(name):
        def run():
            x.grad = None
            value = fns[name](x)
            value.backward(cotangent if name == "floor" else None)

        return run

    return {name: side(name) for name in fns}


def jax_sides(x, labels, cotangent, mode):
    """As `torch_sides`."""
    import jax

    loss = MultiSimilarityLoss()

    def floor(x, cotangent):
        value, pullback = jax.vjp(lambda x: x @ x.T, x)
        return value, pullback(cotangent)

    def zoo(x, labels):
        return jax.value_and_grad(lambda x: loss(labels, x))(x)

    if mode == "compiled":
        floor, zoo = jax.jit(floor), jax.jit(zoo)
    x, labels, cotangent = (jax.numpy.asarray(v) for v in (x, labels, cotangent))
    return {
        "keras_zoo": lambda: jax.block_until_ready(zoo(x, labels)),
        "floor": lambda: jax.block_until_ready(floor(x, cotangent)),
    }


def tensorflow_sides(x, labels, cotangent, mode):
    """As `torch_sides`; "compiled" is XLA, "graph" a plain tf.function."""
    import tensorflow as tf

    loss = MultiSimilarityLoss()

    def floor(x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.matmul(x, x, transpose_b=True)
        return value, tape.gradient(value, x, cotangent)

    def zoo(x, labels):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(labels, x)
        return value, tape.gradient(value, x)

    if mode != "eager":
        floor = tf.function(floor, jit_compile=mode == "compiled")
        zoo = tf.function(zoo, jit_compile=mode == "compiled")
    x, labels, cotangent = (tf.constant(v) for v in (x, labels, cotangent))
    return {
        "keras_zoo": lambda: [v.numpy() for v in zoo(x, labels)],
        "floor": lambda: floor(x, cotangent)[1].numpy(),
    }


SIDES = {"torch": torch_sides, "jax": jax_sides, "tensorflow": tensorflow_sides}
KEYS = ("backend", "mode", "n", "d", "side", "reference")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--d", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--modes", nargs="+", default=None)
    parser.add_argument("--budget", type=float, default=20.0)
    parser.add_argument("--dry", action="store_true", help="print without writing the CSV")
    args = parser.parse_args()
    modes = args.modes or ["eager", "compiled"] + ["graph"] * (BACKEND == "tensorflow")
    for mode, n, d in itertools.product(modes, args.n, args.d):
        sides = SIDES[BACKEND](*batch(n, d), mode)
        times = time_in_turns(sides, repeats=30, budget_s=args.budget)
        rows = []
        for reference in set(times) - {"keras_zoo"}:
            two = {name: times[name] for name in ("keras_zoo", reference)}
            rows += rows_against(two, reference, backend=BACKEND, mode=mode, n=n, d=d)
        for row in rows:
            print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
        if not args.dry:
            write_csv("multi_similarity", rows, KEYS)


if __name__ == "__main__":
    main()
