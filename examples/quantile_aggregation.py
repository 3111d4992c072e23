"""Mixing the quantiles of four models in six ways, against each model, their average and median.

KERAS_BACKEND=jax python examples/quantile_aggregation.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import functools

import _report
import keras
import numpy as np
from mlxtend.data import autompg_data
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from keras_zoo.layers import MonotoneQuantiles
from keras_zoo.losses import QuantileLoss
from keras_zoo.metrics import QuantileCalibrationError, WeightedIntervalScore
from keras_zoo.models import ConformalQuantileCalibrator
from keras_zoo.trainers import StackedQuantileRegressor

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
FORMS = {
    f"{weights} {resolution}": (resolution, weights == "local")
    for weights in ("global", "local")
    for resolution in ("coarse", "medium", "fine")
}
METHOD, DEEP, AVERAGE, MEDIAN = "global medium", "local fine", "average", "median"
CONFORMAL = f"{METHOD}, conformal"
# (learning rate, epochs) that are tried on the validation rows of each split.
SETTINGS = {False: ((0.02, 60), (0.1, 60), (0.3, 60)), True: ((1e-3, 25), (3e-3, 60), (1e-2, 60))}
# The batch is that of the official code for some hundred rows.
FIXED = {"crossing_weight": 1.0, "crossing_margin": 0.01, "batch_size": 32}
SYNTHETIC = "two regimes"


# Base models: one fit for all quantiles, settings fixed beforehand


class RidgeResiduals:
    """A linear mean, plus the quantiles of what it leaves; of some of the rows, if told so."""

    def __init__(self, select=None):
        self.select = select

    def fit(self, X, y):
        """Learns."""
        if self.select is not None:
            rows = self.select(X)
            X, y = X[rows], y[rows]
        self.model = Ridge().fit(X, y)
        self.offsets = np.quantile(y - self.model.predict(X), LEVELS)

    def predict(self, X):
        """Quantiles `(n, Q)`."""
        return self.model.predict(X)[:, None] + self.offsets


class Neighbours:
    """The quantiles of the 40 nearest rows."""

    def fit(self, X, y):
        """Learns."""
        self.nearest, self.y = NearestNeighbors(n_neighbors=40).fit(X), y

    def predict(self, X):
        """Quantiles `(n, Q)`."""
        return np.quantile(self.y[self.nearest.kneighbors(X)[1]], LEVELS, axis=1).T


class Forest:
    """Quantiles of the training targets, each weighted by how often it shares a leaf."""

    def fit(self, X, y):
        """Learns."""
        self.forest = RandomForestRegressor(80, min_samples_leaf=8, random_state=0).fit(X, y)
        order = np.argsort(y)
        self.y, self.leaves = y[order], self.forest.apply(X[order])

    def predict(self, X):
        """Quantiles `(n, Q)`."""
        shares = np.zeros((len(X), len(self.y)))
        for own, leaves in zip(self.forest.apply(X).T, self.leaves.T, strict=True):
            same = own[:, None] == leaves
            shares += same / same.sum(axis=1, keepdims=True)
        below = np.cumsum(shares, axis=1) / shares.sum(axis=1, keepdims=True)
        places = [np.argmax(below >= level - 1e-9, axis=1) for level in LEVELS]
        return np.stack([self.y[place] for place in places], axis=1)


class Network:
    """A Keras network of all quantiles; compiled once, and started anew by each fit."""

    def fit(self, X, y):
        """Learns."""
        model, state = compiled_network(X.shape[1])
        for variable, value in zip(model.variables + model.optimizer.variables, state, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(0)
        model.fit(X, y, batch_size=32, epochs=30, verbose=0)
        self.weights = model.get_weights()

    def predict(self, X):
        """Quantiles `(n, Q)`."""
        model, _ = compiled_network(X.shape[1])
        model.set_weights(self.weights)
        return model.predict(X, batch_size=512, verbose=0)


@functools.cache
def compiled_network(features):
    """A network and the first values of its and its optimizer's variables."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, "relu"), keras.layers.Dense(len(LEVELS)), MonotoneQuantiles()]
    model = keras.Sequential([keras.Input((features,)), *layers])
    model.compile(keras.optimizers.Adam(1e-2), QuantileLoss(LEVELS))
    model.optimizer.build(model.trainable_variables)
    variables = model.variables + model.optimizer.variables
    return model, [keras.ops.convert_to_numpy(variable) for variable in variables]


