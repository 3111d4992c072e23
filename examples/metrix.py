"""Mixing embeddings, features or inputs on top of two pair losses, in retrieval of unseen classes.

Data: 5,000 MNIST digits, each rotated by 0, 90, 180 and 270 degrees: 40 classes (digit, rotation).
Training sees the 24 classes of digits 0-5; measured are, on 2,000 images of the 16 classes of
digits 6-9, Recall@1 among them and utilization, the mean squared distance to the nearest of 3,000
training images (lower is nearer). The contrastive and the multi-similarity loss train alone and
with Metrix at three levels, at the paper's weight 0.4 and alpha 2. All arms share starts and
batches, seed by seed. How many steps each arm trains, of up to 600, was chosen by `--choose`,
which trains on digits 0-3 and looks at digits 4 and 5.

    KERAS_BACKEND=jax python examples/metrix.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import _report
import keras
import numpy as np
from _digits import split

from keras_zoo import losses
from keras_zoo.callbacks import RetrievalEvaluation
from keras_zoo.metrics import recall_at_k, utilization
from keras_zoo.samplers import ClassBalancedSampler
from keras_zoo.trainers import Metrix

RAW = "raw pixels"
LOSSES = {
    "contrastive": losses.ContrastiveLoss,
    "multi-similarity": losses.MultiSimilarityLoss,
}
LEVELS = (None, "embedding", "feature", "input")
ARMS = {
    loss if level is None else f"{loss} + {level}": (loss, level)
    for loss in LOSSES
    for level in LEVELS
}
STEPS_AN_EPOCH = 50
# Epochs of 50 steps: the best of 1 to 12 by `--choose --seeds 3`.
EPOCHS = {
    "contrastive": 5,
    "contrastive + embedding": 4,
    "contrastive + feature": 4,
    "contrastive + input": 3,
    "multi-similarity": 6,
    "multi-similarity + embedding": 7,
    "multi-similarity + feature": 10,
    "multi-similarity + input": 5,
}


def network():
    """Two strided convolutions, of whose maps features are mixed; 64 units, 32 numbers."""
    layers = keras.layers
    encoder = [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
    ]
    head = [layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(32)]
    return keras.Sequential(encoder), keras.Sequential([keras.Input((7, 7, 64)), *head])


def train(arm, seed, data, epochs, steps=STEPS_AN_EPOCH, callbacks=()):
    """A network trained with an arm; start and batches depend on the seed alone."""
    loss, level = ARMS[arm]
    keras.utils.set_random_seed(seed)
    encoder, head = network()
    if level is None:
        model = keras.Sequential([encoder, head])
        model.compile(keras.optimizers.Adam(1e-3), loss=LOSSES[loss]())
    else:
        model = Metrix(encoder, head, LOSSES[loss](), level, seed=seed)
        model.compile(keras.optimizers.Adam(1e-3))
    sampler = ClassBalancedSampler(*data, 12, 5, steps_per_epoch=steps, seed=seed)
    model.fit(sampler, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def figures(embeddings, labels):
    """Row of results, from embeddings of the labelled test images, then of training images."""
    queries, references = embeddings[: len(labels)], embeddings[len(labels) :]
    return {
        "recall_at_1": round(recall_at_k(queries, labels), 5),
        "utilization": round(utilization(queries, references), 5),
    }


def choose(seeds, max_epochs=12):
    """Prints Recall@1 on digits 4 and 5 by epoch, after training on digits 0-3."""
    data, held_out = split(0, 3), split(4, 5, per_class=125)
    for arm in ARMS:
        curves = []
        for seed in range(100, 100 + seeds):
            watch = RetrievalEvaluation(*held_out, k=1)
            model = train(arm, seed, data, max_epochs, callbacks=[watch])
            curves.append(model.history.history["val_recall_at_1"])
        curve = np.mean(curves, axis=0)
        text = " ".join(f"{v:.3f}" for v in curve)
        print(f"{arm}: best after {np.argmax(curve) + 1} epochs; {text}", flush=True)


def run(seeds, smoke):
    """One row per arm and seed."""
    per_class = 10 if smoke else 125
    train_set, test_set = split(0, 5), split(6, 9, per_class=per_class)
    seen = np.random.default_rng(0).choice(len(train_set[0]), 24 * per_class, replace=False)
    images = np.concatenate([test_set[0], train_set[0][seen]])
    raw = figures(images.reshape(len(images), -1), test_set[1])
    rows = []
    for seed in range(seeds):
        rows.append({"arm": RAW, "seed": seed, "steps": 0, **raw})
        for arm in ARMS:
            epochs, steps = (1, 2) if smoke else (EPOCHS[arm], STEPS_AN_EPOCH)
            model = train(arm, seed, train_set, epochs, steps)
            found = figures(model.predict(images, batch_size=500, verbose=0), test_set[1])
            rows.append({"arm": arm, "seed": seed, "steps": epochs * steps, **found})
            print(f"seed {seed}, {arm}: Recall@1 {found['recall_at_1']:.4f}", flush=True)
    return rows


def verdict_of(rows):
    """What mixing does to each loss: signed differences, and which of them stand out."""
    sentences = []
    for loss in LOSSES:
        parts = []
        for level in LEVELS[1:]:
            mean, _, p = _report.paired(rows, f"{loss} + {level}", loss, "recall_at_1")
            nearer, _, q = _report.paired(rows, f"{loss} + {level}", loss, "utilization")
            parts.append(f"{level} {mean:+.3f} (p {p:.3f}; utilization {nearer:+.3f}, p {q:.3f})")
        sentences.append(f"{loss} alone {_report.column(rows, loss, 'recall_at_1').mean():.3f}; ")
        sentences[-1] += ", ".join(parts)
    best = max(ARMS, key=lambda arm: _report.column(rows, arm, "recall_at_1").mean())
    raw = _report.column(rows, RAW, "recall_at_1")[0]
    sentences.append(
        f"the best, {best}, reaches {_report.column(rows, best, 'recall_at_1').mean():.3f}, "
        f"raw pixels {raw:.3f}"
    )
    return (
        "Recall@1 on unseen classes, and how mixing changes it (paired t-tests, not corrected): "
        f"{'. '.join(s[0].upper() + s[1:] for s in sentences)}."
    )


def main():
    args = _report.parser(__doc__, choose="find the number of steps").parse_args()
    if args.choose:
        return choose(args.seeds)
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    metrics = ["recall_at_1", "utilization"]
    figure, axes = _report.new_figure(1, 2, figsize=(9, 3.2), sharey=False)
    for loss in LOSSES:
        kept = [row for row in rows if row["arm"].startswith(loss) or row["arm"] == RAW]
        _report.print_table(kept, f"{loss} + input", metrics)
    for axis, metric in zip(axes, metrics, strict=True):
        _report.draw_bars(axis, rows, "multi-similarity + input", metric)
        axis.set_xlabel(f"{metric} on 16 unseen classes")
    axes[0].set_xlim(max(0.0, min(row["recall_at_1"] for row in rows) - 0.1), 1.0)
    with _report.output_folder(args) as folder:
        _report.write(folder, "metrix", rows, verdict_of(rows), figure)


if __name__ == "__main__":
    main()
