import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import HyperbolicPairwiseConfusionLoss
from keras_zoo.metrics import EqualErrorRate, roc_auc
from keras_zoo.trainers import HypOC
from tests.harness import assert_close, golden, to_numpy
from tests.layers.test_hyperbolic_mlr import naive as naive_mlr
from tests.layers.test_to_poincare_ball import naive as naive_to_ball
from tests.losses.test_hyperbolic_pairwise_confusion_loss import naive as naive_confusion
from tests.metrics.test_equal_error_rate import rate

X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
Y = np.array([0, 1, 1, 0, 0, 1, 0])
WEIGHTS = np.linspace(0, 2, 7).astype("float32")


def trainer(compiled=None, encoder=None, x=X, **kwargs):
    """A tiny trainer, by default with an encoder that changes nothing."""
    keras.utils.set_random_seed(0)
    if encoder is None:
        encoder = keras.layers.Activation("linear")
    options = {"hidden_units": (5, 3), "variance": 0.0, "seed": 4, **kwargs}
    model = HypOC(encoder, **options)
    model(x)
    if compiled is not None:
        model.compile(**{"optimizer": keras.optimizers.SGD(0.0), **compiled})
    return model


def mean_of(model):
    return to_numpy(model.feature_mean)


def loss_of(model, x, weights=None):
    """The loss of a training step, made eagerly."""
    loss = model.compute_loss(x, None, model(x, training=True), weights, training=True)
    return to_numpy(ops.stop_gradient(loss))


def softplus(x):
    return np.logaddexp(0, x)


def naive_step(model, x, before, weights=None):
    """Loss and new mean of a step without variance and with an identity encoder."""
    x, before = x.astype("float64"), before.astype("float64")
    batch_mean = np.array([np.mean(x[:, d]) for d in range(x.shape[1])])
    mu = model.mean_momentum * before + (1 - model.mean_momentum) * batch_mean
    h = np.concatenate([x, np.tile(mu, (len(x), 1))])
    for layer in model.embedding.layers:
        kernel, bias = (to_numpy(w).astype("float64") for w in layer.weights)
        h = np.maximum(h @ kernel + bias, 0)
    c = model.curvature
    z = naive_to_ball(h, to_numpy(model.to_ball.origin).astype("float64"), c, model.clip_radius)
    normal, point = (to_numpy(w).astype("float64") for w in model.classifier.weights)
    logits = naive_mlr(z, normal, point, c)
    n = len(x)
    losses = np.zeros(n)
    confusion = naive_confusion(z[:n], c, model.confusion_distance)
    for i in range(n):
        genuine = softplus(logits[i, 1] - logits[i, 0])
        negative = softplus(logits[n + i, 0] - logits[n + i, 1])
        losses[i] = (genuine + negative) / 2 + model.confusion_weight * confusion[i]
    kept = batch_mean if model.running_mean == "previous_batch" else mu
    return np.mean(losses if weights is None else weights * losses), kept


def test_matches_the_official_code():
    """Three steps on fixed weights: means, logits, both parts of the loss."""
    g = golden("hyp-oc", "training_step")
    model = trainer(
        x=g["x"][0],
        hidden_units=(9, 5),
        curvature=float(g["c"]),
        clip_radius=float(g["clip_radius"]),
        mean_momentum=float(g["momentum"]),
        running_mean=str(g["mode"]),
    )
    model.embedding.set_weights([g["w0"], g["b0"], g["w1"], g["b1"]])
    model.to_ball.set_weights([g["origin"]])
    model.classifier.set_weights([g["normal"], g["point"]])
    confusion = HyperbolicPairwiseConfusionLoss(float(g["c"]))
    for step, x in enumerate(g["x"]):
        before = mean_of(model)
        y_pred = model(x, training=True)
        # Around which the pseudo-negatives lie, not what is kept.
        assert_close(0.8 * before + 0.2 * x.mean(axis=0), g["new_mean"][step])
        assert_close(mean_of(model), x.mean(axis=0))
        assert_close(y_pred["logits"], g["logits"][step], 1e-5, 2e-5)
        assert_close(confusion(np.zeros(6), y_pred["points"]), g["pc"][step])
        loss = to_numpy(model.compute_loss(x, None, y_pred, training=True))
        assert_close(loss, g["total"][step])
        assert_close(loss - g["pc"][step], g["ce"][step])
        assert_close(model(x), g["eval_logits"][step], 1e-5, 2e-5)
    assert_close(mean_of(model), g["final_mean"])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"running_mean": "running", "confusion_distance": "geodesic", "confusion_weight": 0.3},
        {"mean_momentum": 0.0, "clip_radius": 0.5, "curvature": 0.9},
    ],
)
def test_matches_plain_loops(kwargs, weights):
    model = trainer(**kwargs)
    model.to_ball.origin.assign(np.array([0.2, -0.3, 0.1]))
    before = mean_of(model)
    for _ in range(3):
        expected, before = naive_step(model, X, before, weights)
        assert_close(loss_of(model, X, weights), np.float32(expected), 1e-5, 2e-5)
        assert_close(mean_of(model), before)


