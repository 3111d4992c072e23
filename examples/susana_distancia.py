"""Prototypical cross-entropy, Proto-Triplet, ICNN and their average, in few-shot learning.

Data: 5,000 MNIST digits, each rotated by 0, 90, 180 and 270 degrees: 40 classes (digit, rotation).
Training sees the 24 classes of digits 0-5, in episodes of 10 classes with 1 or 5 support images and
10 queries each; the figure is the 5-way accuracy of the nearest prototype, with the same number of
support images, over 500 episodes of 15 queries a class from the 16 classes of digits 6-9. (A 6
turned by half a circle looks like a 9, which no arm can help.) Support and queries are different
images, unlike in the official code.

Every arm trains for 2,000 episodes with Adam, whose learning rate falls to 0 along a cosine. From
where it falls was chosen for each arm by `--choose`, which trains on digits 0-3 and looks at digits
4 and 5; each arm from the same grid. All arms share starts and episodes, seed by seed.

    KERAS_BACKEND=jax python examples/susana_distancia.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import itertools

import _report
import keras
import numpy as np
from _digits import split

from keras_zoo.losses import CombinedLoss, ICNNLoss, ProtoTripletLoss, PrototypicalLoss
from keras_zoo.samplers import EpisodeSampler

METHOD, BASELINE, RAW = "CE + PT + ICNN", "CE", "raw pixels"
ARMS = (BASELINE, "PT", "ICNN", METHOD)
SHOTS = (1, 5)
WAYS, QUERIES = 10, 10
RATES = (3e-3, 1e-2, 3e-2)
EPISODES = 2000
# Learning rate at the start: the best of the grid by `--choose --seeds 2`.
SETTINGS = {
    (1, BASELINE): 1e-2,
    (1, "PT"): 1e-2,
    (1, "ICNN"): 3e-3,
    (1, METHOD): 1e-2,
    (5, BASELINE): 1e-2,
    (5, "PT"): 3e-2,
    (5, "ICNN"): 1e-2,
    (5, METHOD): 1e-2,
}


def loss_of(arm, shots):
    """The arm's loss; ICNN looks at as many neighbours as a class has rows, as the authors do."""
    parts = {
        "CE": PrototypicalLoss(shots),
        "PT": ProtoTripletLoss(shots),
        "ICNN": ICNNLoss(num_neighbors=shots + QUERIES),
    }
    return CombinedLoss(list(parts.values())) if arm == METHOD else parts[arm]


def network():
    """Two strided convolutions with batch normalisation, embeddings of 64 numbers."""
    layers = keras.layers
    blocks = []
    for filters in (16, 32):
        convolution = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)
        blocks += [convolution, layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential([keras.Input((14, 14, 1)), *blocks, layers.Flatten(), layers.Dense(64)])


def classes(first, last):
    """Images `(n, 14, 14, 1)` and classes of digits `first` to `last`."""
    images, labels = split(first, last)
    return images.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4)), labels


class Episodes:
    """Fixed test episodes of a set of classes, and the accuracy of embeddings in them."""

    def __init__(self, images, labels, shots, episodes, seed):
        rows = np.arange(len(labels))
        sampler = EpisodeSampler(rows, labels, 5, shots, 15, episodes=episodes, seed=seed)
        self.images, self.shots = images, shots
        self.rows = np.stack([sampler[i][0] for i in range(episodes)])

    def accuracy(self, embeddings):
        """Share of queries whose nearest prototype is that of their class."""
        drawn = embeddings[self.rows]
        first = 5 * self.shots
        support = drawn[:, :first].reshape(len(drawn), 5, self.shots, -1)
        prototypes = support.mean(axis=2).swapaxes(1, 2)
        # Squared distances, less what all prototypes of a query share.
        distances = np.square(prototypes).sum(axis=1, keepdims=True)
        distances = distances - 2 * drawn[:, first:] @ prototypes
        found = distances.argmin(axis=-1)
        return float(np.mean(found == np.repeat(np.arange(5), 15)))


def train(arm, shots, rate, seed, data, held_out, episodes):
    """Accuracy after training; start and episodes depend on the seed alone."""
    keras.utils.set_random_seed(seed)
    model = network()
    decay = keras.optimizers.schedules.CosineDecay(rate, episodes)
    model.compile(keras.optimizers.Adam(decay), loss=loss_of(arm, shots))
    sampler = EpisodeSampler(*data, WAYS, shots, QUERIES, episodes=episodes, seed=seed)
    model.fit(sampler, verbose=0)
    return held_out.accuracy(model.predict(held_out.images, batch_size=500, verbose=0))


def choose(seeds):
    """Prints the best of the grid on digits 4 and 5, after training on digits 0-3."""
    data, (images, labels) = classes(0, 3), classes(4, 5)
    for shots, arm in itertools.product(SHOTS, ARMS):
        held_out = Episodes(images, labels, shots, 500, seed=1)
        best = []
        for rate in RATES:
            found = [
                train(arm, shots, rate, seed, data, held_out, EPISODES)
                for seed in range(100, 100 + seeds)
            ]
            best.append((np.mean(found), rate))
            text = " ".join(f"{v:.3f}" for v in found)
            print(f"{shots} shots, {arm}, {rate}: {text}", flush=True)
        value, rate = max(best)
        print(f'({shots}, "{arm}"): {rate},  # {value:.3f}', flush=True)


def run(seeds, smoke):
    """One row per number of shots, arm and seed."""
    data, (images, labels) = classes(0, 5), classes(6, 9)
    if smoke:
        images, labels = images[::20], labels[::20]
    episodes = 3 if smoke else EPISODES
    rows = []
    for shots in SHOTS:
        held_out = Episodes(images, labels, shots, 10 if smoke else 500, seed=2)
        pixels = round(held_out.accuracy(images.reshape(len(images), -1)), 5)
        for seed in range(seeds):
            own = {"seed": seed, "shots": shots}
            rows.append({"arm": RAW, **own, "learning_rate": 0, "episodes": 0, "accuracy": pixels})
            for arm in ARMS:
                rate = SETTINGS[shots, arm]
                found = train(arm, shots, rate, seed, data, held_out, episodes)
                settings = {"learning_rate": rate, "episodes": episodes}
                rows.append({"arm": arm, **own, **settings, "accuracy": round(found, 5)})
                print(f"seed {seed}, {shots} shots, {arm}: {found:.4f}", flush=True)
    return rows


def main():
    args = _report.parser(__doc__, choose="find learning rates").parse_args()
    if args.choose:
        return choose(args.seeds)
    rows = run(1 if args.smoke else args.seeds, args.smoke)
    words = []
    figure, axes = _report.new_figure(1, 2, figsize=(9, 2.6))
    for axis, shots in zip(axes, SHOTS, strict=True):
        print(f"\n5-way {shots}-shot", end="")
        _report.print_table(rows, METHOD, ["accuracy"], shots=shots)
        words.append(f"{shots}-shot, {_report.compare_all(rows, METHOD, 'accuracy', shots=shots)}")
        _report.draw_bars(axis, rows, METHOD, "accuracy", shots=shots)
        axis.set_title(f"5-way {shots}-shot")
        axis.set_xlabel("accuracy on 16 unseen classes")
        low = min(row["accuracy"] for row in rows if row["shots"] == shots)
        axis.set_xlim(max(0.0, low - 0.1), None)
    verdict = f"5-way accuracy on unseen classes: {'; '.join(words)}."
    with _report.output_folder(args) as folder:
        _report.write(folder, "susana-distancia", rows, verdict, figure)


if __name__ == "__main__":
    main()
