"""Training with exact output updates, against dense SGD and against Keras's own training."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.layers import FactoredDense
from keras_zoo.losses import TaylorSoftmaxLoss, ZLoss
from keras_zoo.trainers import FactoredOutputTrainer
from tests.harness import BACKEND, assert_close, golden, to_numpy

X = np.random.default_rng(0).normal(size=(20, 5)).astype("float32")
Y = np.random.default_rng(1).integers(0, 12, 20)
D, CLASSES = 4, 12


def encoder(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(D, "tanh")])


def trainer(loss=None, rate=0.3, compiled=True, **kwargs):
    own = encoder()
    model = FactoredOutputTrainer(own, FactoredDense(CLASSES), loss, rate, **kwargs)
    model(X)
    if compiled:
        model.compile(keras.optimizers.SGD(0.1))
    return model


def dense_twin(model, loss, rate):
    """A plain model with the same weights, whose kernel has the same rate."""
    top = keras.layers.Dense(CLASSES, use_bias=False)
    twin = keras.Sequential([*encoder().layers, top])
    twin.build((None, 5))
    top.kernel.assign(model.output_layer.get_kernel())
    twin.compile(keras.optimizers.SGD(rate), loss)
    return twin


def weights(model):
    return [to_numpy(w) for w in model.weights]


def test_identity_encoder_follows_dense_sgd():
    g = golden("z-loss", "train_z")
    layer = FactoredDense(g["kernel"].shape[1])
    layer.set_kernel(g["kernel"].astype("float32"))
    identity = keras.layers.Lambda(lambda x: x)
    loss = ZLoss(float(g["scale"]), float(g["shift"]))
    model = FactoredOutputTrainer(identity, layer, loss, float(g["learning_rate"]), 2)
    model.compile("sgd")
    for t, (x, y) in enumerate(zip(g["inputs"].astype("float32"), g["labels"], strict=True)):
        history = model.fit(x, y, batch_size=len(x), verbose=0, shuffle=False).history
        assert_close(history["loss"][0], g["loss"][t], rtol=1e-4)
        assert_close(layer.get_kernel(), g["new_kernel"][t], rtol=1e-3, atol=1e-4)
    assert int(to_numpy(model.output_steps)) == len(g["inputs"])


@pytest.mark.parametrize(
    "loss", [ZLoss(0.5, 2.0), TaylorSoftmaxLoss(), ZLoss(reduction="sum")], ids=["z", "t", "sum"]
)
def test_is_the_training_of_a_dense_layer(loss):
    """Kernel and encoder, with weights of examples and a smaller last batch."""
    rate = 0.02 if loss.reduction == "sum" else 0.1
    model = trainer(loss, rate)
    model.compile(keras.optimizers.SGD(rate), jit_compile=False)
    twin = dense_twin(model, loss, rate)
    twin.compile(keras.optimizers.SGD(rate), loss, jit_compile=False)
    w = np.random.default_rng(2).uniform(0, 2, len(X)).astype("float32")
    fit = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0, "sample_weight": w}
    found, expected = model.fit(X, Y, **fit).history, twin.fit(X, Y, **fit).history
    assert_close(found["loss"], expected["loss"], rtol=1e-4)
    assert_close(model.output_layer.get_kernel(), twin.layers[-1].kernel, rtol=1e-3, atol=1e-4)
    for one, two in zip(model.encoder.weights, twin.layers[0].weights, strict=True):
        assert_close(one, two, rtol=1e-3, atol=1e-4)
    assert_close(model.predict(X, verbose=0), twin.predict(X, verbose=0), rtol=1e-3, atol=1e-3)
    evaluated = model.evaluate(X, Y, sample_weight=w, verbose=0)
    assert_close(evaluated, twin.evaluate(X, Y, sample_weight=w, verbose=0), rtol=1e-3)


def test_mean_with_sample_weight():
    loss = ZLoss(reduction="mean_with_sample_weight")
    model = trainer(loss, compiled=False)
    w = np.arange(20.0).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    expected = loss(Y, model(X), w)
    assert_close(model.train_on_batch(X, Y, w), expected, rtol=1e-4)


def test_a_stopped_run_goes_on_to_the_bit(tmp_path):
    schedule = keras.optimizers.schedules.InverseTimeDecay(0.5, 3, 0.5)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    whole, part = (trainer(rate=schedule, stabilize_period=2) for _ in range(2))
    whole.fit(X, Y, epochs=4, **fit)
    part.fit(X, Y, epochs=2, **fit)
    part.save(tmp_path / "m.keras")
    other = keras.models.load_model(tmp_path / "m.keras")
    assert int(to_numpy(other.output_steps)) == 6
    other.fit(X, Y, epochs=4, initial_epoch=2, **fit)
    for one, two in zip(weights(other), weights(whole), strict=True):
        assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize(
    "several",
    [1, pytest.param(3, marks=pytest.mark.skipif(BACKEND == "torch", reason="Keras has it not"))],
)
def test_stabilizes_every_period(several, monkeypatch):
    calls = []
    model = trainer(stabilize_period=3)
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=several, jit_compile=False)
    monkeypatch.setattr(model.output_layer, "stabilize", lambda: calls.append(1))
    model.fit(X, Y, batch_size=2, epochs=1, verbose=0)
    model.fit(X, Y, batch_size=10, epochs=1, verbose=0)
    assert len(calls) == 4  # after 3, 6, 9 and 12 of 12 steps
    assert int(to_numpy(model.output_steps)) == 12


def test_never_stabilizes(monkeypatch):
    model = trainer(stabilize_period=None)
    model.compile("sgd", run_eagerly=True)
    monkeypatch.setattr(model.output_layer, "stabilize", lambda: pytest.fail("stabilized"))
    model.fit(X, Y, batch_size=10, verbose=0)


def test_metrics_are_those_of_evaluation():
    model = trainer()
    model.compile("sgd", metrics=["sparse_categorical_accuracy"], jit_compile=False)
    history = model.fit(X, Y, batch_size=10, validation_data=(X, Y), epochs=2, verbose=0).history
    assert set(history) == {"loss", "val_loss", "val_sparse_categorical_accuracy"}
    accuracy = np.mean(model.predict(X, verbose=0).argmax(axis=1) == Y)
    assert_close(history["val_sparse_categorical_accuracy"][-1], accuracy)


def test_output_is_logits_but_in_training():
    model = trainer(compiled=False)
    features = model.encoder(X)
    assert_close(model(X, training=True), features)
    assert_close(model(X), ops.matmul(features, model.output_layer.get_kernel()))
    assert len(model.trainable_variables) == 2  # the encoder's


def test_a_layers_own_losses_count():
    own = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(D, kernel_regularizer=keras.regularizers.L2(0.3))]
    )
    model = FactoredOutputTrainer(own, FactoredDense(CLASSES))
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    expected = to_numpy(ZLoss()(Y, model(X))) + 0.3 * np.sum(to_numpy(own.layers[0].kernel) ** 2)
    assert_close(model.train_on_batch(X, Y), expected, rtol=1e-4)


def test_learns_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = (digits.data / 16).astype("float32"), digits.target
    keras.utils.set_random_seed(0)
    own = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, "tanh")])
    model = FactoredOutputTrainer(own, FactoredDense(10), ZLoss(), 0.1, stabilize_period=20)
    model.compile(keras.optimizers.Adam(0.003), metrics=["sparse_categorical_accuracy"])
    history = model.fit(x[:1200], y[:1200], epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert (
        model.evaluate(x[1200:], y[1200:], verbose=0, return_dict=True)[
            "sparse_categorical_accuracy"
        ]
        > 0.8
    )


def test_nan_gives_nan():
    model = trainer()
    model.compile("sgd", run_eagerly=True)
    bad = X.copy()
    bad[0, 0] = np.nan
    assert np.isnan(model.train_on_batch(bad, Y))


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"encoder": "tanh"}, "encoder"),
        ({"output_layer": keras.layers.Dense(3)}, "output_layer"),
        ({"loss": "mse"}, "loss"),
        ({"loss": keras.losses.MeanSquaredError()}, "loss"),
        ({"loss": ZLoss(reduction=None)}, "loss"),
        ({"output_learning_rate": 0}, "output_learning_rate"),
        ({"output_learning_rate": "fast"}, "output_learning_rate"),
        ({"stabilize_period": 0}, "stabilize_period"),
        ({"stabilize_period": 2.5}, "stabilize_period"),
    ],
)
def test_bad_arguments(kwargs, name):
    good = {"encoder": keras.layers.Dense(3), "output_layer": FactoredDense(4)}
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        FactoredOutputTrainer(**{**good, **kwargs})


def test_bad_use():
    model = trainer()
    before = weights(model)
    with pytest.raises(ValueError, match=r"`loss` .*must be None.*Received: loss='mse'"):
        model.compile("sgd", "mse")
    for y in (Y - 1, Y + 1, Y.astype("float32")):
        with pytest.raises(ValueError, match=r"`y` must hold integers in \[0, 12\). Received: "):
            model.fit(X, y, verbose=0)
    with pytest.raises(ValueError, match=r"`y` must hold the class .*Received: y=None"):
        model.compute_loss(X, None, model(X))
    for one, two in zip(weights(model), before, strict=True):
        assert_close(one, two, rtol=0, atol=0)
