import numpy as np
import pytest

from keras_zoo.metrics import PrototypicalAccuracy
from tests.harness import golden, to_numpy
from tests.losses._episodes import parts, shuffled_episode


def naive(labels, x, shots, weights):
    prototypes, queries = parts(labels, x, shots)
    hits = {
        i: min(prototypes, key=lambda c: ((x[i] - prototypes[c]) ** 2).sum()) == label
        for i, label in queries
    }
    return sum(weights[i] * hit for i, hit in hits.items()), sum(weights[i] for i in hits)


@pytest.mark.parametrize("name", ["episode_5w1s", "episode_4w3s", "icnn_default_neighbors"])
def test_matches_official_code(name):
    g = golden("susana-distancia", name)
    metric = PrototypicalAccuracy(int(g["shots"]))
    metric.update_state(g["labels"], g["embeddings"])
    assert float(metric.result()) == pytest.approx(float(g["accuracy"]), abs=1e-6)


def test_streams_over_episodes():
    metric, right, total = PrototypicalAccuracy(2), 0.0, 0.0
    for seed in range(3):
        labels, x = shuffled_episode(seed=seed)
        weights = np.random.default_rng(seed).random(len(x))
        metric.update_state(labels[:, None], x.astype("float32"), weights)
        part = naive(labels, x, 2, weights)
        right, total = right + part[0], total + part[1]
    assert float(metric.result()) == pytest.approx(right / total, rel=1e-5)
    assert 0 < right < total
    metric.reset_state()
    assert float(metric.result()) == 0


def test_edges():
    metric = PrototypicalAccuracy(1)
    # No query at all; then equal prototypes, of which the first class wins.
    metric.update_state([0, 1, 2], np.eye(3, dtype="float32"))
    assert float(metric.result()) == 0
    metric.update_state([5, 6, 5, 6], np.ones((4, 2), "float32"))
    assert float(metric.result()) == 0.5
    metric.update_state([0, 0], np.array([[0, 0], [np.nan, 0]], "float32"))
    assert np.isnan(to_numpy(metric.result()))


def test_bad_input():
    with pytest.raises(ValueError, match=r"`shots` .*Received: "):
        PrototypicalAccuracy(0)
    with pytest.raises(ValueError, match="Received: "):
        PrototypicalAccuracy(1).update_state([0, 1], np.zeros((3, 2), "float32"))
