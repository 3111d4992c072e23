import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_zoo import losses
from keras_zoo.callbacks import RetrievalEvaluation
from keras_zoo.losses import metrix_embedding_loss
from keras_zoo.metrics import RecallAtK
from keras_zoo.trainers import Metrix
from keras_zoo.trainers.metrix import choose_partners, mix_rows, soft_labels, symmetric_beta
from tests.harness import assert_close, to_numpy
from tests.losses.test_metrix_embedding_loss import naive_soft

LEVELS = ("embedding", "feature", "input")
every_level = pytest.mark.parametrize("level", LEVELS)
Y = np.array([0, 1, 0, 1, 2, 0, 2, 1, 3])
X = np.random.default_rng(0).normal(size=(9, 5)).astype("float32")


def network(seed=0):
    keras.utils.set_random_seed(seed)
    encoder = keras.Sequential([keras.Input((5,)), keras.layers.Dense(6, "tanh")])
    return encoder, keras.layers.Dense(4)


def trainer(level="embedding", pair_loss=None, compiled=None, head=True, **kwargs):
    encoder, top = network()
    model = Metrix(encoder, top if head else None, pair_loss, level, **{"seed": 1, **kwargs})
    model(X)
    if compiled is not None:
        model.compile(**{"optimizer": keras.optimizers.SGD(0.0), **compiled})
    return model


def state(model):
    return to_numpy(model.seed_generator.state)


# What is drawn


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 2.0, 8.0, 200.0])
def test_lambda_follows_the_beta_distribution(alpha):
    u = np.random.default_rng(0).uniform(1e-7, 1, (4, 20000)).astype("float32")
    draws = to_numpy(symmetric_beta(u, alpha))
    assert ((draws >= 0) & (draws <= 1)).all()
    if alpha < 0.1:  # where float32 has no numbers between 1 - 6e-8 and 1
        edges = np.array([0.001, 0.1, 0.5, 0.9, 0.999])
        share = (draws[:, None] < edges).mean(0)
        np.testing.assert_allclose(share, stats.beta(alpha, alpha).cdf(edges), atol=0.015)
    else:
        assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("u", [1e-7, 0.5, 1 - 6e-8])
def test_lambda_is_a_number_at_the_edges(u):
    for alpha in (1e-3, 2.0, 1e6):
        for other in (1e-7, 0.5, 1 - 6e-8):
            draw = to_numpy(symmetric_beta(np.array([u, other, u, other], "float32"), alpha))
            assert 0 <= draw <= 1


def partners(labels, x, u, with_positives):
    tensors = map(ops.convert_to_tensor, (labels, x, np.asarray(u, "float32")))
    return [to_numpy(t) for t in choose_partners(*tensors, with_positives)]


def test_partners_by_hand():
    x = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8], [-1, 0]], "float32")
    labels = np.array([0, 0, 1, 0, 2])
    u = np.zeros(5, "float32")
    p, q, whole = partners(labels, x, u, True)
    assert p.tolist() == [1, 0, 2, 0, 4]  # the first of the class; alone: itself
    assert q.tolist() == [2, 2, 3, 2, 2]
    assert whole.all()
    p = partners(labels, x, u + 0.999999, True)[0]
    assert p.tolist() == [3, 3, 2, 1, 4]
    p = partners(labels, x, u, ops.convert_to_tensor(False))[0]
    assert p.tolist() == [0, 1, 2, 3, 4]
    p, _, whole = partners(0 * labels, x, u, True)
    assert not whole.any()


def test_every_partner_is_as_likely():
    labels = np.zeros(5)
    x = np.eye(5, dtype="float32")
    u = (np.arange(400, dtype="float32") + 0.5) / 400
    chosen = [partners(labels, x, np.full(5, v), True)[0] for v in u[::8]]
    counts = [np.bincount(column, minlength=5) for column in np.transpose(chosen)]
    assert (np.array(counts)[~np.eye(5, dtype=bool)] > 10).all()
    assert (np.diag(counts) == 0).all()


def test_labels_of_mixtures_by_hand():
    labels, p, q = np.array([0, 0, 1, 2]), np.array([1, 0, 2, 3]), np.array([2, 3, 0, 0])
    whole = np.array([True, True, True, False])
    label, mask = (to_numpy(t) for t in soft_labels(labels, p, q, whole, np.float32(0.3)))
    assert mask.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 0]]
    expected = [[0.3, 0.3, 0.7], [0.3, 0.3, 0.7], [0.7, 0, 0.3], [0, 0.7, 0]]
    assert_close((label * mask)[:, :3], np.array(expected))
    # Both parts of one class: no mixture of two.
    _, mask = soft_labels(labels, np.array([0, 1, 2, 3]), np.array([1, 0, 2, 3]), whole, 0.3)
    assert not to_numpy(mask).any()


