import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.trainers import EnsLossTrainer
from tests.harness import BACKEND, assert_close, to_numpy
from tests.ops.test_ens_loss import naive

X = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
Y = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1])
WEIGHTS = np.linspace(0, 2, 9).astype("float32")


def trainer(compiled=None, vector=False, period=None, seed=5, **layer):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(1, **layer)]
    if vector:
        layers.append(keras.layers.Reshape(()))
    model = EnsLossTrainer(keras.Sequential(layers), period, seed)
    model(X)
    if compiled is not None:
        model.compile(**{"optimizer": keras.optimizers.SGD(0.0), **compiled})
    return model


def state(model):
    return to_numpy(model.seed_generator.state).copy()


def lam(model):
    return float(to_numpy(model.box_cox_lambda))


def noise_of(seed, n, steps=1):
    """What each of the first steps of a trainer with this seed draws."""
    generator = keras.random.SeedGenerator(seed)
    return [to_numpy(keras.random.normal((n,), seed=generator)) for _ in range(steps)]


def margins_of(model, x=X, y=Y):
    kernel, bias = (to_numpy(w).astype("float64") for w in model.model.weights)
    return (2 * y - 1) * (x @ kernel + bias)[:, 0]


def train_loss(model, y=Y, weights=None):
    loss = model.compute_loss(X, y, model(X, training=True), weights, training=True)
    return to_numpy(ops.stop_gradient(loss))


# A step


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS[:, None]])
def test_matches_plain_loops(vector, weights):
    model = trainer(vector=vector)
    model.box_cox_lambda.assign(-0.7)
    s = margins_of(model)
    for noise, y in zip(noise_of(5, 9, 3), (Y, Y[:, None], Y.astype(bool)), strict=True):
        expected = 0.0
        for i, slope in enumerate(naive(s, noise, -0.7)):
            expected += (1.0 if weights is None else float(WEIGHTS[i])) * slope * s[i] / 9
        assert_close(train_loss(model, y, weights), np.float32(expected))


def test_a_step_of_descent_and_regularizers():
    model = trainer({"optimizer": keras.optimizers.SGD(1.0)}, kernel_regularizer="l2")
    kernel, bias = (to_numpy(w).astype("float64") for w in model.model.weights)
    s = margins_of(model)
    slopes = naive(s, noise_of(5, 9)[0])
    logs = model.train_on_batch(X, Y, sample_weight=WEIGHTS)
    assert_close(logs, np.mean(WEIGHTS * slopes * s) + 0.01 * np.sum(kernel**2))
    to_logits = WEIGHTS * slopes * (2 * Y - 1) / 9
    assert_close(model.model.weights[1], bias - to_logits.sum(), rtol=1e-4)
    expected = kernel - X.T.astype("float64") @ to_logits[:, None] - 0.02 * kernel
    assert_close(model.model.weights[0], expected, rtol=1e-4)


def test_noise_is_new_at_each_step_and_the_seeds_own():
    """At a learning rate of 0: losses differ from step to step, not from run to run."""
    runs = []
    for seed in (5, 5, 6):
        model = trainer({}, seed=seed)
        runs.append(model.fit(X, Y, batch_size=9, epochs=4, verbose=0).history["loss"])
    assert len(set(np.round(runs[0], 6))) == 4
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("y", [Y, Y[:, None]], ids=["vector", "column"])
def test_evaluation_is_the_logistic_loss_and_draws_nothing(y):
    metric = keras.metrics.BinaryAccuracy(threshold=0.0)
    model = trainer({"metrics": [metric]}, period=1)
    before, s = state(model), margins_of(model)
    logs = model.evaluate(X, y, batch_size=9, sample_weight=WEIGHTS, verbose=0, return_dict=True)
    assert_close(logs["loss"], np.mean(WEIGHTS * np.logaddexp(0, -s)))
    assert_close(logs["binary_accuracy"], np.mean(s > 0))
    assert_close(model.predict(X, verbose=0), (s * (2 * Y - 1))[:, None])
    assert (state(model) == before).all()
    assert lam(model) == 0


def test_partial_batches_down_to_one_row():
    model = trainer({})
    history = model.fit(X, Y, batch_size=4, epochs=1, shuffle=False, verbose=0).history
    generator, s, losses = keras.random.SeedGenerator(5), margins_of(model), 0.0
    for start in (0, 4, 8):
        part = s[start : start + 4]
        noise = to_numpy(keras.random.normal((len(part),), seed=generator))
        losses += np.sum(naive(part, noise) * part)
    if BACKEND != "tensorflow":  # which draws other numbers for a batch of unknown size
        assert_close(history["loss"][0], losses / 9)
    assert np.isfinite(history["loss"]).all()


def test_huge_logits_stay_finite():
    model = trainer()
    for scale in (1e-30, 1e30):
        y_pred = ops.convert_to_tensor(scale * X[:, :1])
        for training in (True, False):
            assert np.isfinite(to_numpy(model.compute_loss(X, Y, y_pred, training=training)))


