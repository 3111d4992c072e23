"""Z-loss with exact factored updates against Taylor softmax and log-softmax on a word model.

The next word of the King James Bible from the four before it, among its 5,000 most frequent words:
embeddings of 64 numbers, Dense(256, relu), Dense(64, tanh), and the output layer. Blocks of 1,000
words go to training (200,000 targets), validation (20,000) or test (40,000). The Z-loss and the
Taylor softmax train a `FactoredDense` by exact SGD updates and the encoder by Adam; log-softmax has
a dense layer, and Adam for all. All make the same number of epochs, and end with the weights of the
epoch that is best on the validation words. `--choose` chose each arm's settings there, too, by
top-10 accuracy; the second Z-loss by top-1.

    KERAS_BACKEND=jax python examples/z_loss.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import collections
import itertools
import time

import _bible
import _docstrings
import _report
import keras
import numpy as np

from keras_zoo.layers import FactoredDense
from keras_zoo.losses import TaylorSoftmaxLoss, ZLoss
from keras_zoo.trainers import FactoredOutputTrainer

METHOD, FOR_FIRST, TAYLOR, SOFTMAX = "Z-loss", "Z-loss, for top-1", "Taylor softmax", "log-softmax"
KS = (1, 5, 10, 20)
CONTEXT, EMBEDDING, FEATURES, BATCH, EPOCHS = 4, 64, 64, 100, 8
SCALES, SHIFTS = (0.1, 0.5, 1.0), (0.0, 5.0, 10.0, 20.0)
OUTPUT_RATES = {METHOD: (1.0, 3.0, 10.0, 30.0, 100.0), TAYLOR: (10.0, 30.0, 100.0, 300.0, 1000.0)}
ENCODER_RATES = (3e-4, 1e-3, 3e-3)
# (scale and shift), rate of the output layer, rate of Adam: `--choose --seeds 1`.
CHOSEN = {
    METHOD: ((0.5, 10.0), 30.0, 3e-4),
    FOR_FIRST: ((0.1, 20.0), 3.0, 1e-3),
    TAYLOR: ((), 300.0, 1e-3),
    SOFTMAX: ((), None, 1e-3),
}


class Corpus:
    """Contexts `(N, 4)` and the words that follow `(N,)`, as numbers, of each part."""

    def __init__(self, words, classes, sizes, block=1000):
        frequent = collections.Counter(words).most_common(classes)
        number = {word: i for i, (word, _) in enumerate(frequent)}
        # What is not among the frequent words may stand in a context; it is never to be guessed.
        ids = np.array([number.get(word, classes) for word in words], "int32")
        blocks = np.split(ids, range(block, len(ids), block))
        order = np.random.default_rng(0).permutation(len(blocks))
        self.classes, begin = classes, 0
        self.parts = {}
        for part, size in sizes.items():
            end = begin + size // block
            windows = np.concatenate(
                [
                    np.lib.stride_tricks.sliding_window_view(blocks[i], CONTEXT + 1)
                    for i in order[begin:end]
                ]
            )
            windows = windows[windows[:, -1] < classes]
            self.parts[part], begin = (windows[:, :-1], windows[:, -1]), end


def encoder(classes):
    """From four words to features."""
    return keras.Sequential(
        [
            keras.Input((CONTEXT,), dtype="int32"),
            keras.layers.Embedding(classes + 1, EMBEDDING),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(FEATURES, activation="tanh"),
        ]
    )


def make(arm, classes, setting):
    """A compiled model from contexts to logits."""
    arguments, output_rate, rate = setting
    if arm == SOFTMAX:
        model = keras.Sequential([*encoder(classes).layers, keras.layers.Dense(classes)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        spherical = TaylorSoftmaxLoss() if arm == TAYLOR else ZLoss(*arguments)
        head, loss = FactoredDense(classes), None
        model = FactoredOutputTrainer(encoder(classes), head, spherical, output_rate)
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


def top_k(arm, model, x, y):
    """Top-k accuracy for each of `KS`; a tie counts against the true word."""
    ranks = []
    for part in range(0, len(x), 2000):
        scores = model.predict(x[part : part + 2000], batch_size=2000, verbose=0)
        if arm == TAYLOR:  # Its probabilities are no monotone function of the logits.
            scores = 1 + scores + scores**2 / 2
        own = np.take_along_axis(scores, y[part : part + 2000, None], 1)
        # A comparison with NaN is false, and so leaves the rank behind all words.
        ranks.append(scores.shape[1] - np.sum(scores < own, 1))
    ranks = np.concatenate(ranks)
    return np.array([np.mean(ranks <= k) for k in KS])


def train(arm, corpus, setting, seed, epochs, goal):
    """The model of the epoch that is best by validation, its accuracies, the epoch, seconds."""
    keras.utils.set_random_seed(seed)
    model = make(arm, corpus.classes, setting)
    best, seconds = (-1.0,), 0.0
    for epoch in range(epochs):
        begin = time.perf_counter()
        model.fit(*corpus.parts["train"], batch_size=BATCH, verbose=0)
        seconds += time.perf_counter() - begin
        found = top_k(arm, model, *corpus.parts["val"])
        if found[goal] > best[0]:
            best = found[goal], found, epoch + 1, model.get_weights()
        if not found[goal]:
            break  # The rate was too high.
    if len(best) > 1:
        model.set_weights(best[3])
    return model, best[1], best[2], seconds / (epoch + 1)


def choose(seeds):
    """Prints what is best on the validation words: rates and arguments first, then Adam's rate."""
    corpus = Corpus(_bible.words(), 5000, {"train": 200_000, "val": 20_000, "test": 40_000})
    seeds = range(100, 100 + seeds)

    def validated(arm, setting, epochs):
        found = [train(arm, corpus, setting, seed, epochs, KS.index(10))[1] for seed in seeds]
        print(f"  {arm} {setting}: {np.mean(found, axis=0).round(4)}", flush=True)
        return np.mean(found, axis=0)

    arguments = list(itertools.product(SCALES, SHIFTS))
    grids = {
        METHOD: list(itertools.product(arguments, OUTPUT_RATES[METHOD])),
        TAYLOR: list(itertools.product([()], OUTPUT_RATES[TAYLOR])),
        SOFTMAX: [((), None)],
    }
    for arm, grid in grids.items():
        looks = {(*s, 1e-3): validated(arm, (*s, 1e-3), EPOCHS // 4) for s in grid}
        for name, goal in (
            {METHOD: 10, FOR_FIRST: 1}.items() if arm == METHOD else {arm: 10}.items()
        ):
            goal = KS.index(goal)
            best = max(looks, key=lambda s: looks[s][goal])
            finals = {(*best[:2], r): None for r in ENCODER_RATES}
            for setting in finals:
                finals[setting] = validated(arm, setting, EPOCHS)[goal]
            best = max(finals, key=finals.get)
            print(f'"{name}": {best},  # {finals[best]:.4f}', flush=True)


def run(seeds, smoke):
    """One row per arm and seed."""
    if smoke:
        words = [w for text in _docstrings.pairs()[1][:40] for w in text.lower().split()]
        corpus = Corpus(words, 100, {"train": 400, "val": 200, "test": 200}, block=100)
    else:
        corpus = Corpus(_bible.words(), 5000, {"train": 200_000, "val": 20_000, "test": 40_000})
    rows = []
    for seed in range(seeds):
        for arm, setting in CHOSEN.items():
            goal = KS.index(1 if arm == FOR_FIRST else 10)
            model, _, epoch, seconds = train(
                arm, corpus, setting, seed, 1 if smoke else EPOCHS, goal
            )
            found = top_k(arm, model, *corpus.parts["test"])
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "setting": " ".join(map(str, setting)),
                    "epoch": epoch,
                    **{f"top_{k}": round(float(v), 5) for k, v in zip(KS, found, strict=True)},
                    "seconds_an_epoch": round(seconds, 2),
                }
            )
            print(f"seed {seed}, {arm}: top-k {found.round(4)}, {seconds:.1f} s", flush=True)
    return rows


def main():
    args = _report.parser(__doc__, choose="find the settings").parse_args()
    if args.choose:
        return choose(args.seeds)
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    metrics = [f"top_{k}" for k in KS]
    _report.print_table(rows, METHOD, ["top_10", *(m for m in metrics if m != "top_10")])
    differences = [
        f"{100 * mean:+.1f} points (p = {p:.2g}) in top-{k}"
        for k in KS
        for mean, _, p in [_report.paired(rows, METHOD, SOFTMAX, f"top_{k}")]
    ]
    compared = _report.compare_all(rows, METHOD, "top_10")
    verdict = f"Z-loss less log-softmax: {', '.join(differences)}. By top-10, {compared}."
    figure, panels = _report.new_figure(1, 2, figsize=(9, 2.2), sharey=False)
    for axes, metric in zip(panels, ("top_1", "top_10"), strict=True):
        _report.draw_bars(axes, rows, METHOD, metric)
        axes.set_xlabel(f"{metric.replace('_', '-')} accuracy on 40,000 words; dots are seeds")
    with _report.output_folder(args) as folder:
        _report.write(folder, "z-loss", rows, verdict, figure)


if __name__ == "__main__":
    main()
