import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_zoo.metrics import RecallAtK, recall_at_k
from keras_zoo.metrics import recall_at_k as function
from tests.harness import assert_close, golden

BLOCKS = "keras_zoo.metrics.recall_at_k.BLOCK"


def naive(queries, query_labels, gallery=None, labels=None, k=1):
    """Hit or miss query by query; None without a positive."""
    own = gallery is None
    gallery, labels = (queries, query_labels) if own else (gallery, labels)
    hits = []
    for i, q in enumerate(queries):
        others = [j for j in range(len(gallery)) if not (own and j == i)]
        s = {j: float(q @ gallery[j]) for j in others}
        pos = [s[j] for j in others if labels[j] == query_labels[i]]
        neg = [s[j] for j in others if labels[j] != query_labels[i]]
        hits.append(sum(n > max(pos) for n in neg) < k if pos else None)
    return hits


def mean(hits):
    hits = [h for h in hits if h is not None]
    return sum(hits) / len(hits) if hits else 0.0


def integers(rng, n, d=2):
    """Vectors whose products are exact, so that there are ties."""
    return rng.integers(-2, 3, (n, d)).astype("float32")


def test_matches_official_code():
    g = golden("multi-similarity", "recall_self")
    ks = [int(k) for k in g["ks"]]
    assert_close(recall_at_k(g["embeddings"], g["labels"], k=ks), g["recall"], atol=1e-7)
    for k, expected in zip(ks, g["recall"], strict=True):
        value = recall_at_k(g["embeddings"], g["labels"][:, None], k=k)
        assert isinstance(value, float)
        assert value == pytest.approx(expected, abs=1e-7)


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_matches_plain_loops(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 9, 2)
    x, g = integers(rng, n), integers(rng, m)
    y, h = rng.integers(0, 3, n), rng.integers(0, 3, m)
    ks = [1, 2, 4]
    own = recall_at_k(x, y, k=ks, normalize=False)
    assert_close(own, np.array([mean(naive(x, y, k=k)) for k in ks]))
    other = recall_at_k(x, y, g, h, k=ks, normalize=False)
    assert_close(other, np.array([mean(naive(x, y, g, h, k)) for k in ks]))
    assert (np.diff(own) >= 0).all()


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 4)), rng.integers(0, 4, 23)
    expected = recall_at_k(x, y, k=[1, 3])
    import sys

    monkeypatch.setattr(sys.modules[function.__module__], "BLOCK", 50)
    assert_close(recall_at_k(x, y, k=[1, 3]), expected, rtol=0, atol=0)


def test_ties_are_hits():
    same = np.ones((4, 3), "float32") / 3
    assert recall_at_k(same, [0, 0, 1, 1]) == 1.0
    assert recall_at_k(np.zeros((4, 3)), [0, 0, 1, 1]) == 1.0


def test_queries_without_a_positive_are_left_out():
    x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert recall_at_k(x, [0, 0, 1]) == 1.0
    assert recall_at_k(x, [0, 1, 2]) == 0.0
    assert recall_at_k(np.zeros((0, 2)), np.zeros(0, int)) == 0.0
    assert recall_at_k(x, [0, 0, 1], np.zeros((0, 2)), np.zeros(0, int)) == 0.0


def test_normalize():
    queries, gallery = [[1.0, 0.0]], [[1.0, 0.1], [10.0, 10.0]]
    assert recall_at_k(queries, [0], gallery, [0, 1]) == 1.0
    assert recall_at_k(queries, [0], gallery, [0, 1], normalize=False) == 0.0
    assert recall_at_k(queries, [0], gallery, [0, 1], k=2, normalize=False) == 1.0


def test_nan_in_nan_out():
    x = np.ones((4, 2))
    x[0, 0] = np.nan
    assert np.isnan(recall_at_k(x, [0, 0, 1, 1]))
    assert np.isnan(recall_at_k(np.ones((2, 2)), [0, 1], x, [0, 0, 1, 1], k=[1, 2])).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"k": 0}, "`k` must"),
        ({"k": 1.5}, "`k` must"),
        ({"k": []}, "`k` must"),
        ({"query_labels": [0, 1]}, "`query_embeddings` must"),
        ({"query_labels": [0.5, 1, 2]}, "`query_labels` must hold integer"),
        ({"query_labels": [np.nan, 1, 2]}, "`query_labels` must hold integer"),
        ({"query_labels": ["a", "b", "c"]}, "`query_labels` must hold integer"),
        ({"query_labels": np.zeros((3, 2), int)}, "`query_labels` must be"),
        ({"query_embeddings": np.zeros(3)}, "`query_embeddings` must"),
        ({"gallery_embeddings": np.zeros((2, 2))}, "go together"),
        ({"gallery_labels": [0, 1]}, "go together"),
        ({"gallery_embeddings": np.zeros((2, 2)), "gallery_labels": [0]}, "`gallery_embeddings`"),
        ({"gallery_embeddings": np.zeros((1, 5)), "gallery_labels": [0]}, "same number"),
    ],
)
def test_bad_input(kwargs, message):
    with pytest.raises(ValueError, match=rf"(?s){message}.*Received: "):
        recall_at_k(**{"query_embeddings": np.zeros((3, 2)), "query_labels": [0, 1, 2], **kwargs})


