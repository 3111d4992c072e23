import numpy as np
import pytest

from keras_zoo.metrics import zero_shot_accuracy


def naive(embeddings, labels, classes):
    def cosine(a, b):
        lengths = np.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0

    hits = 0
    for e, label in zip(embeddings, labels, strict=True):
        cosines = [cosine(e, c) for c in classes]
        hits += cosines.index(max(cosines)) == label
    return hits / len(labels)


def test_matches_plain_loops():
    rng = np.random.default_rng(0)
    classes, labels = rng.normal(size=(4, 3)), rng.integers(0, 4, 50)
    embeddings = (classes[labels] + rng.normal(size=(50, 3))) * rng.uniform(0.1, 9, (50, 1))
    found = zero_shot_accuracy(embeddings, labels[:, None], classes)
    assert isinstance(found, float)
    assert found == naive(embeddings, labels, classes)
    assert 0.3 < found < 1


def test_edges():
    # Ties, and rows of zeros: the first class.
    assert zero_shot_accuracy(np.zeros((2, 2)), [0, 1], np.eye(2)) == 0.5
    assert zero_shot_accuracy([[1.0, 1.0]], [0], np.eye(2)) == 1.0
    assert np.isnan(zero_shot_accuracy([[np.nan, 1.0]], [0], np.eye(2)))
    assert np.isnan(zero_shot_accuracy(np.zeros((0, 2)), np.zeros(0, int), np.eye(2)))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((np.ones((2, 3)), [0, 1], np.eye(2)), "embeddings"),
        ((np.ones(2), [0, 1], np.eye(2)), "embeddings"),
        ((np.ones((2, 2)), [0, 2], np.eye(2)), "labels"),
        ((np.ones((2, 2)), [0, -1], np.eye(2)), "labels"),
        ((np.ones((2, 2)), [0], np.eye(2)), "labels"),
        ((np.ones((2, 2)), [0.5, 1.0], np.eye(2)), "labels"),
    ],
)
def test_bad_input(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        zero_shot_accuracy(*arguments)