class Remembered:
    """A base model that is fitted once to the same rows, however many stacks ask for it."""

    fitted = {}

    def __init__(self, name, make):
        self.name, self.make = name, make

    def fit(self, X, y):
        """Learns, or remembers."""
        key = self.name, X.tobytes(), y.tobytes()
        if key not in self.fitted:
            self.fitted[key] = self.make()
            self.fitted[key].fit(X, y)
        self.model = self.fitted[key]

    def predict(self, X):
        """Quantiles `(n, Q)`."""
        return self.model.predict(X)


def left(X):
    return X[:, 0] < 0


def right(X):
    return X[:, 0] >= 0


BASES = {"ridge": RidgeResiduals, "neighbours": Neighbours, "forest": Forest, "network": Network}
EXPERTS = {
    "left expert": lambda: RidgeResiduals(left),
    "right expert": lambda: RidgeResiduals(right),
}


# Data


@functools.cache
def table(name):
    """`(X, y)`, y of mean 0 and variance 1."""
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
    elif name == "auto-mpg":
        X, y = autompg_data()
        X = X[:, :7]  # The last column holds names.
    else:
        rng = np.random.default_rng(0)
        X = rng.uniform(-1, 1, size=(800, 2))
        y = np.where(X[:, 0] < 0, 2 * X[:, 1], -2 * X[:, 1]) + 0.3 * rng.normal(size=800)
    return X, (y - y.mean()) / y.std()


def split(name, seed):
    """Training (half), validation, calibration (15 % each) and test rows, each `(X, y)`."""
    X, y = table(name)
    order = np.random.default_rng(seed).permutation(len(y))
    parts = np.split(order, [round(share * len(y)) for share in (0.5, 0.65, 0.8)])
    train = X[parts[0]]
    X = (X - train.mean(axis=0)) / train.std(axis=0)
    return [(X[rows], y[rows]) for rows in parts]


def figures(y, quantiles):
    """Score, calibration error, coverage of the 90 % interval."""
    score, error = WeightedIntervalScore(LEVELS), QuantileCalibrationError(LEVELS)
    score.update_state(y, quantiles)
    error.update_state(y, quantiles)
    covered = np.mean((quantiles[:, 0] <= y) & (y <= quantiles[:, -1]))
    found = {"wis": score.result(), "calibration_error": error.result(), "coverage_90": covered}
    return {key: round(float(value), 5) for key, value in found.items()}


def stacked(bases, form, setting, train, seed):
    """A fitted stack of this form."""
    resolution, local = FORMS[form]
    learning_rate, epochs = setting
    models = [Remembered(name, make) for name, make in bases.items()]
    stack = StackedQuantileRegressor(
        models,
        LEVELS,
        resolution,
        local,
        seed=seed,
        epochs=epochs,
        learning_rate=learning_rate,
        **FIXED,
    )
    return stack.fit(*train)


def run_split(name, seed, forms, smoke):
    """Rows of all arms on one split, and the test rows with the calibrated quantiles."""
    train, validation, calibration, test = split(name, seed)
    bases = EXPERTS if name == SYNTHETIC else BASES
    if smoke:
        bases = {key: bases[key] for key in list(bases)[:2]}
    rows, predicted = [], {}

    def add(arm, quantiles, **settings):
        row = {"task": name, "arm": arm, "seed": seed, **figures(test[1], quantiles), **settings}
        rows.append(row)
        predicted[arm] = quantiles

    for form in forms:
        settings = SETTINGS[FORMS[form][1]]
        tried = []
        for setting in [(settings[0][0], 2)] if smoke else settings:
            # The same seed deals out the same folds, so that base models are fitted once.
            stack = stacked(bases, form, setting, train, seed)
            score = figures(validation[1], stack.predict(validation[0]))["wis"]
            tried.append((score, setting, stack))
        _, (learning_rate, epochs), stack = min(tried, key=lambda entry: entry[0])
        chosen = {"learning_rate": learning_rate, "epochs": epochs}
        add(form, stack.predict(test[0]), **chosen)
        if form == METHOD:
            calibrator = ConformalQuantileCalibrator(LEVELS)
            calibrator.fit(stack.predict(calibration[0]), calibration[1])
            add(CONFORMAL, calibrator.predict(predicted[form]), **chosen)
    z = np.stack([model.predict(test[0]) for model in stack.fitted_models_], axis=1)
    for arm, quantiles in zip(bases, np.moveaxis(z, 1, 0), strict=True):
        add(arm, quantiles)
    add(AVERAGE, z.mean(axis=1))
    add(MEDIAN, np.sort(np.median(z, axis=1), axis=1))
    Remembered.fitted.clear()
    return rows, (test[1], predicted[CONFORMAL])


