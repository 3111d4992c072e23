import keras
import numpy as np
import pytest

from keras_zoo.losses import MannWhitneyRetrievalLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy


def softplus(x):
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


def naive(ids, views, temperature, scope, pair_reduction):
    """By plain loops, in float64."""
    unit = views / np.linalg.norm(views, axis=2, keepdims=True)
    n = len(views)
    own = [unit[i, 0] @ unit[i, 1] for i in range(n)]
    negatives = [
        [unit[i, 0] @ unit[j, 1] for j in range(n) if j != i and ids[j] != ids[i]]
        + [unit[i, 0] @ h for j in range(n) for h in unit[j, 2:]]
        for i in range(n)
    ]
    everything = [s for row in negatives for s in row]
    losses = []
    for i in range(n):
        against = everything if scope == "batch" else negatives[i]
        total = sum(softplus((s - own[i]) / temperature) for s in against)
        losses.append(total / max(len(against), 1) if pair_reduction == "mean" else total)
    rows = sum(bool(row) for row in negatives)
    return np.array(losses) * (1 if scope == "batch" else n / max(rows, 1))


@pytest.mark.parametrize("scope", ["batch", "query"])
def test_matches_the_fixture(scope):
    g = golden("mw-loss", f"retrieval_{scope}_mean")
    loss = MannWhitneyRetrievalLoss(float(g["temperature"]), scope)
    value, grad = gradient(lambda x: loss(g["ids"], x), g["embeddings"])
    assert_close(value, g["loss"])
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-4)
    assert_close(loss.call(g["ids"], g["embeddings"]), g["loss_vector"], rtol=2e-5)


@pytest.mark.parametrize("scope", ["batch", "query"])
@pytest.mark.parametrize("pair_reduction", ["mean", "sum"])
@pytest.mark.parametrize(("views", "chunk_size"), [(2, None), (4, None), (4, 3)])
def test_matches_plain_loops(scope, pair_reduction, views, chunk_size):
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(5, views, 3)), np.array([0, 1, 0, 2, 3])
    arguments = 0.3, scope, pair_reduction
    loss = MannWhitneyRetrievalLoss(*arguments, chunk_size=chunk_size)
    assert_close(loss.call(ids, x.astype("float32")), naive(ids, x, *arguments))
    _, grad = gradient(lambda x: loss(ids, x), x.astype("float32"))
    expected = numeric_gradient(lambda x: naive(ids, x, *arguments).mean(), x)
    assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def test_one_passage_of_two_queries_is_no_negative():
    x = np.random.default_rng(1).normal(size=(2, 2, 3)).astype("float32")
    for scope in ("batch", "query"):
        loss = MannWhitneyRetrievalLoss(scope=scope)
        value, grad = gradient(lambda x, loss=loss: loss([[5], [5]], x), x)
        assert value == 0
        assert (grad == 0).all()
        assert float(loss([5, 6], x)) > 0


def test_a_query_without_negatives_does_not_count():
    x = np.random.default_rng(2).normal(size=(3, 2, 3))
    # All three share one id but the last: the first two have one negative each, the last two.
    for ids in ([0, 0, 1], [0, 0, 0]):
        loss = MannWhitneyRetrievalLoss(0.5, "query")
        assert_close(loss.call(ids, x.astype("float32")), naive(ids, x, 0.5, "query", "mean"))


def test_normalised_views_need_no_normalising():
    x = np.random.default_rng(3).normal(size=(4, 3, 5)).astype("float32")
    unit = x / np.linalg.norm(x, axis=2, keepdims=True)
    found = MannWhitneyRetrievalLoss(0.1, normalize=False)(np.arange(4), unit)
    assert_close(found, MannWhitneyRetrievalLoss(0.1)(np.arange(4), 9 * x))


def test_extremes():
    x = np.zeros((4, 3, 2), "float32")
    x[1:3], x[3] = 1.0, -1.0
    value, grad = gradient(lambda x: MannWhitneyRetrievalLoss(1e-4)(np.arange(4), x), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    x[2, 1, 0] = np.nan
    assert np.isnan(to_numpy(MannWhitneyRetrievalLoss().call(np.arange(4), x))).all()
    empty = MannWhitneyRetrievalLoss().call(np.zeros(0), np.zeros((0, 2, 3), "float32"))
    assert to_numpy(empty).shape == (0,)
    alone = MannWhitneyRetrievalLoss()([0], np.ones((1, 2, 3), "float32"))
    assert float(alone) == 0


def test_learns_to_find_the_other_half_of_digits():
    from sklearn.datasets import load_digits

    x = load_digits().data[:256].astype("float32").reshape(-1, 2, 32) / 16
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2, 32)), keras.layers.Dense(16)])
    model.compile(keras.optimizers.Adam(0.01), MannWhitneyRetrievalLoss(0.2))
    losses = model.fit(x, np.arange(256), batch_size=64, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"scope": "all"}, "scope"),
        ({"pair_reduction": None}, "pair_reduction"),
        ({"normalize": 0}, "normalize"),
        ({"chunk_size": 1.5}, "chunk_size"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: "):
        MannWhitneyRetrievalLoss(**kwargs)


def test_bad_inputs():
    loss = MannWhitneyRetrievalLoss()
    with pytest.raises(ValueError, match=r"`y_pred` must hold views.*Received: "):
        loss.call(np.zeros(4), np.zeros((4, 2), "float32"))
    for y_true in (np.zeros(3), np.zeros((4, 2))):
        with pytest.raises(ValueError, match=r"`y_true` must be.*Received: "):
            loss.call(y_true, np.zeros((4, 2, 3), "float32"))
