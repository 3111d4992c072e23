"""Metrics of the confusion matrix as losses, against cross-entropy, on imbalanced data.

Data: digit 8 against the rest (10 % positives), breast cancer (37 %), both of scikit-learn, and
3,000 synthetic rows of which 7 % are positive. The seeds are the folds of a cross-validation: each
tests on a fifth that no other seed tests on, and of the rest a quarter is for validation. Model:
one linear unit from a start at zero, 500 steps of gradient descent on the whole training part,
features scaled to [0, 1].

AnyLoss is trained on the metric that it is judged by; the cross-entropies know none. Each arm takes
its learning rate from the same five, by that metric on the validation part; with "threshold chosen"
its threshold, too, which is 0.5 otherwise.

    KERAS_BACKEND=jax python examples/anyloss.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import itertools

import _report
import keras
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.model_selection import StratifiedKFold, train_test_split

from keras_zoo.losses import AnyLoss

METHOD = "AnyLoss"
BINARY, BALANCED = "cross-entropy", "class-weighted cross-entropy"
CHOSEN = ", threshold chosen"
METRICS = ("f1", "balanced_accuracy", "geometric_mean", "matthews", "jaccard")
LEARNING_RATES = (10.0, 1.0, 0.1, 0.01, 0.001)
FOLDS = 5


def digit_8():
    x, y = load_digits(return_X_y=True)
    return x, y == 8


def breast_cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return x, y == 0  # malignant


def synthetic():
    return make_classification(3000, 20, weights=[0.93], random_state=0)


DATA = {"digit 8": digit_8, "breast cancer": breast_cancer, "synthetic": synthetic}


def fold(data, seed):
    """`train, val, test`, each `(inputs, labels)`."""
    x, y = DATA[data]()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed // FOLDS)
    rest, test = list(folds.split(x, y))[seed % FOLDS]
    train, val = train_test_split(rest, test_size=0.25, stratify=y[rest], random_state=seed)
    low, high = x[train].min(axis=0), x[train].max(axis=0)
    x = ((x - low) / np.maximum(high - low, 1e-12)).astype("float32")
    return [(x[rows], y[rows].astype("float32")) for rows in (train, val, test)]


def score(metric, labels, scores, threshold):
    """A metric of the labels that a threshold gives, or one number for each of many thresholds."""
    positive = scores[:, None] > np.atleast_1d(threshold)
    label = labels[:, None] == 1
    tp, fp = (positive & label).sum(axis=0), (positive & ~label).sum(axis=0)
    fn, tn = label.sum() - tp, (~label).sum() - fp
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    with np.errstate(invalid="ignore"):
        found = {
            "f1": 2 * tp / (2 * tp + fp + fn),
            "balanced_accuracy": (recall + specificity) / 2,
            "geometric_mean": np.sqrt(recall * specificity),
            "matthews": (tp * tn - fp * fn)
            / np.sqrt(1.0 * (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
            "jaccard": tp / (tp + fp + fn),
        }[metric]
    return np.nan_to_num(found)


class Unit:
    """A linear unit under one loss; trained anew for each fold and learning rate."""

    def __init__(self, loss, features):
        layer = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")
        self.model = keras.Sequential([keras.Input((features,)), layer])
        self.model.compile(keras.optimizers.SGD(1.0), loss=loss)
        self.start = self.model.get_weights()

    def train(self, data, learning_rate, weights, steps):
        """A function from inputs to probabilities `(N,)`."""
        self.model.set_weights(self.start)
        self.model.optimizer.learning_rate = learning_rate
        x, y = data
        for _ in range(steps):
            self.model.train_on_batch(x, y, sample_weight=weights)
        kernel, bias = self.model.get_weights()
        # Logits, of which no two are rounded to one probability.
        return lambda x: (x @ kernel + bias)[:, 0]


def best_thresholds(metric, labels, scores):
    """The threshold between two scores that gives the best metric, and this."""
    ordered = np.unique(scores)
    between = np.concatenate([[ordered[0] - 1], (ordered[1:] + ordered[:-1]) / 2])
    found = score(metric, labels, scores, between)
    best = int(np.argmax(found))
    return between[best], found[best]


def rows_of(data, seed, units, steps):
    """One row per metric and arm."""
    train, val, test = fold(data, seed)
    share = train[1].mean()
    weights = np.where(train[1] == 1, 0.5 / share, 0.5 / (1 - share)).astype("float32")
    trained = {
        (loss, rate): unit.train(train, rate, weights if loss == BALANCED else None, steps)
        for (loss, unit), rate in itertools.product(units.items(), LEARNING_RATES)
    }
    rows = []
    for metric, (arm, loss) in itertools.product(
        METRICS, {METHOD: None, BINARY: BINARY, BALANCED: BALANCED}.items()
    ):
        for chosen in ("", CHOSEN):
            found = []
            for rate in LEARNING_RATES:
                model = trained[loss or metric, rate]
                scores = model(val[0])
                if chosen:
                    threshold, value = best_thresholds(metric, val[1], scores)
                else:
                    threshold, value = 0.0, score(metric, val[1], scores, 0.0)[0]
                tested = score(metric, test[1], model(test[0]), threshold)[0]
                found.append((value, rate, threshold, tested))
            _, rate, threshold, tested = max(found, key=lambda row: row[0])
            rows.append(
                {
                    "data": data,
                    "goal": metric,
                    "arm": arm + chosen,
                    "seed": seed,
                    "learning_rate": rate,
                    "threshold_of_logits": round(float(threshold), 5),
                    "score": round(float(tested), 5),
                }
            )
    return rows


def run(seeds, smoke):
    """The rows of all data sets."""
    rows = []
    for data in DATA:
        features = fold(data, 0)[0][0].shape[1]
        losses = {BINARY: "binary_crossentropy", BALANCED: "binary_crossentropy"}
        losses.update({metric: AnyLoss(metric) for metric in METRICS})
        units = {name: Unit(loss, features) for name, loss in losses.items()}
        for seed in range(seeds):
            rows += rows_of(data, seed, units, 3 if smoke else 500)
            print(f"{data}, seed {seed} done", flush=True)
    return rows


def verdict(rows):
    """How far AnyLoss is ahead of each way of cross-entropy, and how often, by data set."""
    sentences = []
    for data in DATA:
        parts = []
        for method, other in (
            (METHOD, BINARY),
            (METHOD, BALANCED),
            (METHOD, BINARY + CHOSEN),
            (METHOD + CHOSEN, BINARY + CHOSEN),
        ):
            pairs = [
                _report.paired(rows, method, other, "score", data=data, goal=goal)
                for goal in METRICS
            ]
            won, lost = (
                sum(p < 0.05 and sign * mean > 0 for mean, _, p in pairs) for sign in (1, -1)
            )
            mean = np.mean([mean for mean, *_ in pairs])
            parts.append(f"{method} less {other} {mean:+.3f} (better {won}, worse {lost})")
        sentences.append(f"{data}: {'; '.join(parts)}.")
    return (
        f"Means over {len(METRICS)} metrics, and on how many the arms differ (paired t-tests at "
        f"5 %, not corrected). {' '.join(sentences)}"
    )


def main():
    args = _report.parser(__doc__).parse_args()
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    figure, axes = _report.new_figure(1, len(DATA), figsize=(15, 2.6))
    for axis, data in zip(axes, DATA, strict=True):
        for metric in METRICS:
            print(f"\n{data}, {metric}")
            part = [row for row in rows if (row["data"], row["goal"]) == (data, metric)]
            _report.print_table(part, METHOD, ["score"])
        part = [row for row in rows if (row["data"], row["goal"]) == (data, "f1")]
        _report.draw_bars(axis, part, METHOD, "score")
        axis.set_xlabel(f"F1, {data}; dots are folds")
    with _report.output_folder(args) as folder:
        _report.write(folder, "anyloss", rows, verdict(rows), figure)


if __name__ == "__main__":
    main()
