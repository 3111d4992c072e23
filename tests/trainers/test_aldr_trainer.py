import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import ALDRLoss, LDRLoss
from keras_zoo.trainers import ALDRTrainer
from tests.harness import assert_close, gradient, to_numpy
from tests.losses.test_ldr_loss import naive_row, naive_temperature, normalized

X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])
PLACES = np.array([3, 0, 8, 5, 1, 2, 7])
Y = np.stack([LABELS, PLACES], axis=1)
LOSS = {"temperature": 0.8, "alpha": 1.5}


def trainer(loss=None, compiled=None, **layer):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, **layer)])
    model = ALDRTrainer(network, 9, ALDRLoss(**LOSS) if loss is None else loss)
    model(X)
    if compiled is not None:
        model.compile(**{"optimizer": keras.optimizers.SGD(0.0), **compiled})
    return model


def table(model):
    return to_numpy(model.instance_temperature)


def naive(model, before, weights=None):
    """Table and mean loss after a step on `X` and `Y`, by plain loops."""
    kernel, bias = (to_numpy(w).astype("float64") for w in model.model.weights)
    after, losses, loss = before.astype("float64"), [], model.loss_fn
    for x, (label, place) in zip(X, Y, strict=True):
        scores = normalized(x @ kernel + bias, loss.normalization)
        for _ in range(loss.num_steps):
            after[place] = naive_temperature(scores, after[place], loss.temperature, loss.alpha)
        t = after[place]
        penalty = loss.alpha * np.log(3) / (2 * loss.temperature) * (t - loss.temperature) ** 2
        losses.append(naive_row(label, scores, t, loss.margin) - penalty)
    return after, np.mean(losses if weights is None else weights * losses)


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 7).astype("float32")])
def test_matches_plain_loops(num_steps, weights):
    model = trainer(ALDRLoss(**LOSS, num_steps=num_steps))
    for _ in range(3):
        after, expected = naive(model, table(model), weights)
        y_pred = model(X, training=True)
        loss = model.compute_loss(X, Y, y_pred, sample_weight=weights, training=True)
        assert_close(ops.stop_gradient(loss), expected)
        assert_close(table(model), after)
    assert (table(model)[[4, 6]] == np.float32(0.8)).all()  # never visited


def test_the_table_is_the_map_applied_epoch_by_epoch():
    """In `fit`, at a learning rate of 0, with a partial last batch."""
    model = trainer(compiled={})
    model.fit(X, Y, batch_size=3, epochs=4, verbose=0)
    expected = np.full(9, 0.8, "float32")
    for _ in range(4):
        expected, _ = naive(model, expected)
    assert_close(table(model), expected)


