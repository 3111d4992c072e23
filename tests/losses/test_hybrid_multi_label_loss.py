import keras
import numpy as np
import pytest

from keras_zoo.losses import HybridMultiLabelLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
N, C, D = 7, 4, 3
Y = (RNG.random((N, C)) < 0.4).astype("float32")
Y[0] = 0
Z = RNG.normal(size=(N, C + D))
R = np.triu(RNG.uniform(-1, 1, (C, C)), 1)
R = R + R.T
WEIGHTS = {"class_weights": [0.5, 1.5, 0.0, 2.0], "positive_weights": [3.0, 1.0, 2.0, 0.5]}


def naive(
    y,
    z,
    class_weights=(1,) * C,
    positive_weights=(1,) * C,
    correlation=None,
    bce_weight=1.0,
    correlation_weight=0.1,
    contrastive_weight=0.1,
    temperature=0.1,
):
    """The loss of each example, term by term, in float64."""
    n, labels = y.shape
    y, z = y.astype("float64"), z.astype("float64")
    logits = z[:, :labels]
    e = z[:, labels:] if z.shape[1] > labels else logits
    u = [row / np.sqrt(sum(v**2 for v in row) + 1e-12) for row in e]
    losses = []
    for i in range(n):
        b = r = norm = 0.0
        for c in range(labels):
            on, off = np.logaddexp(0, -logits[i, c]), np.logaddexp(0, logits[i, c])
            term = positive_weights[c] * y[i, c] * on + (1 - y[i, c]) * off
            b += class_weights[c] * term / labels
        p = 1 / (1 + np.exp(-logits[i]))
        for c in range(labels):
            for k in range(c + 1, labels):
                rho = 0.0 if correlation is None else correlation[c][k]
                r += max(rho, 0) * (p[c] - p[k]) ** 2 + max(-rho, 0) * p[c] * p[k]
                norm += abs(rho)
        pull = share = 0.0
        others = [j for j in range(n) if j != i]
        for j in others:
            both, either = np.sum(y[i] * y[j]), np.sum(np.maximum(y[i], y[j]))
            jaccard = both / either if either else 0.0
            total = sum(np.exp(np.dot(u[i], u[k]) / temperature) for k in others)
            pull -= jaccard * (np.dot(u[i], u[j]) / temperature - np.log(total))
            share += jaccard
        losses.append(
            bce_weight * b
            + correlation_weight * (r / norm if norm else 0.0)
            + contrastive_weight * (pull / share if share else 0.0)
        )
    return np.array(losses)


@pytest.mark.parametrize("name", ["hybrid_embedding", "hybrid_logits_only"])
def test_matches_the_fixtures(name):
    g = golden("arabic-emotion", name)
    terms = ("bce_weight", "correlation_weight", "contrastive_weight", "temperature")
    arguments = {term: float(g[term]) for term in terms}
    loss = HybridMultiLabelLoss.from_labels(g["train_labels"], weighting="class", **arguments)
    assert_close(loss.class_weights, g["class_weights"], 1e-6, 1e-9)
    assert_close(loss.correlation, g["correlation"], 1e-6, 1e-9)
    assert loss.positive_weights is None
    assert loss.num_labels == int(g["num_labels"])
    y, z = g["y_true"].astype("float32"), g["y_pred"].astype("float32")
    assert_close(loss.call(y, z), g["per_example"])
    value, grad = gradient(lambda p: loss(y, p), z)
    assert_close(value, g["loss"])
    assert_close(grad, g["grad"], 1e-4, 1e-6)


@pytest.mark.parametrize("width", [C + D, C])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {**WEIGHTS, "correlation": R.tolist(), "correlation_weight": 0.7},
        {"bce_weight": 0.0, "contrastive_weight": 1.3, "temperature": 0.5},
        {"bce_weight": 0.5, "contrastive_weight": 0.0, "correlation": (-abs(R)).tolist()},
    ],
)
def test_matches_plain_loops(kwargs, width):
    z = Z[:, :width]
    loss = HybridMultiLabelLoss(C, **kwargs)
    x = z.astype("float32")
    assert_close(loss.call(Y, x), naive(Y, z, **kwargs))
    if "positive_weights" in kwargs:
        _, grad = gradient(lambda p: loss(Y, p), x)
        expected = numeric_gradient(lambda p: naive(Y, p, **kwargs).mean(), z)
        assert_close(grad, expected, 1e-3, 1e-5)


def test_from_labels():
    labels = (RNG.random((50, C)) < [0.5, 0.9, 0.03, 0.3]).astype("float64")
    labels[:, 2] = 0
    labels[:2, 2] = 1
    count = labels.sum(axis=0)
    loss = HybridMultiLabelLoss.from_labels(labels)
    expected = [min(max((50 - n) / n, 1), 10) for n in count]
    assert_close(loss.positive_weights, expected)
    assert expected[2] == 10
    assert expected[1] == 1
    assert loss.class_weights is None
    assert HybridMultiLabelLoss.from_labels(labels, max_weight=2).positive_weights[2] == 2
    expected = np.corrcoef(labels.T) - np.eye(C)
    assert_close(loss.correlation, expected, 1e-6, 1e-9)
    plain = HybridMultiLabelLoss.from_labels(labels, None, correlation=None, temperature=0.2)
    assert (plain.class_weights, plain.positive_weights, plain.correlation) == (None,) * 3
    assert plain.temperature == 0.2
    for made in (loss, plain):
        assert HybridMultiLabelLoss.from_config(made.get_config()).get_config() == (
            made.get_config()
        )


