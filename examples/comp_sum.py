"""Comp-sum losses: which tau for a plain classifier, and adversarial training with the smooth ones.

Data: the 1,797 digits of scikit-learn, pixels in [0, 1]. 719 of them are the test; each seed draws
216 of the rest for validation. Network: 64-64-10, ReLU; batches of 64, 40 epochs. Arms share, seed
by seed, digits and start.

Task "tau": `CompSumLoss` for five values of tau, SGD with momentum 0.9, learning rate chosen from
four by validation accuracy. tau = 1 is cross-entropy.

Task "robustness": the attacker may move each pixel by 0.1. Cross-entropy on clean inputs,
adversarial training (cross-entropy on attacked inputs), TRADES, and `SmoothAdversarialTrainer`, all
trained with ten steps of 0.025 from a random start. Each arm has nine settings: three learning
rates of Adam, and three values of the number that matters most to it: nu of the smooth loss, beta
of TRADES, otherwise the L2 penalty. `--choose` takes the best of them, with other seeds, by robust
accuracy on validation digits: the share that are classified rightly both as they are and after 40
steps of 0.01 that minimise the margin of the right class.

    KERAS_BACKEND=jax python examples/comp_sum.py --seeds 5
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

from keras_zoo.losses import CompSumLoss
from keras_zoo.ops import projected_gradient_attack
from keras_zoo.trainers import SmoothAdversarialTrainer

METHOD = "smooth adversarial"
TAUS = (0.0, 0.5, 1.0, 1.5, 2.0)
EPOCHS = 40
ATTACK = {"epsilon": 0.1, "step_size": 0.025, "num_steps": 10}
L2 = 1e-4


def cross_entropy(y, logits):
    return ops.sparse_categorical_crossentropy(y, logits, from_logits=True)


def divergence(clean, attacked):
    """Kullback-Leibler divergence of the predictions from those of the clean inputs, `(N,)`."""
    log_p, log_q = ops.log_softmax(clean, axis=-1), ops.log_softmax(attacked, axis=-1)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


class AttackedTraining(keras.Model):
    """Adversarial training, with cross-entropy throughout, or as TRADES (arXiv:1901.08573).

    Args:
        network: model.
        beta: float, TRADES's weight of the divergence; None for cross-entropy on attacked inputs.
        seed: int.
    """

    def __init__(self, network, beta=None, seed=0):
        super().__init__()
        self.network = network
        self.beta = beta
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        """The network's logits."""
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss on attacked inputs, for TRADES also on clean ones."""
        clean = ops.stop_gradient(self.network(x, training=False))

        def objective(x):
            attacked = self.network(x, training=False)
            return cross_entropy(y, attacked) if self.beta is None else divergence(clean, attacked)

        noise = keras.random.uniform(ops.shape(x), -1.0, 1.0, seed=self.seed_generator)
        start = ops.clip(x + ATTACK["epsilon"] * noise, 0.0, 1.0)
        moved = projected_gradient_attack(objective, x, **ATTACK, x_start=start)
        attacked = self.network(moved, training=training)
        if self.beta is None:
            losses = cross_entropy(y, attacked)
        else:
            losses = cross_entropy(y, y_pred) + self.beta * divergence(y_pred, attacked)
        return ops.mean(losses) + sum(self.losses)


# The number of an arm, and the values that are tried.
ARMS = {
    METHOD: ("nu", (0.1, 0.3, 1.0)),
    "cross-entropy": ("l2", (1e-5, 1e-4, 1e-3)),
    "adversarial training": ("l2", (1e-5, 1e-4, 1e-3)),
    "TRADES": ("beta", (1.0, 3.0, 6.0)),
}
SGD_RATES = (0.3, 0.1, 0.03, 0.01)
ADAM_RATES = (1e-3, 3e-3, 1e-2)
# By `--choose --seeds 2`: the learning rate of each tau; learning rate and number of each arm.
CHOSEN_RATES = {0.0: 0.01, 0.5: 0.03, 1.0: 0.3, 1.5: 0.3, 2.0: 0.1}
CHOSEN = {
    METHOD: (0.003, 0.3),
    "cross-entropy": (0.001, 0.001),
    "adversarial training": (0.003, 0.0001),
    "TRADES": (0.01, 1.0),
}


def digits(seed):
    """`train, val, test`, each `(inputs, labels)`."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    x, x_test, y, y_test = train_test_split(x, y, test_size=719, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=216, stratify=y, random_state=seed)
    return (x, y), (x_val, y_val), (x_test, y_test)


def new_network(seed, l2=0.0):
    keras.utils.set_random_seed(seed)
    penalty = keras.regularizers.L2(l2)
    hidden = keras.layers.Dense(64, "relu", kernel_regularizer=penalty)
    output = keras.layers.Dense(10, kernel_regularizer=penalty)
    return keras.Sequential([keras.Input((64,)), hidden, output])


def train_tau(tau, learning_rate, seed, data, epochs):
    """A network trained with a comp-sum loss."""
    network = new_network(seed)
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
    network.compile(optimizer, CompSumLoss(tau))
    network.fit(*data, batch_size=64, epochs=epochs, verbose=0)
    return network


def train_arm(arm, setting, seed, data, epochs):
    """A network trained to withstand the attacker, or not."""
    learning_rate, number = setting
    name, _ = ARMS[arm]
    network = new_network(seed, number if name == "l2" else L2)
    optimizer = keras.optimizers.Adam(learning_rate)
    if arm == METHOD:
        model = SmoothAdversarialTrainer(network, nu=number, **ATTACK, seed=seed)
        model.compile(optimizer)
    elif arm == "cross-entropy":
        model = network
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    else:
        model = AttackedTraining(network, number if name == "beta" else None, seed)
        model.compile(optimizer)
    model.fit(*data, batch_size=64, epochs=epochs, verbose=0)
    return network