def test_mixing_structures_and_precisions():
    x = {"a": X, "b": [X.astype("float16")]}
    mixed = mix_rows(x, np.array([1]), np.array([2]), ops.convert_to_tensor(0.25))
    assert_close(mixed["a"], 0.25 * X[[1]] + 0.75 * X[[2]])
    assert keras.backend.standardize_dtype(mixed["b"][0].dtype) == "float16"
    with pytest.raises(ValueError, match=r"must hold floats. Received: dtype int"):
        mix_rows(np.zeros((3, 2), "int32"), np.array([1]), np.array([2]), 0.5)


# The loss of a step


def naive_step(model, draws, pairing):
    """Mean mixed loss from the formulas, with the network as numpy."""
    layers = [model.encoder.layers[0], model.head]
    (w1, b1), (w2, b2) = ([to_numpy(w).astype("float64") for w in la.weights] for la in layers)

    def head(h):
        return h @ w2 + b2

    def unit(f):
        return f / np.linalg.norm(f, axis=-1, keepdims=True)

    def encode(x):
        return np.tanh(x @ w1 + b1)

    h = encode(X.astype("float64"))
    f = unit(head(h))
    lam = float(to_numpy(symmetric_beta(draws[:4], model.alpha)))
    mixed = []
    for j in range(9):
        others = [i for i in range(9) if i != j and Y[i] == Y[j]]
        p = j
        if others and pairing == "positive_negative":
            p = others[int(draws[5 + j] * len(others))]
        q = max((i for i in range(9) if Y[i] != Y[j]), key=lambda i: f[i] @ f[j])
        if model.level == "input":
            v = head(encode(lam * X[p].astype("float64") + (1 - lam) * X[q]))
        else:
            v = head(lam * h[p] + (1 - lam) * h[q])
        mixed.append((Y[p], Y[q], unit(v)))
    result = []
    for a in range(9):
        terms = [(yp, f[a] @ v) for yp, yq, v in mixed if (yp == Y[a]) != (yq == Y[a])]
        result.append(naive_soft_labels(model.pair_loss, terms, Y[a], lam))
    return np.mean(result)


def naive_soft_labels(loss, terms, own, lam):
    labels = [lam if yp == own else 1 - lam for yp, _ in terms]
    s = [v for _, v in terms]
    if isinstance(loss, losses.ContrastiveLoss):
        return np.mean(
            [-y * v + (1 - y) * max(0, v - loss.margin) for y, v in zip(labels, s, strict=True)]
        )
    pull = sum(y * np.exp(-loss.alpha * (v - loss.base)) for y, v in zip(labels, s, strict=True))
    push = sum(
        (1 - y) * np.exp(loss.beta * (v - loss.base)) for y, v in zip(labels, s, strict=True)
    )
    return np.log1p(pull) / loss.alpha + np.log1p(push) / loss.beta


def step(model, draws, monkeypatch, x=X, y=Y, **kwargs):
    """The loss of a training step whose random numbers are given."""
    monkeypatch.setattr(keras.random, "uniform", lambda *a, **k: ops.convert_to_tensor(draws))
    y_pred = model(x, training=True)
    return to_numpy(ops.stop_gradient(model.compute_loss(x, y, y_pred, training=True, **kwargs)))


DRAWS = np.random.default_rng(3).uniform(0.05, 0.95, 14).astype("float32")


@every_level
@pytest.mark.parametrize("coin", [0.2, 0.8])
@pytest.mark.parametrize("pair_loss", [losses.MultiSimilarityLoss(), losses.ContrastiveLoss(0.2)])
def test_matches_plain_loops(level, coin, pair_loss, monkeypatch):
    draws = DRAWS.copy()
    draws[4] = coin
    pairing = "positive_negative" if coin < 0.5 else "anchor_negative"
    model = trainer(level, pair_loss)
    clean = to_numpy(pair_loss(Y, model(X)))
    if level == "embedding":
        lam = float(to_numpy(symmetric_beta(draws[:4], 2.0)))
        mixed = to_numpy(metrix_embedding_loss(Y, model(X), pair_loss, lam, pairing)).mean()
    else:
        mixed = naive_step(model, draws, pairing)
    expected = clean + 0.4 * mixed
    assert_close(step(model, draws, monkeypatch), expected, rtol=2e-5)
    fixed = trainer(level, pair_loss, pairing=pairing)
    assert_close(step(fixed, DRAWS, monkeypatch), expected, rtol=2e-5)


def test_naive_soft_is_the_other_naive():
    """The loops of this file and of the function's agree where labels are all the same."""
    for loss in (losses.MultiSimilarityLoss(), losses.ContrastiveLoss(0.2)):
        s = [0.3, -0.2, 0.8]
        assert naive_soft(loss, s, 0.3) == pytest.approx(
            naive_soft_labels(loss, [(0, v) for v in s], 0, 0.3)
        )


