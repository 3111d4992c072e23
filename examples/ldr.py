"""Robust losses against wrong labels: LDR, ALDR and three baselines on noisy digits.

Data: the 1,797 digits of scikit-learn. 719 of them, with their true labels, are the test; each
seed draws 216 of the rest for validation, and which labels of training and validation are wrong:
none, 60 % replaced by a random class, or 30 % by the next class. Network: 64-64-10, tanh; SGD with
momentum 0.9, batches of 64, 40 epochs, learning rate over 10 at half and at three quarters. Arms
share, seed by seed, digits, noise and start.

Each arm has a grid of nine settings: three learning rates, and three values of the number that
matters most to it; the robust ones have the weight decay of the paper. `--choose` takes the best of
them by accuracy on the noisy validation labels, with other seeds.

    KERAS_BACKEND=jax python examples/ldr.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import itertools

import _report
import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_zoo.losses import ALDRLoss, LDRLoss
from keras_zoo.trainers import ALDRTrainer

METHOD = "ALDR"
CLASSES = 10
NOISES = {"clean": 0.0, "uniform 0.6": 0.6, "next class 0.3": 0.3}
EPOCHS = 40
WEIGHT_DECAY = 5e-3


def own_probability(y_true, y_pred):
    """Logarithm of the probability of the label, and the probability, `(N,)`."""
    own = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), CLASSES)
    log_p = ops.sum(own * ops.log_softmax(y_pred, axis=-1), axis=-1)
    return log_p, ops.exp(log_p)


def symmetric_cross_entropy(alpha):
    """`alpha` cross-entropy + reverse cross-entropy, with log 0 = -4 (arXiv:1908.06112)."""

    def loss(y_true, y_pred):
        log_p, p = own_probability(y_true, y_pred)
        return -alpha * log_p + 4.0 * (1.0 - p)

    return loss


def generalised_cross_entropy(q):
    """`(1 - p^q) / q` (arXiv:1805.07836); 1 is the mean absolute error."""

    def loss(y_true, y_pred):
        log_p, _ = own_probability(y_true, y_pred)
        return (1.0 - ops.exp(q * log_p)) / q

    return loss


def cross_entropy(_):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# Loss of an arm, the name of its number, and the values that are tried.
ARMS = {
    METHOD: (ALDRLoss, "temperature", (0.1, 1.0, 10.0)),
    "LDR": (LDRLoss, "temperature", (0.1, 1.0, 10.0)),
    "cross-entropy": (cross_entropy, "weight_decay", (5e-4, 5e-3, 5e-2)),
    "symmetric cross-entropy": (symmetric_cross_entropy, "alpha", (0.01, 0.1, 1.0)),
    "generalised cross-entropy": (generalised_cross_entropy, "q", (0.4, 0.7, 1.0)),
}
LEARNING_RATES = (0.01, 0.1, 1.0)
# (noise, arm): learning rate and number, by `--choose --seeds 3`.
CHOSEN = {
    ("clean", "ALDR"): (0.1, 0.1),
    ("clean", "LDR"): (0.1, 1.0),
    ("clean", "cross-entropy"): (0.1, 0.0005),
    ("clean", "symmetric cross-entropy"): (0.1, 1.0),
    ("clean", "generalised cross-entropy"): (1.0, 0.4),
    ("uniform 0.6", "ALDR"): (0.1, 10.0),
    ("uniform 0.6", "LDR"): (0.1, 10.0),
    ("uniform 0.6", "cross-entropy"): (0.01, 0.005),
    ("uniform 0.6", "symmetric cross-entropy"): (0.1, 0.01),
    ("uniform 0.6", "generalised cross-entropy"): (0.1, 0.4),
    ("next class 0.3", "ALDR"): (0.1, 10.0),
    ("next class 0.3", "LDR"): (0.1, 10.0),
    ("next class 0.3", "cross-entropy"): (0.1, 0.005),
    ("next class 0.3", "symmetric cross-entropy"): (0.1, 0.1),
    ("next class 0.3", "generalised cross-entropy"): (0.1, 0.7),
}


def noisy(labels, noise, rng):
    """The labels, some of them wrong."""
    hit = rng.random(len(labels)) < NOISES[noise]
    random = rng.integers(CLASSES, size=len(labels))
    wrong = (labels + 1) % CLASSES if noise.startswith("next") else random
    return np.where(hit, wrong, labels)


def digits(noise, seed):
    """`train, val, test`, each `(inputs, labels)`; the labels of the test are right."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    x, x_test, y, y_test = train_test_split(x, y, test_size=719, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=216, stratify=y, random_state=seed)
    rng = np.random.default_rng(seed)
    return (x, noisy(y, noise, rng)), (x_val, noisy(y_val, noise, rng)), (x_test, y_test)