def test_the_mean_follows_the_batches_of_a_fit():
    model = trainer({})
    history = model.fit(X[:6], batch_size=3, epochs=2, shuffle=False, verbose=0).history["loss"]
    before, losses = np.zeros(4), []
    for start in (0, 3, 0, 3):
        loss, before = naive_step(model, X[start : start + 3], before)
        losses.append(loss)
    assert_close(history, [np.mean(losses[:2]), np.mean(losses[2:])], 1e-5, 1e-4)
    assert_close(mean_of(model), X[3:6].mean(axis=0))


def test_pseudo_negatives_are_normal_draws_around_the_mean():
    model = trainer(variance=4.0, mean_momentum=0.5)
    model.feature_mean.assign(np.array([10.0, 0, 0, 0]))
    x = np.ones((4000, 4), "float32")
    g = to_numpy(model._pseudo_negatives(ops.convert_to_tensor(x)))
    assert_close(g.mean(axis=0), [5.5, 0.5, 0.5, 0.5], 0, 0.15)
    assert_close(g.std(axis=0), 4 * [2.0], 0.05, 0)
    assert_close(np.corrcoef(g.T), np.eye(4), 0, 0.06)
    assert (to_numpy(model._pseudo_negatives(ops.convert_to_tensor(x))) != g).any()


def test_the_seed_makes_the_draws():
    runs = []
    for seed in (4, 4, 5):
        model = trainer(variance=1.0, seed=seed)
        runs.append([float(loss_of(model, X)) for _ in range(3)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len(set(runs[0])) == 3


def test_nothing_flows_through_the_mean():
    """With a weight for genuine examples of 0, the encoder gets no gradient at all."""
    encoder = keras.layers.Dense(4, use_bias=False)
    model = trainer(encoder=encoder, compiled={"optimizer": keras.optimizers.SGD(1.0)})
    model.feature_mean.assign(np.ones(4))
    model.classifier.set_weights([w * 3 for w in model.classifier.get_weights()])
    kernel = to_numpy(encoder.kernel).copy()
    own = model._logits

    def frozen(features, training=None):
        # The genuine half enters as a constant: what is left is the way through the negatives.
        rows = ops.shape(features)[0] // 2
        fixed = ops.stop_gradient(features[:rows])
        return own(ops.concatenate([fixed, features[rows:]], axis=0), training)

    model._logits = frozen
    before = model.classifier.get_weights()[0]
    model.train_on_batch(X)
    np.testing.assert_array_equal(to_numpy(encoder.kernel), kernel)
    assert (model.classifier.get_weights()[0] != before).any()


def test_evaluation():
    """It draws and moves nothing; a `fit` reports the metrics of its validation data alone."""
    model = trainer({"metrics": [EqualErrorRate(), "sparse_categorical_accuracy"]}, variance=1.0)
    margin = np.diff(to_numpy(model(X)), axis=1)[:, 0].astype("float64")
    score = 1 / (1 + np.exp(-margin))
    assert_close(model.predict_score(X), score)
    fit = {"batch_size": 7, "verbose": 0}
    history = model.fit(X, validation_data=(X, Y), **fit).history
    names = ("equal_error_rate", "sparse_categorical_accuracy")
    assert set(history) == {"loss", "val_loss", *(f"val_{name}" for name in names)}
    assert_close(history["val_loss"][0], np.mean(softplus((1 - 2 * Y) * margin)))
    state = [to_numpy(w).copy() for w in (model.seed_generator.state, model.feature_mean)]
    logs = model.evaluate(X, Y[:, None], sample_weight=WEIGHTS, return_dict=True, **fit)
    assert_close(logs["loss"], np.mean(WEIGHTS * softplus((1 - 2 * Y) * margin)))
    assert_close(logs["equal_error_rate"], rate(Y, score.astype("float32")))
    assert_close(logs["sparse_categorical_accuracy"], np.mean((score > 0.5) == Y))
    logs = model.evaluate(X, return_dict=True, **fit)
    assert logs.keys() == {"loss"}
    assert_close(logs["loss"], np.mean(softplus(margin)))
    for before, now in zip(state, (model.seed_generator.state, model.feature_mean), strict=True):
        np.testing.assert_array_equal(before, to_numpy(now))


def test_own_embedding_and_regularizers(tmp_path):
    def encoder():
        return keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1))

    embedding = keras.Sequential([keras.layers.Dense(3, "tanh"), keras.layers.BatchNormalization()])
    model = HypOC(encoder(), embedding, seed=1)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(X, batch_size=7, epochs=2, verbose=0)
    assert model.embedding is embedding
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again.predict_score(X), model.predict_score(X))
    penalty = 0.1 * np.square(to_numpy(model.encoder.kernel)).sum()
    margin = np.diff(to_numpy(model(X)), axis=1)[:, 0]
    assert_close(model.evaluate(X, batch_size=7, verbose=0), np.mean(softplus(margin)) + penalty)


