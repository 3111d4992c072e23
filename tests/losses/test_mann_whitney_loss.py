import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_zoo.losses import MannWhitneyLoss
from keras_zoo.metrics import roc_auc
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy


def softplus(x):
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


def naive(relevant, scores, temperature, scope, pair_reduction):
    """By plain loops, in float64."""
    rows = len(scores)
    groups = [range(rows)] * rows if scope == "batch" else [[i] for i in range(rows)]
    positives = sum(int(v) for row in relevant for v in row)
    losses, with_pairs = [], 0
    for i in range(rows):
        own = [s for s, r in zip(scores[i], relevant[i], strict=True) if r]
        others = [
            s for g in groups[i] for s, r in zip(scores[g], relevant[g], strict=True) if not r
        ]
        with_pairs += bool(own and others)
        total = sum(softplus((b - a) / temperature) for a in own for b in others)
        total /= len(others) if others and pair_reduction == "mean" else 1
        losses.append(total / max(1, positives if scope == "batch" else len(own)))
    factor = rows if scope == "batch" else rows / max(with_pairs, 1)
    return factor * np.array(losses)


def test_matches_the_fixture():
    g = golden("mw-loss", "scores")
    loss = MannWhitneyLoss(float(g["temperature"]))
    value, grad = gradient(lambda x: loss(g["relevance"], x), g["scores"])
    assert_close(value, g["loss"])
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-6)
    assert_close(loss.call(g["relevance"], g["scores"]), g["loss_vector"])


@pytest.mark.parametrize("scope", ["batch", "query"])
@pytest.mark.parametrize("pair_reduction", ["mean", "sum"])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_matches_plain_loops(scope, pair_reduction, chunk_size):
    rng = np.random.default_rng(0)
    scores, relevant = rng.normal(size=(4, 5)), rng.random((4, 5)) < 0.4
    relevant[0], relevant[1] = False, True
    arguments = 0.5, scope, pair_reduction
    loss = MannWhitneyLoss(*arguments, chunk_size=chunk_size)
    assert_close(loss.call(relevant, scores.astype("float32")), naive(relevant, scores, *arguments))
    _, grad = gradient(lambda x: loss(relevant, x), scores.astype("float32"))
    expected = numeric_gradient(lambda x: naive(relevant, x, *arguments).mean(), scores)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=20),
    st.sampled_from([0.1, 1.0, 5.0]),
)
def test_bounds_the_area_over_the_curve(pairs, temperature):
    scores, relevant = map(np.array, zip(*pairs, strict=True))
    loss = float(MannWhitneyLoss(temperature)(relevant, scores.astype("float32")))
    auc = roc_auc(relevant, scores)
    if np.isnan(auc):
        assert loss == 0
    else:
        assert loss >= np.log(2) * (1 - auc) - 1e-5


def test_a_shift_of_one_row_matters_across_rows_alone():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(3, 4)).astype("float32")
    relevant = np.eye(3, 4)
    shifted = scores + np.array([[5.0], [0.0], [0.0]], "float32")
    within, across = MannWhitneyLoss(scope="query"), MannWhitneyLoss()
    assert_close(within(relevant, shifted), within(relevant, scores))
    assert abs(float(across(relevant, shifted)) - float(across(relevant, scores))) > 0.1


def test_shapes_of_a_classifier():
    scores, labels = np.array([0.3, -1.0, 2.0, 0.1], "float32"), np.array([1, 0, 1, 0])
    expected = naive(labels[:, None], scores[:, None], 1.0, "batch", "mean")
    for y_true in (labels, labels[:, None], labels.astype(bool)):
        for y_pred in (scores, scores[:, None]):
            assert_close(MannWhitneyLoss().call(y_true, y_pred), expected)


@pytest.mark.parametrize("relevant", [0.0, 1.0])
@pytest.mark.parametrize("scope", ["batch", "query"])
def test_without_pairs_it_is_0(relevant, scope):
    x = np.random.default_rng(2).normal(size=(3, 4)).astype("float32")
    y_true = np.full((3, 4), relevant)
    value, grad = gradient(lambda x: MannWhitneyLoss(scope=scope)(y_true, x), x)
    assert value == 0
    assert (grad == 0).all()


def test_extremes():
    x = np.array([[1e4, -1e4, 0.0]], "float32")
    value, grad = gradient(lambda x: MannWhitneyLoss(0.01)([[0, 1, 0]], x), x)
    assert_close(value, (2e6 + 1e6) / 2)
    assert_close(grad, [[50.0, -100.0, 50.0]])
    for bad in ((np.array([[np.nan, 1, 0]]), x), ([[0, 1, 0]], x * np.nan)):
        assert np.isnan(to_numpy(MannWhitneyLoss().call(*bad))).all()
    empty = MannWhitneyLoss().call(np.zeros((0, 3)), np.zeros((0, 3), "float32"))
    assert to_numpy(empty).shape == (0,)


def test_weights_are_those_of_the_positives():
    scores, labels = np.array([0.3, -1.0, 2.0, 0.1], "float32"), np.array([1, 0, 1, 0])
    weights = np.array([3.0, 7.0, 0.5, 9.0])
    rows = naive(labels[:, None], scores[:, None], 1.0, "batch", "mean")
    assert_close(MannWhitneyLoss()(labels, scores, sample_weight=weights), np.mean(rows * weights))


def test_learns_breast_cancer():
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.03), MannWhitneyLoss())
    losses = model.fit(x, y, batch_size=64, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert roc_auc(y, model.predict(x, verbose=0)) > 0.98


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"scope": "row"}, "scope"),
        ({"pair_reduction": "max"}, "pair_reduction"),
        ({"chunk_size": 0}, "chunk_size"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        MannWhitneyLoss(**kwargs)


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"`y_pred` must be scores.*Received: "):
        MannWhitneyLoss().call(np.zeros((3, 4)), np.zeros((3, 5), "float32"))
    with pytest.raises(ValueError, match=r"`scope` must be 'batch'.*Received: "):
        MannWhitneyLoss(scope="query").call(np.zeros(3), np.zeros((3, 1), "float32"))