def test_evaluation_starts_anew_and_leaves_the_table():
    model = trainer(compiled={"metrics": ["sparse_categorical_accuracy", "accuracy"]})
    model.fit(X, Y, batch_size=7, epochs=2, verbose=0)
    before = table(model)
    far = np.stack([LABELS, np.full(7, 10**6)], axis=1)  # of no training set
    logs = model.evaluate(X, far, batch_size=7, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(float(to_numpy(model.loss_fn(LABELS, model(X)))), rel=1e-5)
    right = np.mean(np.argmax(model.predict(X, verbose=0), axis=1) == LABELS)
    assert logs["sparse_categorical_accuracy"] == pytest.approx(right)
    assert logs["accuracy"] == pytest.approx(right)
    assert (table(model) == before).all()


def test_train_on_batch_and_regularizers():
    model = trainer(compiled={}, kernel_regularizer=keras.regularizers.L2(0.1))
    after, expected = naive(model, table(model))
    expected += 0.1 * np.square(to_numpy(model.model.weights[0])).sum()
    assert_close(model.train_on_batch(X, Y), expected)
    assert_close(table(model), after)


def test_the_gradient_is_that_of_the_loss_at_the_new_temperatures():
    model = trainer(compiled={"optimizer": keras.optimizers.SGD(1.0)})
    kernel, bias = (to_numpy(w).copy() for w in model.model.weights)
    model.train_on_batch(X, Y)
    twin = trainer()
    temperatures, bias = map(ops.convert_to_tensor, (table(model)[PLACES], bias))
    _, slope = gradient(
        lambda k: ops.mean(
            twin.loss_fn.loss_at(
                LABELS, ops.matmul(ops.convert_to_tensor(X), k) + bias, temperatures
            )
        ),
        kernel,
    )
    assert_close(model.model.weights[0], kernel - slope, rtol=1e-4)


def test_a_place_twice_in_a_batch():
    model = trainer()
    y = np.stack([LABELS, np.full(7, 4)], axis=1)
    single = to_numpy(model.loss_fn.adapt_temperature(model(X)))
    model.compute_loss(X, y, model(X, training=True), training=True)
    assert np.isclose(single, table(model)[4], atol=1e-6).any()
    assert (np.delete(table(model), 4) == np.float32(0.8)).all()


@pytest.mark.parametrize("place", [-1, 9])
def test_a_place_outside_of_the_table(place):
    y = Y.copy()
    y[2, 1] = place
    model = trainer(compiled={})
    with pytest.raises(ValueError, match=rf"`y` must hold.*\[0, 9\). Received: .*{place}"):
        model.fit(X, y, verbose=0)
    loss = model.compute_loss(X, y, model(X, training=True), training=True)
    assert np.isnan(to_numpy(ops.stop_gradient(loss)))
    assert np.isfinite(table(model)).all()


def test_nan_stays_nan():
    model = trainer()
    y_pred = to_numpy(ops.stop_gradient(model(X))).copy()
    y_pred[1, 0] = np.nan
    loss = model.compute_loss(X, Y, ops.convert_to_tensor(y_pred), training=True)
    assert np.isnan(to_numpy(ops.stop_gradient(loss)))
    assert np.flatnonzero(np.isnan(table(model))).tolist() == [PLACES[1]]


def test_saved_with_its_temperatures(tmp_path):
    """2 epochs, a file, 2 more: the table and the weights of 4, to the bit."""

    def fit(model):
        model.fit(X, Y, batch_size=3, epochs=2, shuffle=False, verbose=0)
        return model

    def fresh():
        return trainer(compiled={"optimizer": keras.optimizers.Adam(0.05), "metrics": ["accuracy"]})

    whole, first = fit(fit(fresh())), fit(fresh())
    first.save(tmp_path / "model.keras")
    first.save_weights(tmp_path / "model.weights.h5")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.num_samples == 9
    assert again.loss_fn.get_config() == first.loss_fn.get_config()
    assert (table(again) == table(first)).all()
    other = fresh()
    other.load_weights(tmp_path / "model.weights.h5")
    assert (table(other) == table(first)).all()
    fit(again)
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_temperatures_are_float32(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = trainer(compiled={})
        model.fit(X, Y, batch_size=7, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.instance_temperature.dtype == "float32"
    assert np.isfinite(table(model)).all()
    assert table(model)[PLACES].max() < 0.8


def test_learns_digits():
    """And temperatures move below where they began, within their range."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x[:500] / 16).astype("float32"), y[:500]
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    model = ALDRTrainer(network, 500, ALDRLoss(1.0))
    model.compile(keras.optimizers.Adam(0.03), metrics=["sparse_categorical_accuracy"])
    columns = np.stack([y, np.arange(500)], axis=1)
    history = model.fit(x, columns, batch_size=50, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["sparse_categorical_accuracy"][-1] > 0.9
    assert table(model).min() > 0.5
    assert table(model).max() < 1.0


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"model": "dense"}, "`model` must be"),
        ({"num_samples": 0}, "`num_samples` must be"),
        ({"num_samples": 2.0}, "`num_samples` must be"),
        ({"loss": LDRLoss()}, "`loss` must be"),
        ({"loss": "aldr"}, "`loss` must be"),
        ({"loss": ALDRLoss(reduction=None)}, "`loss` must reduce"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        ALDRTrainer(**{"model": keras.layers.Dense(3), "num_samples": 5, **kwargs})


def test_what_it_cannot_train_on():
    model = trainer(compiled={})
    with pytest.raises(ValueError, match=r"`loss`.*must be None.*Received: "):
        model.compile("sgd", loss="mse")
    for bad in (None, LABELS, np.ones((7, 3), "int32")):
        with pytest.raises(ValueError, match=r"`y` must be integers `\(N, 2\)`.*Received: "):
            model.compute_loss(X, bad, model(X))
    for bad in (LABELS, Y.astype("float32")):
        with pytest.raises(ValueError, match=r"`y` must .*Received: "):
            model.fit(X, bad, verbose=0)