def test_one_row_zeros_and_nan():
    model = trainer({"optimizer": keras.optimizers.SGD(0.1)})
    assert np.isfinite(loss_of(model, X[:1]))
    for x in (0 * X, 1e20 * X, np.tile(X[:1], (7, 1))):
        assert np.isfinite(model.train_on_batch(x))
    assert all(np.isfinite(w).all() for w in model.get_weights())
    bad = X.copy()
    bad[2, 1] = np.nan
    assert np.isnan(loss_of(model, bad))
    assert np.isnan(mean_of(model)).tolist() == [False, True, False, False]
    for label in (2, -1, 0.5, np.nan):
        y = Y.astype("float32")
        y[3] = label
        assert np.isnan(to_numpy(model.compute_loss(X, y, model(X), training=False)))


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_half_precision(policy):
    model = trainer(variance=1.0, dtype=policy)
    y_pred = model(X, training=True)
    kind = {k: keras.backend.standardize_dtype(v.dtype) for k, v in y_pred.items()}
    assert kind["points"] == kind["logits"] == "float32"
    assert loss_of(model, X).dtype == "float32"
    assert model.feature_mean.dtype == "float32"


def test_learns_one_digit():
    """Digits that it has not seen from what it has seen in their place."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x[y == 0].astype("float32") / 4
    model = trainer(x=x, hidden_units=(32, 8), variance=1.0)
    model.compile(keras.optimizers.Adam(3e-3, global_clipnorm=3.0))
    history = model.fit(x[:128], batch_size=32, epochs=30, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    noise = np.random.default_rng(0).normal(mean_of(model), size=(50, 64)).astype("float32")
    scores = model.predict_score(np.concatenate([x[128:], noise]), batch_size=100)
    assert roc_auc(np.arange(len(scores)) >= len(x) - 128, scores) > 0.8


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"encoder": "vgg"}, "encoder"),
        ({"embedding": 3}, "embedding"),
        ({"hidden_units": ()}, "hidden_units"),
        ({"hidden_units": 64}, "hidden_units"),
        ({"hidden_units": (64, 0)}, "hidden_units"),
        ({"hidden_units": (64,), "embedding": keras.layers.Dense(3)}, "hidden_units"),
        ({"curvature": -0.1}, "curvature"),
        ({"clip_radius": 0}, "clip_radius"),
        ({"mean_momentum": 1.1}, "mean_momentum"),
        ({"variance": -1.0}, "variance"),
        ({"running_mean": "ema"}, "running_mean"),
        ({"confusion_distance": "cosine"}, "distance"),
        ({"confusion_weight": -1.0}, "confusion_weight"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
        HypOC(**{"encoder": keras.layers.Dense(1), **kwargs})


def test_what_it_cannot_train_on():
    model = trainer({})
    with pytest.raises(ValueError, match=r"`loss`.*must be None.*Received: "):
        model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"`encoder` must give features.*Received: features of"):
        HypOC(keras.layers.Activation("linear"))(np.zeros((2, 3, 4)))
    for y in (Y[:5], np.stack([Y, Y], axis=1)):
        with pytest.raises(ValueError, match=r"`y` must hold one label.*Received: y of shape"):
            model.compute_loss(X, y, model(X), training=False)
