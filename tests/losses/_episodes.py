"""Few-shot episodes for tests, and their parts by plain loops."""

import numpy as np


def shuffled_episode(ways=3, rows=5, d=4, seed=0):
    """Labels and embeddings of an episode, rows in any order; one class has one row alone."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([*np.repeat(np.arange(ways) * 7 - 3, rows), 99])
    return labels, rng.normal(size=(len(labels), d))


def parts(labels, x, shots):
    """Prototypes by class, and `(row, class)` of the queries."""
    seen, support, queries = {}, {}, []
    for i, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= shots:
            support.setdefault(label, []).append(x[i])
        else:
            queries.append((i, label))
    return {label: np.mean(rows, axis=0) for label, rows in support.items()}, queries