def train(arm, setting, seed, data, epochs):
    """A network after its training."""
    loss, name, _ = ARMS[arm]
    learning_rate, number = setting
    decay = number if name == "weight_decay" else WEIGHT_DECAY
    keras.utils.set_random_seed(seed)
    # As the optimizers of torch count it: the gradient of half the squared norm.
    decays = {
        f"{part}_regularizer": keras.regularizers.L2(decay / 2) for part in ("kernel", "bias")
    }
    network = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, "tanh", kernel_initializer="glorot_normal", **decays),
            keras.layers.Dense(CLASSES, kernel_initializer="glorot_normal", **decays),
        ]
    )
    x, y = data
    steps = epochs * -(-len(x) // 64)
    rates = keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps // 2, 3 * steps // 4], [learning_rate, learning_rate / 10, learning_rate / 100]
    )
    model, optimizer = network, keras.optimizers.SGD(rates, momentum=0.9)
    if arm == METHOD:
        model = ALDRTrainer(network, len(x), loss(number))
        model.compile(optimizer)
        y = np.stack([y, np.arange(len(y))], axis=1)
    else:
        model.compile(optimizer, loss=loss(number))
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return network


def accuracies(network, data):
    """Share of the examples whose label is among the 1, 2 and 3 highest scores."""
    x, y = data
    scores = network.predict(x, batch_size=len(x), verbose=0)
    # A network that has diverged gives NaN, and is right about nothing.
    rank = np.sum(~(scores <= np.take_along_axis(scores, y[:, None], axis=1)), axis=1)
    return {f"top{k}": round(float(np.mean(rank < k)), 5) for k in (1, 2, 3)}


def choose(seeds):
    """Prints, for each noise and arm, the setting that is best on noisy validation labels."""
    for noise, (arm, (_, name, values)) in itertools.product(NOISES, ARMS.items()):
        found = {}
        for setting in itertools.product(LEARNING_RATES, values):
            scores = []
            for seed in range(100, 100 + seeds):
                data, val, _ = digits(noise, seed)
                scores.append(accuracies(train(arm, setting, seed, data, EPOCHS), val)["top1"])
            found[setting] = np.mean(scores)
        best = max(found, key=found.get)
        print(f"  {noise}, {arm}, by learning rate and {name}:")
        print("  ", {setting: round(float(value), 3) for setting, value in found.items()})
        print(f'("{noise}", "{arm}"): {best},  # {found[best]:.3f}', flush=True)


def run(seeds, smoke):
    """One row per noise, arm and seed."""
    rows = []
    for seed, noise in itertools.product(range(seeds), NOISES):
        data, _, test = digits(noise, seed)
        for arm, (_, name, _) in ARMS.items():
            setting = CHOSEN[noise, arm]
            network = train(arm, setting, seed, data, 1 if smoke else EPOCHS)
            found = accuracies(network, test)
            same = {"noise": noise, "arm": arm, "seed": seed, "learning_rate": setting[0]}
            rows.append({**same, name: setting[1], **found})
            print(f"{noise}, seed {seed}, {arm}: {found}", flush=True)
    return rows


def main():
    args = _report.parser(__doc__, choose="find the settings").parse_args()
    if args.choose:
        return choose(args.seeds)
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    verdicts = []
    figure, axes = _report.new_figure(1, len(NOISES), figsize=(13, 2.4))
    for axis, noise in zip(axes, NOISES, strict=True):
        part = [row for row in rows if row["noise"] == noise]
        print(f"\nlabels: {noise}")
        _report.print_table(part, METHOD, ["top1", "top2", "top3"])
        compared = _report.compare_all(part, METHOD, "top1")
        mean, _, p = _report.paired(part, METHOD, "cross-entropy", "top1")
        verdicts.append(
            f"Labels {noise}: ALDR less cross-entropy {100 * mean:+.1f} points of top-1 accuracy "
            f"(p = {p:.2g}); {compared}."
        )
        _report.draw_bars(axis, part, METHOD, "top1")
        axis.set_xlabel(f"accuracy, labels {noise}; dots are seeds")
        axis.set_xlim(max(0.0, min(row["top1"] for row in part) - 0.02), None)
    with _report.output_folder(args) as folder:
        _report.write(folder, "ldr", rows, " ".join(verdicts), figure)


if __name__ == "__main__":
    main()
