"""Naive Bayes against logistic regression on simulated and on frozen features: two regimes.

Simulation: `K` classes in `n` dimensions, class means -1, 1, 2, 4, ... in every coordinate,
variance `n` in the first half of the coordinates and 1 in the others. Digits: 5,000 of MNIST, of
which a small convolutional network, a new one for each seed, learns 0-4; the task is 5-9, given as
the 256 features of the frozen network or as plain pixels, scaled to [0, 1] by the minima and maxima
of the training rows.

Each seed draws, for each number of training rows, rows that hold every class, the same for both
arms: the naive Bayes head, and scikit-learn's multinomial logistic regression (lbfgs, at most 1,000
iterations). Each arm has seven values of its one number, epsilon or C, of which that with the least
mean error on validation rows is taken, for each task and number of rows. All seeds have the same
digits for the test.

    KERAS_BACKEND=jax python examples/discriminative_vs_generative.py --seeds 10
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import functools
import itertools
import warnings

import _report
import keras
import numpy as np
from _digits import mnist
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler

from keras_zoo.layers import GaussianNaiveBayes

METHOD, RIVAL = "naive Bayes", "logistic regression"
# The paper's value first, which is taken where none is better.
SETTINGS = {
    METHOD: ("epsilon", (1e-9, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
    RIVAL: ("C", (1.0, 1e-4, 1e-3, 1e-2, 1e-1, 1e1, 1e2)),
}
FEATURES, PIXELS = "network features", "pixels"
SIMULATIONS = {f"K = {k}, n = {n}": (k, n) for k, n in itertools.product((2, 5), (100, 400))}
ROWS = {
    **dict.fromkeys(SIMULATIONS, (10, 40, 160, 640)),
    FEATURES: (10, 20, 50, 100, 200, 500, 1500),
    PIXELS: (10, 20, 50, 100, 200, 500, 1500),
}
VALIDATION, TEST = 400, 600
EPOCHS = 6


def simulated(classes, n, rows, rng):
    """Features `(rows, n)` and labels of the paper's easy simulation."""
    labels = rng.integers(classes, size=rows)
    means = np.array([-1.0, *(2.0**k for k in range(classes - 1))])
    deviations = np.where(np.arange(n) < n // 2, np.sqrt(n), 1.0)
    return means[labels][:, None] + deviations * rng.normal(size=(rows, n)), labels


@functools.cache
def digits():
    """Images `(n, 28, 28, 1)` in [0, 1], and digits."""
    pixels, labels = mnist()
    return pixels.reshape(-1, 28, 28, 1).astype("float32") / 255, labels


def frozen_network(seed, epochs):
    """What digits 0-4 have taught a network: 256 features of an image."""
    images, labels = digits()
    rows = labels < 5
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    backbone = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(256, "relu"),
        ]
    )
    model = keras.Sequential([backbone, layers.Dense(5)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[rows], labels[rows], batch_size=64, epochs=epochs, verbose=0)
    return backbone


def tasks(seed, smoke):
    """For each task: `pool, validation, test`, each features and labels."""
    for name, (classes, n) in SIMULATIONS.items():
        rng = np.random.default_rng([seed, classes, n])
        parts = (2 * max(ROWS[name]), VALIDATION, 5 * TEST)
        yield name, [simulated(classes, n, rows, rng) for rows in parts]
    images, labels = digits()
    images, labels = images[labels >= 5], labels[labels >= 5] - 5
    order = np.random.default_rng(0).permutation(len(labels))
    rest = np.random.default_rng(seed + 1).permutation(order[TEST:])
    parts = rest[VALIDATION:], rest[:VALIDATION], order[:TEST]
    features = frozen_network(seed, 1 if smoke else EPOCHS).predict(images, verbose=0)
    for name, x in ((FEATURES, features), (PIXELS, images.reshape(len(images), -1))):
        yield name, [(x[rows], labels[rows]) for rows in parts]


def drawn(labels, rows, rng):
    """So many rows at random, among which every class appears."""
    while True:
        found = rng.choice(len(labels), rows, replace=False)
        if len(np.unique(labels[found])) == len(np.unique(labels)):
            return found


def errors(arm, setting, train, *others):
    """Share of wrong answers on other rows, after a fit to the training rows."""
    x, y = train
    if arm == METHOD:
        head = GaussianNaiveBayes(len(np.unique(y)), epsilon=setting).adapt(x, y)
        predict = lambda x: keras.ops.convert_to_numpy(head(x)).argmax(axis=1)  # noqa: E731
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            predict = LogisticRegression(C=setting, max_iter=1000).fit(x, y).predict
    return [round(float(np.mean(predict(x) != y)), 5) for x, y in others]


def tried(seeds, smoke):
    """One row for each task, number of training rows, seed, arm and setting."""
    rows = []
    for seed in range(seeds):
        for name, (pool, *others) in tasks(seed, smoke):
            for m in ROWS[name][: 1 if smoke else None]:
                chosen = drawn(pool[1], m, np.random.default_rng([seed, m]))
                parts = [(pool[0][chosen], pool[1][chosen]), *others]
                if name not in SIMULATIONS:
                    scaler = MinMaxScaler().fit(parts[0][0])
                    parts = [(scaler.transform(x), y) for x, y in parts]
                for arm, (key, values) in SETTINGS.items():
                    for value in values:
                        validation, test = errors(arm, value, *parts)
                        own = {"arm": arm, "seed": seed, "data": name, "training_rows": m}
                        rows.append({**own, key: value, "validation": validation, "error": test})
            print(f"seed {seed}, {name}", flush=True)
    return rows


def sizes(rows, name):
    """The numbers of training rows of a task."""
    return sorted({row["training_rows"] for row in rows if row["data"] == name})


def chosen_by_validation(rows):
    """The rows of the setting that is best on validation, for each task, number of rows and arm."""
    kept = []
    for name, (arm, (key, values)) in itertools.product(ROWS, SETTINGS.items()):
        for m in sizes(rows, name):
            here = {"data": name, "training_rows": m}
            found = [
                _report.column(rows, arm, "validation", **here, **{key: value}).mean()
                for value in values
            ]
            best = {"arm": arm, **here, key: values[int(np.argmin(found))]}
            kept += [row for row in rows if best.items() <= row.items()]
    return [{key: v for key, v in row.items() if key != "validation"} for row in kept]


def curve(rows, arm, name):
    """Mean test error for each number of training rows, `(M,)`."""
    return np.array(
        [
            _report.column(rows, arm, "error", data=name, training_rows=m).mean()
            for m in sizes(rows, name)
        ]
    )


def compare(rows, name):
    """Prints the errors of a task, and returns who is ahead at which number of rows, with p."""
    print(f"\n{name}\n{'rows':>6}{METHOD:>22}{RIVAL:>22}{'difference':>22}{'p':>10}")
    ahead = {METHOD: {}, RIVAL: {}, "neither": {}}
    for m in sizes(rows, name):
        here = {"data": name, "training_rows": m}
        line = f"{m:>6}"
        for arm in SETTINGS:
            values = _report.column(rows, arm, "error", **here)
            line += f"{f'{values.mean():.4f} ± {values.std(ddof=min(1, len(values) - 1)):.4f}':>22}"
        mean, spread, p = _report.paired(rows, METHOD, RIVAL, "error", **here)
        print(f"{line}{f'{mean:+.4f} ± {spread:.4f}':>22}{p:>10.2g}")
        ahead[(METHOD if mean < 0 else RIVAL) if p < 0.05 else "neither"][m] = p
    return ahead


def enough(rows, arm, name):
    """The number of rows from which on an arm stays within .02 of its error at the last number."""
    errors = curve(rows, arm, name)
    far = np.flatnonzero(errors > errors[-1] + 0.02)
    return sizes(rows, name)[far[-1] + 1 if len(far) else 0]


def say(rows, name, ahead):
    """A task's outcome in words."""
    found = []
    for arm, at in ahead.items():
        if at:
            p = f" (p up to {max(at.values()):.1g})" if arm in SETTINGS else ""
            found.append(f"{arm} ahead at {', '.join(map(str, at))}{p}")
    needs = " and ".join(f"{arm} {enough(rows, arm, name)}" for arm in SETTINGS)
    return f"{name}: {'; '.join(found)}; rows until within .02 of the last error: {needs}."


def judge(rows, ahead):
    """The verdict: whether the lead changes from naive Bayes to its rival, then each task."""
    crossed = [
        f"{name} (between {max(at[METHOD])} and {min(at[RIVAL])} rows)"
        for name, at in ahead.items()
        if at[METHOD] and at[RIVAL] and max(at[METHOD]) < min(at[RIVAL])
    ]
    sooner = [name for name in ahead if enough(rows, METHOD, name) < enough(rows, RIVAL, name)]
    return (
        "Test error by number of training rows (paired t-tests at 5 %, not corrected). The lead "
        f"passes from naive Bayes to logistic regression in: {', '.join(crossed) or 'no task'}. "
        "Naive Bayes is near its own last error with fewer rows than logistic regression in "
        f"{len(sooner)} of {len(ahead)} tasks. "
        f"{' '.join(say(rows, name, at) for name, at in ahead.items())}"
    )


def draw(axis, rows, name):
    """Test error against the number of training rows: the mean, and the seeds."""
    for arm, colour in ((METHOD, "tab:orange"), (RIVAL, "gray")):
        axis.plot(sizes(rows, name), curve(rows, arm, name), color=colour, label=arm)
        own = [row for row in rows if row["arm"] == arm and row["data"] == name]
        m, error = [row["training_rows"] for row in own], [row["error"] for row in own]
        axis.plot(m, error, ".", color=colour, markersize=3)
    axis.set_xscale("log")
    axis.set_ylim(0, None)
    axis.set_title(name, fontsize=9)


def main():
    args = _report.parser(__doc__, seeds=10).parse_args()
    rows = chosen_by_validation(tried(1 if args.smoke else args.seeds, args.smoke))
    figure, axes = _report.new_figure(2, 3, figsize=(10, 5))
    ahead = {name: compare(rows, name) for name in ROWS}
    for axis, name in zip(axes.flat, ROWS, strict=True):
        draw(axis, rows, name)
    figure.supxlabel("training rows")
    figure.supylabel("test error; dots are seeds")
    axes[0, 0].legend(fontsize=8)
    with _report.output_folder(args) as folder:
        _report.write(folder, "discriminative-vs-generative", rows, judge(rows, ahead), figure)


if __name__ == "__main__":
    main()
