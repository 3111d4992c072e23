import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import ALDRLoss, LDRLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

Y = np.array([0, 3, 1, 1, 2, 0])
F = np.random.default_rng(0).normal(size=(6, 4)) * 2


def normalized(scores, normalization):
    if normalization == "softplus":
        scores = [np.logaddexp(0, s) for s in scores]
    if normalization is None:
        return list(scores)
    mean = sum(abs(s) for s in scores) / len(scores)
    return [s / max(mean, 1e-7) for s in scores]


def naive_row(label, scores, temperature, margin):
    """The loss of one example, of normalised scores, by plain loops in float64."""
    d = [s - scores[label] + margin * (k != label) for k, s in enumerate(scores)]
    top = max(d)
    total = sum(np.exp((v - top) / temperature) for v in d) / len(d)
    return top + temperature * np.log(total)


def naive(labels, scores, temperature, margin, normalization):
    return np.array(
        [
            naive_row(y, normalized(row, normalization), temperature, margin)
            for y, row in zip(labels, scores, strict=True)
        ]
    )


def naive_temperature(scores, previous, base, alpha):
    """One step of the temperature of one example, of normalised scores."""
    e = [np.exp((s - max(scores)) / previous) for s in scores]
    p = [v / sum(e) + 1e-5 for v in e]
    p = [v / sum(p) for v in p]
    divergence = sum(v * np.log(len(p) * v) for v in p)
    return base - base * divergence / (alpha * np.log(len(p)))


def naive_adapted(labels, scores, base, alpha, margin, normalization, num_steps):
    """Temperatures and losses of `ALDRLoss`."""
    temperatures, losses = [], []
    for y, row in zip(labels, scores, strict=True):
        f, t = normalized(row, normalization), base
        for _ in range(num_steps):
            t = naive_temperature(f, t, base, alpha)
        temperatures.append(t)
        penalty = alpha * np.log(len(f)) / (2 * base) * (t - base) ** 2
        losses.append(naive_row(y, f, t, margin) - penalty)
    return np.array(temperatures), np.array(losses)


# The official code's numbers


@pytest.mark.parametrize("name", ["ldr_default", "ldr_lambda1_margin2"])
def test_matches_the_official_code(name):
    g = golden("ldr", name)
    loss = LDRLoss(float(g["temperature"]), float(g["margin"]), str(g["normalization"]))
    scores = g["y_pred"].astype("float32")
    value, grad = gradient(lambda x: loss(g["y_true"], x), scores)
    assert_close(value, g["mean_loss"])
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-6)
    assert_close(loss.call(g["y_true"], scores), g["loss"])


@pytest.mark.parametrize("name", ["aldr_default", "aldr_softplus"])
def test_matches_the_visits_of_the_official_code(name):
    g = golden("ldr", name)
    arguments = [float(g[key]) for key in ("temperature", "alpha", "margin")]
    loss = ALDRLoss(*arguments, str(g["normalization"]))
    for visit in range(3):
        scores = g["y_pred"][visit].astype("float32")
        temperatures = to_numpy(loss.adapt_temperature(scores, g["previous_temperature"][visit]))
        assert_close(temperatures, g["new_temperature"][visit], atol=1e-6)
        assert_close(loss.loss_at(g["y_true"], scores, temperatures), g["loss"][visit])

        def mean(x, t=temperatures):
            return ops.mean(loss.loss_at(g["y_true"], x, t))

        assert_close(gradient(mean, scores)[1], g["grad"][visit], rtol=1e-4, atol=1e-6)
    assert_close(loss.call(g["y_true"], g["y_pred"][0].astype("float32")), g["loss"][0])


def test_the_worked_example():
    scores = np.array([[2.0, 0.5, -1.0]], "float32")
    assert_close(LDRLoss()([1], scores), 0.233259)
    assert_close(LDRLoss(1.0)([1], scores), 0.440784)
    for base, temperature, expected in ((10.0, 9.975027, 0.122057), (1.0, 0.823250, 0.617235)):
        loss = ALDRLoss(base)
        assert_close(loss.adapt_temperature(scores), [temperature])
        assert_close(loss([1], scores), expected)


# The formula


