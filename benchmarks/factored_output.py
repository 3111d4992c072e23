"""A training step with very many classes: FactoredOutputTrainer against softmax heads.

All sides have one encoder, a dense layer from 64 numbers to `d`, and SGD without momentum. The time
is that of a step of `fit`, for `FactoredDense` with its stabilisation every 100 steps.

* FactoredDense: the Z-loss with exact updates, independent of the number of classes.
* log-softmax: `keras.layers.Dense` and `SparseCategoricalCrossentropy`. Exact, too.
* sampled softmax: the true class against 1,000 classes drawn for the batch. Biased.
* two-level softmax: a softmax over sqrt(D) groups of sqrt(D) classes, then one within the group.
  Exact, of another model.

The last two touch the rows of the weights in place, as FactoredDense does. `ratio` is how many
times as long a side takes as FactoredDense, in turns within one process. `peak_mib` comes from a
process for each side: the most resident memory while it trains, beyond what was resident before
the model was made; `build_mib` is the same while the model is made, `weights_mib` what one copy of
the output weights takes. TensorFlow does not give back what the making took, so there it is part of
both.

    KERAS_BACKEND=jax python benchmarks/factored_output.py
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
from _runner import rows_against, time_in_turns, write_csv
from keras import ops

from keras_zoo.layers import FactoredDense
from keras_zoo.losses import ZLoss
from keras_zoo.ops.scatter import gather_rows, scatter_add_rows
from keras_zoo.trainers import FactoredOutputTrainer

BACKEND = keras.backend.backend()
METHOD, SOFTMAX = "FactoredDense", "log-softmax"
SAMPLED, TWO_LEVEL = "sampled softmax", "two-level softmax"
SIDES = (METHOD, SOFTMAX, SAMPLED, TWO_LEVEL)
KEYS = ("backend", "classes", "d", "batch", "side")
RATE, SAMPLES, INPUTS = 0.1, 1000, 64


def encoder(d):
    """A dense layer from the inputs to `d` features."""
    return keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(d, activation="tanh")])


class RowHead(keras.Model):
    """An encoder under output weights of which a step reads and writes some rows."""

    def __init__(self, classes, d):
        super().__init__()
        self.classes, self.encoder = classes, encoder(d)

    def make_rows(self, shape):
        """Output weights that no optimizer touches."""
        return self.add_weight(
            shape=shape, initializer="random_normal", trainable=False, autocast=False
        )

    def call(self, x, training=None):
        """Features."""
        return self.encoder(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss, with the gradient for the features that `step` worked out."""
        value, gradient = self.step(ops.cast(y, "int32"), ops.stop_gradient(y_pred))
        surrogate = ops.sum(y_pred * ops.stop_gradient(gradient))
        return value + surrogate - ops.stop_gradient(surrogate)


def cross_entropy(logits, labels):
    """Mean loss, and its gradient for the logits."""
    n = ops.shape(logits)[0]
    log_p = ops.log_softmax(logits)
    truth = ops.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    return -ops.sum(truth * log_p) / n, (ops.exp(log_p) - truth) / n


class SampledSoftmax(RowHead):
    """The true class of each example against classes drawn for the whole batch."""

    def __init__(self, classes, d):
        super().__init__(classes, d)
        self.rows = self.make_rows((classes, d))
        self.seed = keras.random.SeedGenerator(0)

    def step(self, labels, h):
        """Loss and gradient for the features; SGD on the rows that take part."""
        drawn = keras.random.randint((SAMPLES,), 0, self.classes, dtype="int32", seed=self.seed)
        own, others = gather_rows(self.rows, labels), gather_rows(self.rows, drawn)
        hit = ops.equal(labels[:, None], drawn[None, :])
        logits = ops.where(hit, -1e9, ops.matmul(h, ops.transpose(others)))
        logits = ops.concatenate([ops.sum(h * own, axis=1, keepdims=True), logits], axis=1)
        value, g = cross_entropy(logits, ops.zeros_like(labels))
        scatter_add_rows(self.rows, labels, -RATE * g[:, :1] * h)
        scatter_add_rows(self.rows, drawn, -RATE * ops.matmul(ops.transpose(g[:, 1:]), h))
        return value, g[:, :1] * own + ops.matmul(g[:, 1:], others)