@pytest.mark.parametrize("training", [True, False])
def test_nan_and_labels_that_are_none_give_nan(training):
    model = trainer()
    y_pred = to_numpy(ops.stop_gradient(model(X))).copy()
    for bad in (-1, 2, 0.5, np.nan):
        y = Y.astype("float32")
        y[3] = bad
        assert np.isnan(to_numpy(model.compute_loss(X, y, y_pred, training=training)))
    y_pred[2] = np.nan
    assert np.isnan(to_numpy(model.compute_loss(X, Y, y_pred, training=training)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_losses_are_float32(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = trainer({}, period=1)
        loss = model.compute_loss(X, Y, model(X), training=True)
        model.fit(X, Y, batch_size=9, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert model.box_cox_lambda.dtype == "float32"
    assert lam(model) != 0


# The schedule


class Record(keras.callbacks.Callback):
    """The lambda of each epoch, as it begins."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(lam(self.model))


def test_lambda_is_drawn_every_period():
    model, record = trainer({}, period=3), Record()
    fit = {"batch_size": 9, "callbacks": [record], "verbose": 0}
    model.fit(X, Y, epochs=7, **fit)
    model.fit(X, Y, epochs=10, initial_epoch=7, **fit)
    a, b, c = (record.seen[e - 1] for e in (3, 6, 9))
    assert record.seen == [0, 0, a, a, a, b, b, b, c, c]
    assert len({0, a, b, c}) == 4
    assert all(-1 <= value < 1 for value in record.seen)


@pytest.mark.parametrize("several", [lambda r: r, lambda r: [[r]], keras.callbacks.CallbackList])
def test_callbacks_are_kept(several):
    model, record = trainer({}, period=1), Record()
    model.fit(X, Y, 9, 2, 0, several(record))
    assert len(record.seen) == 2
    assert 0 not in record.seen
    assert model.history.epoch == [0, 1]


def test_without_a_period_lambda_stays():
    model = trainer({})
    model.fit(X, Y, batch_size=9, epochs=3, verbose=0)
    assert lam(model) == 0


def test_lambda_covers_its_range():
    model = trainer(period=1)
    draws = []
    for epoch in range(200):
        model._begin_epoch(epoch)
        draws.append(lam(model))
    assert -1 <= min(draws) < -0.9
    assert 0.9 < max(draws) < 1


def test_a_stopped_run_goes_on_to_the_bit(tmp_path):
    """5 epochs, a file, 5 more: the weights, the lambdas and the losses of 10."""
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    settings = {"metrics": [keras.metrics.BinaryAccuracy(threshold=0.0)]}

    def fresh():
        return trainer({"optimizer": keras.optimizers.Adam(0.05), **settings}, period=3)

    whole, part, records = fresh(), fresh(), [Record() for _ in range(3)]
    history = whole.fit(X, Y, epochs=10, callbacks=records[0], **fit).history
    part.fit(X, Y, epochs=5, callbacks=records[1], **fit)
    part.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.box_cox_period == 3
    assert again.seed == 5
    assert lam(again) == lam(part) != 0
    found = again.fit(X, Y, epochs=10, initial_epoch=5, callbacks=records[2], **fit).history
    assert found["loss"] == history["loss"][5:]
    assert records[1].seen + records[2].seen == records[0].seen
    assert (state(again) == state(whole)).all()
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_learns_digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x[:500] / 16).astype("float32"), np.isin(y[:500], (3, 5, 8, 9)).astype("int32")
    keras.utils.set_random_seed(0)
    layers = [keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
    model = EnsLossTrainer(keras.Sequential(layers), box_cox_period=2, seed=0)
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0)
    model.compile(keras.optimizers.Adam(0.01), metrics=[accuracy])
    fit = {"batch_size": 50, "validation_data": (x, y), "verbose": 0}
    history = model.fit(x, y, epochs=8, **fit).history
    assert history["val_loss"][-1] < 0.6 * history["val_loss"][0]
    assert history["val_binary_accuracy"][-1] > 0.93


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"model": "dense"}, "model"),
        ({"box_cox_period": 0}, "box_cox_period"),
        ({"box_cox_period": 2.0}, "box_cox_period"),
        ({"box_cox_period": True}, "box_cox_period"),
        ({"seed": -1}, "seed"),
        ({"seed": "one"}, "seed"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
        EnsLossTrainer(**{"model": keras.layers.Dense(1), **kwargs})


def test_what_it_cannot_train_on():
    model = trainer({}, period=1)
    with pytest.raises(ValueError, match=r"`loss`.*must be None.*Received: "):
        model.compile("sgd", loss="binary_crossentropy")
    with pytest.raises(ValueError, match=r"`y` must hold the label.*Received: y=None"):
        model.compute_loss(X, None, model(X))
    for y, y_pred in ((Y[:5], X[:, :1]), (Y, X), (np.stack([Y, Y], 1), X[:, :1])):
        with pytest.raises(ValueError, match=r"`y_pred` must hold one logit.*Received: "):
            model.compute_loss(X, y, y_pred)
    before = [state(model), *model.get_weights()]
    for bad in (2 * Y - 1, Y + 0.5, np.where(Y, np.nan, 0), ops.convert_to_tensor(2 * Y)):
        with pytest.raises(ValueError, match=r"`y` must hold 0 and 1 alone. Received: "):
            model.fit(X, bad, verbose=0)
    for one, other in zip([state(model), *model.get_weights()], before, strict=True):
        np.testing.assert_array_equal(one, other)