@pytest.mark.parametrize("normalization", [None, "l1", "softplus"])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_matches_plain_loops(normalization, temperature):
    arguments = temperature, 0.3, normalization
    loss, x = LDRLoss(*arguments), F.astype("float32")
    assert_close(loss.call(Y, x), naive(Y, x.astype("float64"), *arguments))
    expected = numeric_gradient(lambda x: naive(Y, x, *arguments).mean(), F)
    assert_close(gradient(lambda x: loss(Y, x), x)[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalization", [None, "l1", "softplus"])
@pytest.mark.parametrize("num_steps", [1, 4])
def test_adapted_matches_plain_loops(normalization, num_steps):
    loss = ALDRLoss(0.7, 1.5, 0.3, normalization, num_steps)
    arguments = 0.7, 1.5, 0.3, normalization, num_steps
    temperatures, losses = naive_adapted(Y, F, *arguments)
    x = F.astype("float32")
    assert_close(loss.adapt_temperature(x), temperatures)
    assert_close(loss.call(Y, x), losses)

    def at_fixed(x):
        rows = zip(Y, x, temperatures, strict=True)
        return np.mean([naive_row(y, normalized(f, normalization), t, 0.3) for y, f, t in rows])

    _, grad = gradient(lambda x: loss(Y, x), x)
    assert_close(grad, numeric_gradient(at_fixed, F), rtol=1e-4, atol=1e-5)


def test_cross_entropy_and_the_limits():
    x = F.astype("float32")
    entropy = keras.losses.sparse_categorical_crossentropy(Y, x, from_logits=True)
    assert_close(LDRLoss(1.0, 0.0, None).call(Y, x), to_numpy(entropy) - np.log(4))
    d = F - F[np.arange(6), Y][:, None] + 0.1 * (np.arange(4) != Y[:, None])
    assert_close(LDRLoss(1e-4, 0.1, None).call(Y, x), d.max(axis=1), atol=2e-4)
    # The mean, to the last digits, for all that the temperature multiplies them.
    assert_close(LDRLoss(1e7, 0.1, None).call(Y, x), d.mean(axis=1))


def test_many_classes():
    """A logarithm of 1 / K + ..., neither of whose forms may lose its digits."""
    x = np.zeros((1, 50_000), "float32")
    x[0, 7] = 30.0
    assert_close(LDRLoss(1.0, 0.0, None)([7], x), -np.log(50_000))
    assert_close(LDRLoss(1.0, 0.0, None)([8], x), 30.0 - np.log(50_000))


def test_temperatures_stay_in_their_range():
    x = np.array([[80.0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]], "float32")
    loss = ALDRLoss(2.0, 1.25, normalization=None, num_steps=5)
    temperatures = to_numpy(loss.adapt_temperature(x))
    assert (temperatures > 2.0 * (1 - 1 / 1.25)).all()
    assert_close(temperatures[1], 2.0)
    assert temperatures[0] < temperatures[2] < temperatures[1]
    more = ALDRLoss(2.0, 1.25, normalization=None, num_steps=1)
    assert_close(more.adapt_temperature(x, temperatures), temperatures, rtol=1e-3)


def test_temperatures_are_constants():
    loss = ALDRLoss(1.0)
    x = F.astype("float32")
    _, grad = gradient(lambda x: ops.sum(0.0 * x) + ops.sum(loss.adapt_temperature(x)), x)
    assert (grad == 0).all()
    fixed = np.linspace(0.5, 1, 6, dtype="float32")
    _, grad = gradient(lambda t: ops.sum(0.0 * t) + ops.sum(loss.loss_at(Y, x, t)), fixed)
    assert (grad == 0).all()


# Extremes

LOSSES = [LDRLoss(0.1, normalization=None), LDRLoss(), LDRLoss(0.1, normalization="l1"), ALDRLoss()]
LOSSES += [ALDRLoss(0.1, normalization=n) for n in (None, "softplus")]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e4, -1e4])
def test_extreme_scores(loss, size):
    x = size * np.array([[1, 1, 1, 1], [1, -1, 0, 0.5], [-1, 1, -1, 1]], "float32")
    value, grad = gradient(lambda x: loss([0, 1, 2], x), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("loss", [LDRLoss(0.1, normalization=None), ALDRLoss(0.1)])
def test_float16_scores(loss):
    x = np.array([[65504, -65504, 0, 1], [1, 2, 3, 4]], "float16")
    assert_close(loss([1, 0], x), loss([1, 0], x.astype("float32")))


@pytest.mark.parametrize("loss", [LDRLoss(), ALDRLoss()])
def test_what_is_no_class_or_no_number(loss):
    x = np.ones((5, 3), "float32")
    x[4, 2] = np.nan
    losses = to_numpy(loss.call(np.array([0.0, 3.0, -1.0, np.nan, 0.0]), x))
    assert np.isnan(losses).tolist() == [False, True, True, True, True]
    empty = loss.call(np.zeros(0), np.zeros((0, 3), "float32"))
    assert to_numpy(empty).shape == (0,)
    assert_close(loss.call(Y[:, None], F.astype("float32")), loss.call(Y, F.astype("float32")))


def test_negative_where_the_label_is_safely_ahead():
    value = float(LDRLoss(1.0, 0.0, None)([0], np.array([[50.0, 0, 0, 0]], "float32")))
    assert value == pytest.approx(-np.log(4))


@pytest.mark.parametrize("loss", [LDRLoss(1.0), ALDRLoss(1.0)])
def test_learns_digits(loss):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x[:400] / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=["sparse_categorical_accuracy"])
    history = model.fit(x, y[:400], batch_size=50, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["sparse_categorical_accuracy"][-1] > 0.9


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"margin": -0.1}, "margin"),
        ({"margin": None}, "margin"),
        ({"normalization": "l2"}, "normalization"),
        ({"normalization": "L1"}, "normalization"),
    ],
)
@pytest.mark.parametrize("cls", [LDRLoss, ALDRLoss])
def test_bad_arguments(cls, kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        cls(**kwargs)


@pytest.mark.parametrize(
    "kwargs", [{"alpha": 1.0}, {"alpha": float("nan")}, {"num_steps": 0}, {"num_steps": 1.5}]
)
def test_bad_arguments_of_the_adaptive_one(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        ALDRLoss(**kwargs)


@pytest.mark.parametrize("loss", [LDRLoss(), ALDRLoss()])
@pytest.mark.parametrize(
    ("y_true", "y_pred"), [((3,), (4, 2)), ((3, 2), (3, 2)), ((3,), (3,)), ((3,), (3, 1))]
)
def test_bad_inputs(loss, y_true, y_pred):
    with pytest.raises(ValueError, match=r"`y_pred` must be logits.*Received: .*shape"):
        loss.call(np.zeros(y_true), np.zeros(y_pred, "float32"))


def test_bad_temperatures():
    loss = ALDRLoss()
    for bad in (np.ones(3), np.ones((6, 1)), 1.0):
        with pytest.raises(ValueError, match=r"`previous` must be.*Received: previous of shape"):
            loss.adapt_temperature(F.astype("float32"), bad)
        with pytest.raises(ValueError, match=r"`temperatures` must be.*Received: temp"):
            loss.loss_at(Y, F.astype("float32"), bad)