def draw_fan(axis, y, quantiles):
    """The test rows in the order of their medians, in bands of quantiles."""
    order = np.argsort(quantiles[:, len(LEVELS) // 2])
    places, rows = np.arange(len(y)), quantiles[order]
    for i in range(len(LEVELS) // 2):
        share = f"{LEVELS[-1 - i] - LEVELS[i]:.0%}"
        axis.fill_between(
            places, rows[:, i], rows[:, -1 - i], color="tab:orange", alpha=0.25, lw=0, label=share
        )
    axis.plot(places, rows[:, len(LEVELS) // 2], color="tab:red", lw=1)
    axis.plot(places, y[order], "k.", markersize=3)
    axis.set_xlabel("test rows by predicted median")
    axis.legend(loc="upper left", fontsize=7)


def verdict_of(task, rows):
    """What the rows of one task say."""
    means = {arm: _report.column(rows, arm, "wis").mean() for arm in _report.arms_of(rows)}
    cover = [_report.column(rows, arm, "coverage_90").mean() for arm in (METHOD, CONFORMAL)]
    covers = (
        f"The 90 % interval of {METHOD} covers {cover[0]:.3f} of the test rows, after conformal "
        f"calibration {cover[1]:.3f}."
    )
    if task == SYNTHETIC:
        gain = 1 - means["local medium"] / means[METHOD]
        mean, _, p = _report.paired(rows, "local medium", METHOD, "wis")
        word = "at least" if gain >= 0.1 else "less than"
        return (
            f"{task}: WIS of local medium less global medium {mean:+.4f} (p = {p:.2g}), "
            f"{gain:.0%} lower, {word} the tenth that was expected. {covers}"
        )
    parts = []
    for one, other in ((METHOD, AVERAGE), (DEEP, METHOD), (CONFORMAL, METHOD)):
        mean, _, p = _report.paired(rows, one, other, "wis")
        parts.append(f"{one} less {other} {mean:+.4f} (p = {p:.2g})")
    ranked = [arm for arm in sorted(means, key=means.get) if arm in FORMS]
    compared = _report.compare_all(rows, METHOD, "wis", higher_is_better=False)
    return (
        f"{task}: WIS {'; '.join(parts)}; {compared}. Forms from the lowest mean: "
        f"{', '.join(f'{arm} {means[arm]:.4f}' for arm in ranked)}. {covers}"
    )


def main():
    args = _report.parser(__doc__).parse_args()
    seeds = 1 if args.smoke else args.seeds
    tasks = ["diabetes"] if args.smoke else ["diabetes", "auto-mpg", SYNTHETIC]
    rows, fans = [], {}
    for task in tasks:
        forms = [METHOD, "local medium"] if task == SYNTHETIC else list(FORMS)
        if args.smoke:
            forms = [METHOD, DEEP]
        for seed in range(seeds):
            found, fan = run_split(task, seed, forms, args.smoke)
            rows += found
            fans.setdefault(task, fan)
            print(f"{task}, split {seed}:", {r["arm"]: r["wis"] for r in found}, flush=True)
    report(args, rows, fans)


def report(args, rows, fans):
    """Prints and draws what the rows say, with a fan of the first task."""
    verdicts, tasks = [], list(fans)
    real = [task for task in tasks if task != SYNTHETIC]
    figure, axes = _report.new_figure(1, len(real) + 1, figsize=(5 * len(real) + 4, 3.6))
    for task in tasks:
        part = [row for row in rows if row["task"] == task]
        print(f"\n{task}")
        _report.print_table(part, METHOD, ["wis", "calibration_error", "coverage_90"])
        verdicts.append(verdict_of(task, part))
        if task in real:
            axis = axes[real.index(task)]
            _report.draw_bars(axis, part, METHOD, "wis")
            axis.set_xlabel(f"weighted interval score (low is good), {task}")
            axis.set_xlim(0.8 * min(row["wis"] for row in part), None)
    draw_fan(axes[-1], *fans[real[0]])
    axes[-1].set_title(f"{real[0]}, split 0: {CONFORMAL}", fontsize=8)
    with _report.output_folder(args) as folder:
        _report.write(folder, "quantile-aggregation", rows, " ".join(verdicts), figure)


if __name__ == "__main__":
    main()
