"""Continuously weighted against plain contrastive training of one tower on a frozen other one.

Data: 5,000 MNIST digits cut in halves. The frozen tower V learns bottom halves from 2,000 labelled
images; the fresh tower U learns top halves from 1,000 other digits, whose two halves are the
only thing it is given: no labels. Zero-shot test: 1,500 more top halves, each given to the class
whose mean V embedding is nearest. Arms share V, the start of U and the batches, seed by seed.
Temperature, learning rate and number of epochs of each arm were chosen by `--choose`, with other
seeds and on 500 digits that are in no other part.

    KERAS_BACKEND=jax python examples/cwcl.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import itertools

import _report
import keras
import numpy as np
from _digits import mnist

from keras_zoo.layers import LogitScale
from keras_zoo.losses import CWCLLoss, InfoNCELoss
from keras_zoo.metrics import zero_shot_accuracy

METHOD = "CWCL"
FROZEN = "frozen tower itself, on bottom halves"
LEARNED = ", temperature learned"
# Loss of an arm at a temperature.
ARMS = {
    "InfoNCE": InfoNCELoss,
    METHOD: CWCLLoss,
    "InfoNCE" + LEARNED: InfoNCELoss,
    METHOD + LEARNED: CWCLLoss,
    "CWCL, weights from V's classes": lambda t, **kw: CWCLLoss(t, weights_from="target", **kw),
    "CWCL, no reverse term": lambda t, **kw: CWCLLoss(t, reverse_weight=0.0, **kw),
}
TEMPERATURES = (0.07, 0.15, 0.3, 0.6, 1.2)
LEARNING_RATES = (1e-3, 3e-3)
EPOCHS_A_LOOK, LOOKS = 5, 12
# Temperature (the first one, where it is learned), learning rate, epochs: `--choose --seeds 3`.
CHOSEN = {
    "InfoNCE": (0.15, 3e-3, 5),
    METHOD: (0.3, 1e-3, 20),
    "InfoNCE" + LEARNED: (0.6, 1e-3, 20),
    METHOD + LEARNED: (1.2, 3e-3, 20),
    "CWCL, weights from V's classes": (0.6, 1e-3, 30),
    "CWCL, no reverse term": (0.3, 3e-3, 25),
}


def halves():
    """Top and bottom halves `(5000, 392)` in [0, 1], digits, and the rows of each part."""
    pixels, digits = mnist()
    pixels = pixels.astype("float32") / 255
    order = np.random.default_rng(0).permutation(len(digits))
    parts = dict(
        zip(("frozen", "pairs", "test", "val"), np.split(order, [2000, 3000, 4500]), strict=True)
    )
    return pixels[:, :392], pixels[:, 392:], digits, parts


class FrozenTower:
    """V: a classifier of bottom halves; then what it makes of them, and of the classes."""

    def __init__(self, seed, bottom, digits, parts, epochs):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((392,))
        x = keras.layers.Dense(256, activation="relu")(inputs)
        embedding = keras.layers.Dense(32)(x)
        classes = keras.layers.Dense(10, activation="softmax")(embedding)
        classifier = keras.Model(inputs, classes)
        classifier.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
        rows = parts["frozen"]
        classifier.fit(bottom[rows], digits[rows], batch_size=64, epochs=epochs, verbose=0)
        both = keras.Model(inputs, [embedding, classes])
        self.embeddings, self.classes = both.predict(bottom, batch_size=500, verbose=0)
        known = self.embeddings[rows]
        self.prototypes = np.stack([known[digits[rows] == c].mean(axis=0) for c in range(10)])


def train(arm, setting, seed, tower, top, parts, looks):
    """U after each of so many looks of `EPOCHS_A_LOOK` epochs; stops where the caller does."""
    temperature, learning_rate = setting
    keras.utils.set_random_seed(seed)
    image, partner = keras.Input((392,)), keras.Input((32,))
    hidden = keras.layers.Dense(256, activation="relu")(image)
    p, q = keras.layers.Dense(32)(hidden), partner
    network = keras.Model(image, p)
    loss = ARMS[arm](temperature)
    if arm.endswith(LEARNED):
        normalize = keras.layers.UnitNormalization()
        p, q = LogitScale(temperature)(normalize(p)), normalize(q)
        loss = ARMS[arm](1.0, normalize=False)
    model = keras.Model([image, partner], keras.ops.stack([p, q], axis=1))
    model.compile(keras.optimizers.Adam(learning_rate), loss=loss)
    rows = parts["pairs"]
    inputs = [top[rows], tower.embeddings[rows]]
    # Features for the weights; the other arms do not look at them.
    features = tower.classes[rows]
    for _ in range(looks):
        model.fit(inputs, features, batch_size=128, epochs=EPOCHS_A_LOOK, verbose=0)
        yield network


def accuracy(network, tower, top, digits, rows):
    """Zero-shot accuracy on top halves."""
    embeddings = network.predict(top[rows], batch_size=500, verbose=0)
    return zero_shot_accuracy(embeddings, digits[rows], tower.prototypes)


def choose(seeds):
    """Prints, for each arm, the setting that is best on the validation digits, and the grid."""
    top, bottom, digits, parts = halves()
    towers = {s: FrozenTower(s, bottom, digits, parts, 30) for s in range(100, 100 + seeds)}
    for arm in ARMS:
        curves = {}
        for setting in itertools.product(TEMPERATURES, LEARNING_RATES):
            curves[setting] = np.mean(
                [
                    [
                        accuracy(network, tower, top, digits, parts["val"])
                        for network in train(arm, setting, seed, tower, top, parts, LOOKS)
                    ]
                    for seed, tower in towers.items()
                ],
                axis=0,
            )
        for setting, curve in curves.items():
            print(f"  {setting}: best {curve.max():.3f}, last {curve[-1]:.3f}")
        best = max(curves, key=lambda setting: curves[setting].max())
        epochs = EPOCHS_A_LOOK * (int(np.argmax(curves[best])) + 1)
        print(f'"{arm}": {(*best, epochs)},  # {curves[best].max():.3f}', flush=True)


def run(seeds, smoke):
    """One row per arm and seed."""
    top, bottom, digits, parts = halves()
    if smoke:
        parts = {name: found[:200] for name, found in parts.items()}
    rows = []
    for seed in range(seeds):
        tower = FrozenTower(seed, bottom, digits, parts, 2 if smoke else 30)
        test = parts["test"]
        own = zero_shot_accuracy(tower.embeddings[test], digits[test], tower.prototypes)
        rows.append({"arm": FROZEN, "seed": seed, "accuracy": round(own, 5)})
        for arm, (temperature, learning_rate, epochs) in CHOSEN.items():
            looks = 1 if smoke else epochs // EPOCHS_A_LOOK
            setting = temperature, learning_rate
            *_, network = train(arm, setting, seed, tower, top, parts, looks)
            found = accuracy(network, tower, top, digits, test)
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "temperature": temperature,
                    "learning_rate": learning_rate,
                    "epochs": looks * EPOCHS_A_LOOK,
                    "accuracy": round(found, 5),
                }
            )
            print(f"seed {seed}, {arm}: accuracy {found:.4f}", flush=True)
    return rows


def main():
    args = _report.parser(__doc__, choose="find the settings").parse_args()
    if args.choose:
        return choose(args.seeds)
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    _report.print_table(rows, METHOD, ["accuracy"])
    arms = [arm for arm in ARMS if arm != METHOD]
    compared = _report.compare_all(rows, METHOD, "accuracy", arms=arms)
    mean, _, p = _report.paired(rows, METHOD, "InfoNCE", "accuracy")
    verdict = (
        f"Zero-shot accuracy on top halves, CWCL less InfoNCE: {100 * mean:+.1f} points "
        f"(p = {p:.2g}). {compared}."
    )
    figure, axes = _report.new_figure(figsize=(7, 2.8))
    _report.draw_bars(axes, rows, METHOD, "accuracy")
    axes.set_xlabel("zero-shot accuracy on halves of 1,500 digits; dots are seeds")
    axes.set_xlim(max(0.0, min(row["accuracy"] for row in rows) - 0.1), None)
    with _report.output_folder(args) as folder:
        _report.write(folder, "cwcl", rows, verdict, figure)


if __name__ == "__main__":
    main()