def hits(network, x, y):
    """Which of the digits are classified rightly; none by a network that has diverged."""
    logits = ops.convert_to_numpy(network(x))
    return (np.argmax(logits, axis=1) == y) & np.isfinite(logits).all(axis=1)


def accuracy(network, x, y):
    return round(float(hits(network, x, y).mean()), 5)


def robust_accuracy(network, x, y):
    """Share of the digits that are classified rightly, before and after the attack."""
    own = ops.one_hot(y, 10)

    def deficit(x):
        """By how much the best wrong class is ahead."""
        logits = network(x, training=False)
        return ops.amax(logits - 1e9 * own, axis=-1) - ops.sum(logits * own, axis=-1)

    noise = np.random.default_rng(0).uniform(-0.1, 0.1, x.shape).astype("float32")
    start = np.clip(x + noise, 0, 1)
    moved = projected_gradient_attack(deficit, x, 0.1, 0.01, 40, start)
    return round(float(np.mean(hits(network, x, y) & hits(network, moved, y))), 5)


def choose(seeds):
    """Prints the settings that are best on the validation splits of other seeds."""
    seeds = range(100, 100 + seeds)
    for tau in TAUS:
        found = {}
        for rate in SGD_RATES:
            splits = [(seed, *digits(seed)[:2]) for seed in seeds]
            scores = [accuracy(train_tau(tau, rate, s, d, EPOCHS), *val) for s, d, val in splits]
            found[rate] = round(float(np.mean(scores)), 4)
        print(f"{tau}: {max(found, key=found.get)},  # {found}", flush=True)
    for arm, (name, values) in ARMS.items():
        found = {}
        for setting in itertools.product(ADAM_RATES, values):
            scores = []
            for seed in seeds:
                data, val, _ = digits(seed)
                network = train_arm(arm, setting, seed, data, EPOCHS)
                scores.append((robust_accuracy(network, *val), accuracy(network, *val)))
            found[setting] = tuple(np.mean(scores, axis=0).round(4).tolist())
        print(f"  {arm}, by learning rate and {name}: {found}")
        print(f'"{arm}": {max(found, key=found.get)},', flush=True)


def run(seeds, smoke):
    """One row per task, arm and seed."""
    rows, epochs = [], 1 if smoke else EPOCHS
    for seed in range(seeds):
        data, _, test = digits(seed)
        for tau in TAUS:
            network = train_tau(tau, CHOSEN_RATES[tau], seed, data, epochs)
            row = {"task": "tau", "arm": f"tau {tau:g}", "seed": seed}
            row["learning_rate"] = CHOSEN_RATES[tau]
            rows.append({**row, "accuracy": accuracy(network, *test)})
            print(rows[-1], flush=True)
        for arm, (name, _) in ARMS.items():
            rate, number = CHOSEN[arm]
            network = train_arm(arm, CHOSEN[arm], seed, data, epochs)
            row = {"task": "robustness", "arm": arm, "seed": seed, "learning_rate": rate}
            row |= {"setting": f"{name} {number:g}", "accuracy": accuracy(network, *test)}
            rows.append({**row, "robust": robust_accuracy(network, *test)})
            print(rows[-1], flush=True)
    return rows


def main():
    args = _report.parser(__doc__, choose="find the settings").parse_args()
    if args.choose:
        return choose(args.seeds)
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    family = [row for row in rows if row["task"] == "tau"]
    robust = [row for row in rows if row["task"] == "robustness"]
    print("\ntau of a plain classifier (1 is cross-entropy)")
    _report.print_table(family, "tau 1", ["accuracy"])
    print("\nrobustness")
    _report.print_table(robust, METHOD, ["robust", "accuracy"])
    means = [_report.column(family, f"tau {tau:g}", "accuracy").mean() for tau in TAUS]
    listed = ", ".join(
        f"{100 * mean:.1f} (tau {tau:g})" for mean, tau in zip(means, TAUS, strict=True)
    )
    parts = []
    for arm in ("cross-entropy", "adversarial training", "TRADES"):
        gains = [_report.paired(robust, METHOD, arm, metric) for metric in ("robust", "accuracy")]
        told = (f"{100 * mean:+.1f} (p = {p:.2g})" for mean, _, p in gains)
        parts.append(f"{arm} {' and '.join(told)}")
    verdict = (
        f"Accuracy of plain classifiers in %: {listed}; "
        f"{_report.compare_all(family, 'tau 1', 'accuracy')}. "
        "Smooth adversarial training, points of robust and of clean accuracy less those of "
        f"{'; '.join(parts)}: in robust accuracy {_report.compare_all(robust, METHOD, 'robust')}."
    )
    figure, axes = _report.new_figure(1, 3, figsize=(13, 2.4))
    _report.draw_bars(axes[0], family, "tau 1", "accuracy")
    axes[0].set_xlabel("accuracy of plain classifiers; dots are seeds")
    for axis, metric in zip(axes[1:], ("robust", "accuracy"), strict=True):
        _report.draw_bars(axis, robust, METHOD, metric)
    axes[1].set_xlabel("accuracy under attack")
    axes[2].set_xlabel("accuracy on clean inputs")
    for axis, part in ((axes[0], family), (axes[2], robust)):
        axis.set_xlim(max(0.0, min(row["accuracy"] for row in part) - 0.02), 1.0)
    with _report.output_folder(args) as folder:
        _report.write(folder, "comp-sum", rows, verdict, figure)


if __name__ == "__main__":
    main()