@every_level
def test_without_a_head(level, monkeypatch):
    model = trainer(level, head=False)
    assert tuple(model(X).shape) == (9, 6)
    assert np.isfinite(step(model, DRAWS, monkeypatch))


def test_features_of_another_pass_are_computed_anew(monkeypatch):
    model = trainer("feature")
    expected = step(model, DRAWS, monkeypatch)
    model(X[::-1].copy(), training=True)  # leaves features of other examples behind
    assert_close(model.compute_loss(X, Y, model(X), training=True), expected)
    assert model._pass.features is None


@every_level
@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_reductions_and_weights(level, reduction, monkeypatch):
    """Mixed losses are reduced and weighed as the clean ones."""
    weight = np.linspace(0, 2, 9).astype("float32")

    def total(reduction, mix_weight, weight=None):
        model = trainer(
            level, losses.BinomialDevianceLoss(reduction=reduction), mix_weight=mix_weight
        )
        return step(model, DRAWS, monkeypatch, sample_weight=weight)

    if reduction == "sum":
        assert_close(total("sum", 0.4), 9 * total("sum_over_batch_size", 0.4), rtol=1e-4)
    mixed = total("sum", 1.0, weight) - total("sum", 0.0, weight)
    divisor = weight.sum() if reduction == "mean_with_sample_weight" else 1.0
    found = total(reduction, 1.0, weight) - total(reduction, 0.0, weight)
    assert_close(found, mixed / divisor, rtol=1e-3)
    assert abs(mixed) > 1e-3


@every_level
def test_one_class_and_nan(level, monkeypatch):
    model = trainer(level)
    assert step(model, DRAWS, monkeypatch, y=np.zeros(9)) == 0
    x = X.copy()
    x[2, 1] = np.nan
    assert np.isnan(step(model, DRAWS, monkeypatch, x=x))


def test_nothing_is_drawn_at_weight_0():
    model = trainer("input", mix_weight=0.0)
    before = state(model)
    loss = model.compute_loss(X, Y, model(X, training=True), training=True)
    assert_close(loss, losses.MultiSimilarityLoss()(Y, model(X)))
    assert (state(model) == before).all()


def test_the_chunks_of_the_pair_loss():
    seen = []

    class Spy(losses.ContrastiveLoss):
        def pair_loss(self, S, pos, neg):
            seen.append(tuple(S.shape))
            return super().pair_loss(S, pos, neg)

    model = trainer("feature", Spy(chunk_size=4))
    model.compute_loss(X, Y, model(X), training=False)
    assert set(seen) == {(4, 9)}