def test_whole_floats_are_class_ids():
    assert recall_at_k(np.eye(2), np.array([3.0, 3.0])) == 1.0


class TestRecallAtK:
    def test_streams_over_batches(self):
        rng = np.random.default_rng(1)
        metric, hits = RecallAtK(2, normalize=False), []
        for _ in range(4):
            x, y = integers(rng, 6), rng.integers(0, 3, 6)
            metric.update_state(y, x)
            hits += naive(x, y, k=2)
        assert float(metric.result()) == pytest.approx(mean(hits))
        metric.reset_state()
        assert float(metric.result()) == 0.0

    def test_agrees_with_the_function(self):
        g = golden("multi-similarity", "recall_self")
        metric = RecallAtK(1)
        metric.update_state(g["labels"][:, None], g["embeddings"])
        assert float(metric.result()) == pytest.approx(recall_at_k(g["embeddings"], g["labels"]))

    def test_sample_weight_weighs_queries(self):
        rng = np.random.default_rng(2)
        x, y = integers(rng, 8), np.array([0, 0, 1, 1, 2, 2, 3, 0])
        weight = np.array([0.0, 2.0, 1.0, 0.5, 0.0, 3.0, 5.0, 1.0])
        hits = naive(x, y)
        pairs = [(w, h) for w, h in zip(weight, hits, strict=True) if h is not None]
        expected = sum(w * h for w, h in pairs) / sum(w for w, _ in pairs)
        for w in (weight, weight[:, None]):
            metric = RecallAtK(normalize=False)
            metric.update_state(y, x, sample_weight=w)
            assert float(metric.result()) == pytest.approx(expected)
        metric = RecallAtK()
        metric.update_state(y, x, sample_weight=np.zeros(8))
        assert float(metric.result()) == 0.0

    def test_nothing_to_find(self):
        metric = RecallAtK()
        metric.update_state([0, 1, 2], np.eye(3))
        metric.update_state(np.zeros(0), np.zeros((0, 3)))
        assert float(metric.result()) == 0.0

    def test_nan_in_nan_out(self):
        for labels in ([0, 0, 1], [0, 1, 2]):
            metric = RecallAtK()
            metric.update_state(labels, np.full((3, 2), np.nan))
            assert np.isnan(float(metric.result()))

    def test_name_and_config(self):
        assert RecallAtK(4).name == "recall_at_4"
        metric = RecallAtK(3, normalize=False, name="r", dtype="float32")
        again = RecallAtK.from_config(metric.get_config())
        assert again.get_config() == metric.get_config()
        assert (again.k, again.normalize, again.name) == (3, False, "r")
        assert len(metric.variables) == 2

    @pytest.mark.parametrize("k", [0, 1.5, [1, 2], None])
    def test_bad_k(self, k):
        with pytest.raises(ValueError, match=r"`k` must be .*Received: k="):
            RecallAtK(k)

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"Received: y_true of shape"):
            RecallAtK().update_state(np.zeros(3), np.zeros((4, 2)))

    def test_half_precision_embeddings(self):
        metric = RecallAtK()
        metric.update_state([0, 0, 1], ops.cast(np.eye(3), "float16"))
        assert np.isfinite(float(metric.result()))

    def test_in_compile(self):
        rng = np.random.default_rng(3)
        x, y = rng.normal(size=(10, 3)).astype("float32"), rng.integers(0, 3, 10)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(loss=lambda y, z: ops.sum(z, -1) * 0, metrics=[RecallAtK(1)])
        logs = model.evaluate(x, y, batch_size=10, verbose=0, return_dict=True)
        expected = recall_at_k(model.predict(x, verbose=0), y)
        assert logs["recall_at_1"] == pytest.approx(expected)
