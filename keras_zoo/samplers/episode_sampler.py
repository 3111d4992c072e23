"""Few-shot episodes: some classes, and support and queries of each."""

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_labels
from keras_zoo.samplers.class_balanced_sampler import ClassBalancedSampler


@component(paper="susana-distancia")
class EpisodeSampler(ClassBalancedSampler):
    """Draws `ways` different classes, and of each `shots` support rows and `queries` others.

    A batch holds all support rows, class after class, and then all queries, likewise: what
    `PrototypicalLoss`, `ProtoTripletLoss` and `PrototypicalAccuracy` take with the same `shots`.
    Within a batch no row occurs twice, so no query is its own support. Classes with fewer than
    `shots + queries` rows are never drawn.

    Batch `b` of epoch `e` depends on `(seed, e, b)` alone, as in `ClassBalancedSampler`: a run that
    goes on from epoch `e` sets `sampler.epoch = e`.

    Args:
        x: array `(n, ...)`.
        y: array `(n,)` or `(n, 1)` of integer class ids. They are passed on unchanged.
        ways: int > 0, at most the number of classes that have rows enough.
        shots: int > 0.
        queries: int > 0.
        episodes: int > 0. Batches of an epoch.
        seed: int >= 0, or None for a new one each time.
        **kwargs: `workers`, `use_multiprocessing`, `max_queue_size` of `keras.utils.PyDataset`.

    Item `b`: `(x, y)` with `ways * (shots + queries)` rows.

    Raises:
        ValueError: shapes do not fit, labels are not integers, a number is out of its range.
        IndexError: there is no batch `b`.

    Example:
    >>> train = keras_zoo.samplers.EpisodeSampler(x, y, ways=20, shots=5, queries=15, seed=0)
    >>> model.fit(train, epochs=200)

    Reference: arXiv:2305.09062, section 5. The official sampler draws support and queries each by
    itself, so that a query may be one of its own support; here they are apart.
    """

    def __init__(self, x, y, ways, shots, queries, episodes=100, seed=None, **kwargs):
        ways = check_count("ways", ways)
        shots, queries = check_count("shots", shots), check_count("queries", queries)
        episodes = check_count("episodes", episodes)
        rows = shots + queries
        counts = np.unique(check_labels("y", y), return_counts=True)[1]
        large = int(np.sum(counts >= rows))
        if ways > large:
            raise ValueError(
                f"`ways` must be at most the number of classes with `shots + queries` = {rows} "
                f"rows, {large}. Received: ways={ways}"
            )
        super().__init__(x, y, ways, rows, steps_per_epoch=episodes, seed=seed, **kwargs)
        self._members = [members for members in self._members if len(members) >= rows]
        self.ways, self.shots, self.queries, self.episodes = ways, shots, queries, episodes
        place = np.arange(ways * rows).reshape(ways, rows)
        self._order = np.concatenate([place[:, :shots].ravel(), place[:, shots:].ravel()])

    def __getitem__(self, index):
        """Episode `index` of the current epoch: all support rows, then all queries."""
        x, y = super().__getitem__(index)
        return x[self._order], y[self._order]