class Counter(keras.layers.Layer):
    """Counts its training passes, and adds a loss of 1 in each."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.passes = self.add_weight(shape=(), initializer="zeros", trainable=False, name="passes")

    def call(self, x, training=None):
        if training:
            self.passes.assign_add(1.0)
        self.add_loss(1.0 + 0 * ops.sum(x))
        return x


@pytest.mark.parametrize(
    ("level", "passes"), [("embedding", (1, 1)), ("feature", (1, 2)), ("input", (2, 2))]
)
def test_further_passes(level, passes):
    """No pass that is not needed, and what layers add counts once, in fit, on each backend."""
    keras.utils.set_random_seed(0)
    counters = Counter(), Counter()
    encoder = keras.Sequential(
        [keras.Input((5,)), counters[0], keras.layers.Dense(6, kernel_regularizer="l2")]
    )
    head = keras.Sequential([keras.Input((6,)), counters[1], keras.layers.Dense(4)])
    model = Metrix(encoder, head, level=level, seed=0, mix_weight=1e-9)
    model.compile(keras.optimizers.SGD(0.0))
    loss = model.fit(X, Y, batch_size=9, epochs=1, verbose=0).history["loss"][0]
    assert tuple(float(to_numpy(c.passes)) for c in counters) == passes
    kernel = to_numpy(encoder.layers[1].kernel)
    clean = to_numpy(losses.MultiSimilarityLoss()(Y, model(X)))
    assert loss == pytest.approx(clean + 2 + 0.01 * (kernel**2).sum(), rel=1e-4)
    evaluated = model.evaluate(X, Y, batch_size=9, verbose=0)
    assert evaluated == pytest.approx(loss, rel=1e-4)
    assert tuple(float(to_numpy(c.passes)) for c in counters) == passes


# Training


@every_level
def test_draws_advance_in_training_alone(level):
    """With a learning rate of 0 only the draws tell one step from the next."""
    model = trainer(level, compiled={"metrics": [RecallAtK(1)]})
    start = state(model)
    clean = model.evaluate(X, Y, batch_size=9, verbose=0, return_dict=True)
    model.predict(X, verbose=0)
    assert (state(model) == start).all()
    assert clean["loss"] == pytest.approx(float(to_numpy(model.pair_loss(Y, model(X)))), rel=1e-5)
    steps = {"batch_size": 9, "epochs": 4, "shuffle": False, "verbose": 0}
    logs = model.fit(X, Y, **steps).history
    assert len(set(logs["loss"])) == 4
    assert logs["recall_at_1"] == [clean["recall_at_1"]] * 4
    assert (state(model) != start).any()
    again = trainer(level, compiled={})
    assert again.fit(X, Y, **steps).history["loss"] == logs["loss"]
    other = trainer(level, compiled={}, seed=2)
    assert other.fit(X, Y, **steps).history["loss"] != logs["loss"]


@every_level
def test_compiled(level, monkeypatch):
    """jit_compile=True gives what plain training gives."""
    histories = []

    def uniform(shape, minval, maxval, seed):
        # TensorFlow draws other numbers under XLA.
        return minval + (maxval - minval) * ops.cast(ops.arange(shape[0]), "float32") / 16

    for jit_compile in (True, False):
        optimizer = keras.optimizers.SGD(0.1)
        model = trainer(level, compiled={"optimizer": optimizer, "jit_compile": jit_compile})
        monkeypatch.setattr(keras.random, "uniform", uniform)
        history = model.fit(X, Y, batch_size=9, epochs=2, shuffle=False, verbose=0)
        monkeypatch.undo()
        histories.append(history.history["loss"])
    assert_close(histories[0], histories[1], rtol=1e-3)


@pytest.mark.parametrize("built", [True, False])
def test_saved_with_its_random_numbers(built, tmp_path):
    """A run goes on from a file, compiled as before, with the draws that come next."""

    def fresh():
        keras.utils.set_random_seed(0)
        encoder = keras.Sequential([keras.Input((5,))] * built + [keras.layers.Dense(6)])
        model = Metrix(encoder, keras.layers.Dense(4), level="feature", alpha=0.5)
        model.compile(keras.optimizers.Adam(0.01), metrics=[RecallAtK(1)])
        return model

    def fit(model, epochs):
        return model.fit(X, Y, batch_size=9, epochs=epochs, shuffle=False, verbose=0).history

    model = fresh()
    fit(model, 2)
    model.save(tmp_path / "model.keras")
    expected = fit(model, 2)
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert (again.alpha, again.level, again.seed) == (0.5, "feature", None)
    assert fit(again, 2) == expected
    assert (state(again) == state(model)).all()
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_with_retrieval_evaluation():
    """The real digits of scikit-learn: recall and loss improve, at every level."""
    from sklearn.datasets import load_digits

    images, y = load_digits(return_X_y=True)
    x = (images[:400] / 16).astype("float32")
    y = y[:400]
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, "relu")])
    model = Metrix(encoder, keras.layers.Dense(8), level="feature", seed=0)
    model.compile(keras.optimizers.Adam(3e-3))
    watch = RetrievalEvaluation(x, y, k=1)
    history = model.fit(x, y, batch_size=50, epochs=8, callbacks=[watch], verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert history["val_recall_at_1"][-1] > history["val_recall_at_1"][0]


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"encoder": lambda x: x}, "`encoder` must be"),
        ({"encoder": None}, "`encoder` must be"),
        ({"head": "dense"}, "`head` must be"),
        ({"pair_loss": losses.TripletLoss()}, "`pair_loss` must be a pair loss with"),
        ({"pair_loss": losses.NPairLoss()}, "`pair_loss` must be a pair loss with"),
        ({"pair_loss": "ms"}, "`pair_loss` must be a pair loss with"),
        ({"pair_loss": losses.ContrastiveLoss(reduction=None)}, "`pair_loss` must reduce"),
        ({"level": "features"}, "`level` must be"),
        ({"mix_weight": -0.1}, "`mix_weight` must be"),
        ({"mix_weight": float("nan")}, "`mix_weight` must be"),
        ({"alpha": 0.0}, "`alpha` must be"),
        ({"pairing": "both"}, "`pairing` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"seed": 1.5}, "`seed` must be"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*Received: "):
        Metrix(**{"encoder": keras.layers.Dense(3), **kwargs})


def test_what_it_cannot_train_on():
    model = trainer("input")
    for kwargs in ({"loss": "mse"}, {"loss_weights": [1.0]}):
        with pytest.raises(ValueError, match=r"`loss`.*must be None.*Received: "):
            model.compile("sgd", **kwargs)
    with pytest.raises(ValueError, match=r"`y` must hold.*Received: y=None"):
        model.compute_loss(X, None, model(X))
    with pytest.raises(ValueError, match=r"floats. Received: "):
        model.compute_loss(np.ones((9, 5), "int32"), Y, model(X))
