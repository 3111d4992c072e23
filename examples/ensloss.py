"""A random loss at each step against fixed ones, where networks learn their few rows by heart.

Data: two pairs of digits of 5,000 MNIST images, 200 images for training of which a fifth has the
wrong label, under a convolutional network; 200 synthetic rows of 1,000 features, 20 of them
informative, under two hidden layers of 256; and 150 of scikit-learn's digits, {3, 5, 8, 9} against
the rest, under one. Training: SGD with momentum 0.9, a cosine schedule, batches of 50; the accuracy
is that after the last epoch. Test labels are right. Arms share, seed by seed, data, noise, start
and order of the batches.

Two comparisons. "chosen": each arm has twelve tries on the validation part, whose labels are as
noisy as those trained on: six learning rates and two numbers of epochs, or, for EnsLoss, three
learning rates, the same numbers of epochs, and `box_cox_period` None or 5. `--choose` finds the
best with other seeds. "long": nothing is tuned, and all arms have the middle learning rate and the
longer training.

    KERAS_BACKEND=jax python examples/ensloss.py --seeds 10
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import collections
import itertools
import math

import _report
import keras
import numpy as np
from _digits import mnist
from keras import layers, ops
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import train_test_split

from keras_zoo.trainers import EnsLossTrainer

METHOD = "EnsLoss"
# Of the margin, logit times label.
FIXED = {
    "cross-entropy": lambda s: ops.softplus(-s),
    "hinge": lambda s: ops.relu(1.0 - s),
    "exponential": lambda s: ops.exp(-s),
}
ARMS = (METHOD, *FIXED)
COMPARED = ("chosen", "long")
NOISE = 0.2
EPOCHS = (30, 120)
COARSE, FINE = (0.003, 0.03, 0.3), (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
# Learning rate, epochs, box_cox_period.
LONG = (0.03, 120, None)
# The same for (data, arm), by `--choose --seeds 3`.
CHOSEN = {
    ("3 or 5", "EnsLoss"): (0.003, 120, None),
    ("3 or 5", "cross-entropy"): (0.003, 120, None),
    ("3 or 5", "hinge"): (0.001, 120, None),
    ("3 or 5", "exponential"): (0.001, 120, None),
    ("4 or 9", "EnsLoss"): (0.003, 120, None),
    ("4 or 9", "cross-entropy"): (0.003, 120, None),
    ("4 or 9", "hinge"): (0.01, 30, None),
    ("4 or 9", "exponential"): (0.01, 30, None),
    ("1000 features", "EnsLoss"): (0.03, 120, None),
    ("1000 features", "cross-entropy"): (0.1, 120, None),
    ("1000 features", "hinge"): (0.3, 30, None),
    ("1000 features", "exponential"): (0.01, 120, None),
    ("digits 3589", "EnsLoss"): (0.3, 30, 5),
    ("digits 3589", "cross-entropy"): (0.3, 120, None),
    ("digits 3589", "hinge"): (0.3, 30, None),
    ("digits 3589", "exponential"): (0.1, 120, None),
}


def tries(arm):
    """The settings that an arm may have."""
    if arm == METHOD:
        return list(itertools.product(COARSE, EPOCHS, (None, 5)))
    return list(itertools.product(FINE, EPOCHS, (None,)))


def split(x, y, rows, seed):
    """`train, val, test`, each `(inputs, labels)`; the test is the same for every seed."""
    x, x_test, y, y_test = train_test_split(x, y, train_size=2 * rows, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, train_size=rows, stratify=y, random_state=seed)
    return (x, y), (x_val, y_val), (x_test, y_test)


def pair(one, other):
    """A function from a seed to images of two digits, some labels of which are wrong."""

    def load(seed):
        pixels, digits = mnist()
        rows = np.isin(digits, (one, other))
        images = pixels[rows].reshape(-1, 28, 28, 1).astype("float32") / 255
        *seen, test = split(images, (digits[rows] == one).astype("int32"), 200, seed)
        rng = np.random.default_rng(seed)
        return *((x, np.where(rng.random(len(y)) < NOISE, 1 - y, y)) for x, y in seen), test

    return load


def features(seed):
    """A new problem for each seed, with few informative features."""
    x, y = make_classification(2400, 1000, n_informative=20, n_redundant=0, random_state=seed)
    x, y = x.astype("float32"), y.astype("int32")
    return tuple((x[part], y[part]) for part in (slice(200), slice(200, 400), slice(400, None)))


def some_digits(seed):
    x, y = load_digits(return_X_y=True)
    return split((x / 16).astype("float32"), np.isin(y, (3, 5, 8, 9)).astype("int32"), 150, seed)


def convolutional():
    return [
        layers.Conv2D(16, 5, 2, activation="relu"),
        layers.Conv2D(32, 3, 2, activation="relu"),
        layers.Flatten(),
        layers.Dense(128, "relu"),
    ]


# Function from a seed to `train, val, test`, and one to the hidden layers.
DATA = {
    "3 or 5": (pair(3, 5), convolutional),
    "4 or 9": (pair(4, 9), convolutional),
    "1000 features": (features, lambda: [layers.Dense(256, "relu") for _ in range(2)]),
    "digits 3589": (some_digits, lambda: [layers.Dense(256, "relu")]),
}


def margin_loss(phi):
    """The loss `phi(s)` of the margins, as Keras takes it."""

    def loss(y_true, y_pred):
        labels = ops.cast(ops.reshape(y_true, (-1,)), "float32")
        return phi((2.0 * labels - 1.0) * ops.reshape(y_pred, (-1,)))

    return loss


def train(name, arm, setting, seed, data):
    """A network after its last epoch."""
    learning_rate, epochs, period = setting
    x, y = data
    keras.utils.set_random_seed(seed)
    network = keras.Sequential([keras.Input(x.shape[1:]), *DATA[name][1](), layers.Dense(1)])
    cosine = keras.callbacks.LearningRateScheduler(
        lambda epoch: learning_rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
    )
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
    model = network
    if arm == METHOD:
        model = EnsLossTrainer(network, period, seed)
        model.compile(optimizer)
    else:
        model.compile(optimizer, loss=margin_loss(FIXED[arm]))
    model.fit(x, y, batch_size=50, epochs=epochs, callbacks=[cosine], verbose=0)
    return network


def accuracy(network, data):
    """Share of the labels that the sign of the logit gives."""
    x, y = data
    logits = network.predict(x, batch_size=len(x), verbose=0)[:, 0]
    # A network that has diverged gives NaN, and is right about nothing.
    return round(float(np.mean(np.where(y == 1, logits > 0, logits <= 0))), 5)


def choose(seeds):
    """Prints, for each data set and arm, the setting that is best on the validation part."""
    for name, arm in itertools.product(DATA, ARMS):
        found = {}
        for setting in tries(arm):
            scores = []
            for seed in range(100, 100 + seeds):
                data, val, _ = DATA[name][0](seed)
                scores.append(accuracy(train(name, arm, setting, seed, data), val))
            found[setting] = float(np.mean(scores))
        best = max(found, key=found.get)
        print({setting: round(value, 3) for setting, value in found.items()})
        print(f'    ("{name}", "{arm}"): {best},  # {found[best]:.3f}', flush=True)


def run(cases, seeds, smoke):
    """One row per comparison, data set, arm and seed."""
    rows = []
    for seed, (compared, name) in itertools.product(range(seeds), cases):
        data, _, test = DATA[name][0](seed)
        for arm in ARMS:
            rate, epochs, period = CHOSEN[name, arm] if compared == "chosen" else LONG
            network = train(name, arm, (rate, 1 if smoke else epochs, period), seed, data)
            found = {
                "test_accuracy": accuracy(network, test),
                "train_accuracy": accuracy(network, data),
            }
            row = {"data": name, "compared": compared, "arm": arm, "seed": seed}
            settings = {"learning_rate": rate, "epochs": epochs, "box_cox_period": period}
            rows.append({**row, **settings, **found})
            print(f"{name}, {compared}, seed {seed}, {arm}: {found}", flush=True)
    return rows


def diverged(rows):
    """In words: which arms ended in NaN, and how often."""
    lost = collections.Counter(row["arm"] for row in rows if not row["train_accuracy"])
    runs = len({row["seed"] for row in rows})
    parts = (f"; {arm} diverged in {n} of {runs} runs, counted as 0" for arm, n in lost.items())
    return "".join(parts)


def report(cases, rows):
    """Prints a table for each comparison and data set; a verdict and a figure of all."""
    verdicts = []
    figure, axes = _report.new_figure(2, len(DATA), figsize=(14, 4))
    for axis, (compared, name) in zip(axes.flat, cases, strict=False):
        part = [row for row in rows if (row["data"], row["compared"]) == (name, compared)]
        print(f"\n{name}, {compared}")
        _report.print_table(part, METHOD, ["test_accuracy", "train_accuracy"])
        mean, _, p = _report.paired(part, METHOD, "cross-entropy", "test_accuracy")
        verdicts.append(
            f"{name}, {compared}: EnsLoss less cross-entropy {100 * mean:+.1f} points of test "
            f"accuracy (p = {p:.2g}); {_report.compare_all(part, METHOD, 'test_accuracy')}"
            f"{diverged(part)}."
        )
        _report.draw_bars(axis, part, METHOD, "test_accuracy")
        axis.set_xlabel(f"accuracy, {name}, {compared}")
        ended = [row["test_accuracy"] for row in part if row["train_accuracy"]]
        axis.set_xlim(min(ended, default=0.02) - 0.02, None)
    return " ".join(verdicts), figure


def main():
    args = _report.parser(__doc__, seeds=10, choose="find the settings").parse_args()
    if args.choose:
        return choose(args.seeds)
    cases = list(itertools.product(COMPARED, DATA))
    if args.smoke:
        cases = [("chosen", "4 or 9"), ("long", "digits 3589")]
    rows = run(cases, 1 if args.smoke else args.seeds, args.smoke)
    verdict, figure = report(cases, rows)
    with _report.output_folder(args) as folder:
        _report.write(folder, "ensloss", rows, verdict, figure)


if __name__ == "__main__":
    main()
