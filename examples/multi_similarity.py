"""Six pair losses and raw pixels in retrieval among classes that were never trained on.

Data: 5,000 MNIST digits, each rotated by 0, 90, 180 and 270 degrees: 40 classes (digit, rotation).
Training sees the 24 classes of digits 0-5; Recall@1 is measured among 2,000 images of the 16
classes of digits 6-9. All arms share starts and batches, seed by seed. The learning rate and the
number of steps of each arm were chosen by `--choose`, which trains on digits 0-3 and looks at
digits 4 and 5; so was the linear head, with the multi-similarity loss.

    KERAS_BACKEND=jax python examples/multi_similarity.py --seeds 5
"""

import itertools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import _report
import keras
import numpy as np
from _digits import split

from keras_zoo import losses
from keras_zoo.callbacks import RetrievalEvaluation
from keras_zoo.metrics import recall_at_k
from keras_zoo.samplers import ClassBalancedSampler

METHOD = "multi-similarity"
NARROW = "multi-similarity, narrow head"
RAW = "raw pixels"
LOSSES = {
    METHOD: losses.MultiSimilarityLoss,
    "multi-similarity (paper's beta, base)": lambda: losses.MultiSimilarityLoss(2.0, 50.0, 1.0),
    "binomial deviance": losses.BinomialDevianceLoss,
    "triplet": losses.TripletLoss,
    "contrastive": losses.ContrastiveLoss,
    "lifted structure": losses.LiftedStructureLoss,
    "n-pair": losses.NPairLoss,
    NARROW: losses.MultiSimilarityLoss,
}
STEPS_AN_EPOCH = 100
RATES = (1e-3, 1e-4)
# Learning rate and epochs of 100 steps: the best of two rates and 1 to 20 epochs for each arm, by
# `--choose --seeds 2`.
CHOSEN = {
    METHOD: (1e-4, 18),
    "multi-similarity (paper's beta, base)": (1e-4, 10),
    "binomial deviance": (1e-4, 14),
    "triplet": (1e-4, 12),
    "contrastive": (1e-4, 7),
    "lifted structure": (1e-4, 17),
    "n-pair": (1e-4, 1),
    NARROW: (1e-3, 3),
}


def network(head="linear"):
    """Two strided convolutions, then the paper's linear head of 512, or a narrow one of 64, 32."""
    layers = keras.layers
    heads = {
        "linear": [layers.Dense(512)],
        "narrow": [layers.Dense(64, activation="relu"), layers.Dense(32)],
    }
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            *heads[head],
        ]
    )


def train(arm, seed, data, rate, epochs, steps=STEPS_AN_EPOCH, callbacks=()):
    """A network trained as an arm says; start and batches depend on the seed alone."""
    keras.utils.set_random_seed(seed)
    model = network("narrow" if arm == NARROW else "linear")
    model.compile(keras.optimizers.Adam(rate), loss=LOSSES[arm]())
    sampler = ClassBalancedSampler(*data, 12, 5, steps_per_epoch=steps, seed=seed)
    model.fit(sampler, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def recalls(embeddings, labels):
    """Row of results."""
    values = recall_at_k(embeddings, labels, k=[1, 4])
    return {f"recall_at_{k}": round(float(v), 5) for k, v in zip((1, 4), values, strict=True)}


def choose(seeds, max_epochs=20):
    """Prints Recall@1 on digits 4 and 5 by epoch, after training on digits 0-3."""
    data, held_out = split(0, 3), split(4, 5, per_class=125)
    print(f"{RAW}: {recalls(held_out[0].reshape(len(held_out[0]), -1), held_out[1])}")
    for arm, rate in itertools.product(LOSSES, RATES):
        curves = []
        for seed in range(100, 100 + seeds):
            watch = RetrievalEvaluation(*held_out, k=1)
            model = train(arm, seed, data, rate, max_epochs, callbacks=[watch])
            curves.append(model.history.history["val_recall_at_1"])
        curve = np.mean(curves, axis=0)
        text = " ".join(f"{v:.3f}" for v in curve)
        print(f"{arm}, {rate}: {curve.max():.4f} after {np.argmax(curve) + 1} epochs; {text}")


def run(seeds, smoke):
    """One row per arm and seed."""
    train_set, test_set = split(0, 5), split(6, 9, per_class=10 if smoke else 125)
    rows = []
    for seed in range(seeds):
        pixels = test_set[0].reshape(len(test_set[0]), -1)
        rows.append({"arm": RAW, "seed": seed, "steps": 0, **recalls(pixels, test_set[1])})
        for arm in LOSSES:
            rate, epochs = CHOSEN[arm]
            epochs, steps = (1, 5) if smoke else (epochs, STEPS_AN_EPOCH)
            model = train(arm, seed, train_set, rate, epochs, steps)
            found = recalls(model.predict(test_set[0], batch_size=500, verbose=0), test_set[1])
            rows.append({"arm": arm, "seed": seed, "steps": epochs * steps, **found})
            print(f"seed {seed}, {arm}: Recall@1 {found['recall_at_1']:.4f}", flush=True)
    return rows


def main():
    args = _report.parser(__doc__, choose="find the number of steps").parse_args()
    if args.choose:
        return choose(args.seeds)
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    _report.print_table(rows, METHOD, ["recall_at_1", "recall_at_4"])
    verdict = f"Recall@1 on unseen classes: {_report.compare_all(rows, METHOD, 'recall_at_1')}."
    figure, axes = _report.new_figure(figsize=(7, 3.2))
    _report.draw_bars(axes, rows, METHOD, "recall_at_1")
    axes.set_xlabel("Recall@1 on 16 unseen classes; dots are seeds")
    axes.set_xlim(max(0.0, min(row["recall_at_1"] for row in rows) - 0.1), 1.0)
    with _report.output_folder(args) as folder:
        _report.write(folder, "multi-similarity", rows, verdict, figure)


if __name__ == "__main__":
    main()