@pytest.mark.parametrize("weighting", ["positive", "class", None])
def test_labels_that_none_or_all_have(weighting):
    labels = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 1]])
    loss = HybridMultiLabelLoss.from_labels(labels, weighting)
    assert np.isfinite(to_numpy(loss.call(labels, np.ones((3, 3), "float32")))).all()
    assert not np.any(loss.correlation)
    # Without correlation the term is nothing, not 0 / 0.
    without = HybridMultiLabelLoss.from_labels(labels, weighting, correlation=None)
    z = Z[:3, :3].astype("float32")
    assert_close(loss.call(labels, z), to_numpy(without.call(labels, z)), 0, 0)


def test_one_example_or_no_shared_label():
    loss = HybridMultiLabelLoss(C, bce_weight=0.0, contrastive_weight=1.0)
    for y in (np.ones((1, C)), np.eye(C), np.zeros((C, C))):
        x = Z[: len(y)].astype("float32")
        value, grad = gradient(lambda p, y=y: loss(y, p), x)
        assert value == 0
        np.testing.assert_array_equal(grad, np.zeros_like(x))
    assert tuple(loss.call(Y[:0], Z[:0]).shape) == (0,)


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e4, 1e25])
def test_extreme_logits_and_embeddings(size):
    loss = HybridMultiLabelLoss.from_labels(Y)
    x = size * np.sign(Z).astype("float32")
    x[3, C:] = 0
    value, grad = gradient(lambda p: loss(Y, p), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_large_embeddings_have_a_direction():
    """Whose squares float32 cannot hold."""
    loss = HybridMultiLabelLoss(C)
    small, large = Z.astype("float32"), Z.astype("float32")
    large[:, C:] *= 1e25
    assert_close(loss.call(Y, large), to_numpy(loss.call(Y, small)))


def test_integer_and_half_inputs():
    loss = HybridMultiLabelLoss(C)
    x = Z.astype("float16")
    expected = loss.call(Y, x.astype("float32"))
    assert_close(loss.call(Y.astype("int64"), keras.ops.convert_to_tensor(x)), to_numpy(expected))
    assert_close(loss.call(Y.astype(bool), x.astype("float32")), to_numpy(expected))


def test_sample_weight_multiplies_the_losses_alone():
    loss = HybridMultiLabelLoss(C, reduction=None)
    x, weight = Z.astype("float32"), np.arange(N, dtype="float32")
    assert_close(loss(Y, x, sample_weight=weight), to_numpy(loss(Y, x)) * weight)


def test_learns():
    """Labels of handwritten digits: even, small, multiple of 3."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, d = (digits.data[:300] / 16).astype("float32"), digits.target[:300]
    y = np.stack([d % 2 == 0, d < 5, d % 3 == 0], axis=1).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(3 + 8)])
    model.compile(keras.optimizers.Adam(0.02), HybridMultiLabelLoss.from_labels(y))
    history = model.fit(x, y, batch_size=100, epochs=15, verbose=0).history["loss"]
    assert history[-1] < history[0] / 1.5


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"num_labels": 0}, "num_labels"),
        ({"num_labels": 2.0}, "num_labels"),
        ({"class_weights": [1.0]}, "class_weights"),
        ({"class_weights": [1.0, -1.0]}, "class_weights"),
        ({"positive_weights": [1.0, float("nan")]}, "positive_weights"),
        ({"positive_weights": "ab"}, "positive_weights"),
        ({"correlation": [[0.0, 0.5], [0.4, 0.0]]}, "correlation"),
        ({"correlation": [[1.0, 0.5], [0.5, 1.0]]}, "correlation"),
        ({"correlation": [[0.0]]}, "correlation"),
        ({"bce_weight": -1}, "bce_weight"),
        ({"correlation_weight": None}, "correlation_weight"),
        ({"contrastive_weight": float("inf")}, "contrastive_weight"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        HybridMultiLabelLoss(**{"num_labels": 2, **kwargs})


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([[0, 2]],), "labels"),
        (([0, 1],), "labels"),
        ((np.zeros((0, 2)),), "labels"),
        ((Y, "both"), "weighting"),
        ((Y, "positive", 0.5), "max_weight"),
    ],
)
def test_bad_labels(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        HybridMultiLabelLoss.from_labels(*arguments)


@pytest.mark.parametrize(
    ("y", "z"), [((3, C), (4, C)), ((3, C), (3, C - 1)), ((3, C + 1), (3, C + 1)), ((3,), (3, C))]
)
def test_bad_inputs(y, z):
    with pytest.raises(ValueError, match=r"`y_true` must be .*Received: y_true of shape"):
        HybridMultiLabelLoss(C).call(np.zeros(y), np.zeros(z, "float32"))