class TwoLevelSoftmax(RowHead):
    """A softmax over groups of classes, and one over the classes of the group."""

    def __init__(self, classes, d):
        super().__init__(classes, d)
        self.groups = math.isqrt(classes - 1) + 1
        self.members = -(-classes // self.groups)
        self.group_rows = self.make_rows((self.groups, d))
        self.rows = self.make_rows((self.groups, self.members, d))

    def step(self, labels, h):
        """Loss and gradient for the features; SGD on the rows that take part."""
        group, member = labels // self.members, labels % self.members
        outer, inner = ops.convert_to_tensor(self.group_rows), gather_rows(self.rows, group)
        value, g = cross_entropy(ops.matmul(h, ops.transpose(outer)), group)
        inner_value, e = cross_entropy(ops.einsum("nd,nmd->nm", h, inner), member)
        gradient = ops.matmul(g, outer) + ops.einsum("nm,nmd->nd", e, inner)
        self.group_rows.assign(outer - RATE * ops.matmul(ops.transpose(g), h))
        scatter_add_rows(self.rows, group, -RATE * e[:, :, None] * h[:, None, :])
        return value + inner_value, gradient


def make(side, classes, d):
    """A compiled model."""
    keras.utils.set_random_seed(0)
    optimizer = keras.optimizers.SGD(RATE)
    if side == METHOD:
        model = FactoredOutputTrainer(encoder(d), FactoredDense(classes), ZLoss(), RATE)
        model.compile(optimizer)
    elif side == SOFTMAX:
        dense = keras.layers.Dense(
            classes, use_bias=False, kernel_initializer="random_normal", dtype="float32"
        )
        model = keras.Sequential([*encoder(d).layers, dense])
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    else:
        model = {SAMPLED: SampledSoftmax, TWO_LEVEL: TwoLevelSoftmax}[side](classes, d)
        model.compile(optimizer)
    model(np.zeros((1, INPUTS), "float32"), training=True)  # Makes the weights.
    return model


def trainer(model, classes, batch):
    """A function of a number of steps that `fit`s so many."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100 * batch, INPUTS)).astype("float32")
    y = rng.integers(0, classes, len(x)).astype("int32")

    def run(steps):
        rows = steps * batch
        model.fit(x[:rows], y[:rows], batch_size=batch, shuffle=False, verbose=0)

    return run


def timed(classes, d, batch, names, turns, budget):
    """Rows of the table: seconds a step of each side, in turns."""
    sides, steps = {}, {}
    for name in names:
        run = trainer(make(name, classes, d), classes, batch)
        run(2)
        begin = time.perf_counter()
        run(1)
        # About a second a turn, and for the method the hundred steps between stabilisations.
        seconds = time.perf_counter() - begin
        steps[name] = 100 if name == METHOD else max(1, min(20, round(1 / seconds)))
        sides[name] = lambda run=run, name=name: run(steps[name])
    times = time_in_turns(sides, repeats=turns, warmup=1, budget_s=budget)
    times = {name: [t / steps[name] for t in values] for name, values in times.items()}
    shared = {"backend": BACKEND, "classes": classes, "d": d, "batch": batch}
    rows = rows_against(times, METHOD, **shared)
    for row in rows:
        row["reference_ms"] = rows[0]["ms"]
    return rows


def status(field):
    """A line of the process's own status, in MiB."""
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) / 1024


def forget_peak():
    """Lets the peak of the resident memory start again from here."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def memory(side, classes, d, batch):
    """Prints as JSON what a side takes while it is built and while it trains, in MiB."""
    trainer(make(side, 100, d), 100, batch)(2)  # What the framework itself takes for this.
    before = status("VmRSS")
    forget_peak()
    model = make(side, classes, d)
    built = status("VmHWM") - before
    run = trainer(model, classes, batch)
    forget_peak()
    run(3)
    print(json.dumps({"peak_mib": round(status("VmHWM") - before), "build_mib": round(built)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10**4, 10**5, 793_471])
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds for each size")
    parser.add_argument("--memory", nargs=2, metavar=("SIDE", "CLASSES"), help="of one side")
    parser.add_argument("--dry", action="store_true", help="print without writing the CSV")
    args = parser.parse_args()
    if args.memory:
        return memory(args.memory[0], int(args.memory[1]), args.d, args.batch)
    for classes in args.classes:
        rows = timed(classes, args.d, args.batch, args.sides, args.turns, args.budget)
        for row in rows:
            command = [sys.executable, __file__, "--memory", row["side"], str(classes)]
            command += ["--d", str(args.d), "--batch", str(args.batch)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=dict(os.environ)
            )
            row["weights_mib"] = round(classes * args.d * 4 / 2**20)
            row |= json.loads(done.stdout.splitlines()[-1])
            print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
            if not args.dry:
                write_csv("factored_output", [row], KEYS)


if __name__ == "__main__":
    main()
