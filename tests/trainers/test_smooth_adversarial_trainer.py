import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import SmoothAdversarialCompSumLoss
from keras_zoo.ops import projected_gradient_attack
from keras_zoo.trainers import SmoothAdversarialTrainer
from tests.harness import assert_close, to_numpy

X = np.random.default_rng(0).uniform(0.2, 0.8, size=(8, 4)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1])
ATTACK = {"epsilon": 0.1, "step_size": 0.03, "num_steps": 8}


def trainer(classes=3, layers=(), compiled=None, dtype=None, **kwargs):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(classes)])
    model = SmoothAdversarialTrainer(network, **{**ATTACK, "seed": 1, **kwargs}, dtype=dtype)
    model(X)
    if compiled is not None:
        model.compile(**{"optimizer": keras.optimizers.SGD(0.0), **compiled})
    return model


def batch_norm():
    return keras.layers.Dense(5, "tanh"), keras.layers.BatchNormalization()


def loss_of(model, training, weights=None, y=Y):
    y_pred = model(X, training=training)
    loss = model.compute_loss(X, y, y_pred, sample_weight=weights, training=training)
    return to_numpy(ops.stop_gradient(loss))


# The attack


def test_two_classes_of_a_linear_model():
    """The distance that is reached is `epsilon ||w_0 - w_1||_1`."""
    model = trainer(classes=2)
    moved = to_numpy(model.perturb(X, Y % 2))
    kernel, bias = map(to_numpy, model.model.weights)
    between = kernel[:, 0] - kernel[:, 1]
    assert_close(np.abs(moved - X), np.full(X.shape, 0.1), atol=1e-6)
    assert_close(np.abs((moved - X) @ between), np.full(8, 0.1 * np.abs(between).sum()))

    margins = (X @ kernel + bias) * [1, -1]
    first = np.log1p(np.exp(-margins.sum(1) * (1 - 2 * (Y % 2)))).mean()
    assert_close(loss_of(model, False, y=Y % 2), first + 0.1 * np.abs(between).sum())


def test_stays_in_the_ball_and_in_the_range():
    model = trainer(layers=batch_norm(), epsilon=0.3, value_range=(0.25, 0.75))
    x = np.clip(X, 0.25, 0.75)
    moved = to_numpy(model.perturb(x, Y))
    assert np.abs(moved - x).max() <= 0.3 + 1e-6
    assert moved.min() >= np.float32(0.25)
    assert moved.max() <= np.float32(0.75)
    free = to_numpy(trainer(epsilon=2.0, step_size=1.0, value_range=None).perturb(x, Y))
    assert free.min() < 0
    assert free.max() > 1


def test_draws_anew_and_again():
    model = trainer(num_steps=1, step_size=1e-6)
    first, second = (to_numpy(model.perturb(X, Y)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01
    assert_close(trainer(num_steps=1, step_size=1e-6).perturb(X, Y), first, atol=0)
    # Uniform in the box.
    spread = np.abs(first - X)
    assert 0.08 < spread.max() <= 0.1 + 1e-5
    assert 0.03 < spread.mean() < 0.07


def test_columns_of_labels():
    assert_close(trainer().perturb(X, Y[:, None]), trainer().perturb(X, Y), atol=0)
    assert_close(loss_of(trainer(), False, y=Y[:, None]), loss_of(trainer(), False))


# The loss


def reached(model, x, seed):
    """The adversarial inputs of a batch, by the parts that the trainer is made of."""

    def logits(x):
        return ops.cast(model.model(x, training=False), "float32")

    x = ops.convert_to_tensor(x)

    def distance(moved):
        away = logits(moved) - logits(x)
        own = ops.take_along_axis(away, ops.convert_to_tensor(Y[:, None]), axis=1)
        return ops.sqrt(ops.sum((own - away) ** 2, axis=-1))

    noise = keras.random.uniform(x.shape, -1.0, 1.0, seed=seed)
    start = ops.clip(x + 0.1 * noise, 0.0, 1.0)
    return projected_gradient_attack(distance, x, 0.1, 0.03, 8, start)


@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 8).astype("float32")])
def test_training_loss(weights):
    """Two passes in training mode, after an attack in inference mode; weights and regularizers."""
    layers = (*batch_norm(), keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1)))
    model = trainer(layers=layers, tau=1.5, rho=0.7, nu=2.0)
    moved = reached(model, X, keras.random.SeedGenerator(1))
    views = ops.stack([model(X, training=True), model.model(moved, training=True)], axis=1)
    losses = to_numpy(SmoothAdversarialCompSumLoss(1.5, 0.7, 2.0, reduction=None)(Y, views))
    expected = np.mean(losses if weights is None else losses * weights)
    expected += 0.1 * np.square(to_numpy(layers[2].kernel)).sum()
    fresh = trainer(layers=layers, tau=1.5, rho=0.7, nu=2.0)
    fresh.set_weights(model.get_weights())
    assert_close(loss_of(fresh, True, weights), expected)


def test_evaluation_is_always_the_same_and_leaves_the_draws():
    model = trainer(layers=batch_norm(), compiled={"metrics": ["sparse_categorical_accuracy"]})
    before = [to_numpy(w).copy() for w in [*model.weights, model.seed_generator.state]]
    logs = [model.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True) for _ in range(2)]
    for a, b in zip(before, [*model.weights, model.seed_generator.state], strict=True):
        np.testing.assert_array_equal(a, to_numpy(b))
    assert logs[0] == logs[1]
    moved = reached(model, X, 0)
    views = ops.stack([model(X), model.model(moved)], axis=1)
    assert logs[0]["loss"] == pytest.approx(float(model.loss_fn(Y, views)), rel=1e-5)
    right = np.mean(np.argmax(model.predict(X, verbose=0), axis=1) == Y)
    assert logs[0]["sparse_categorical_accuracy"] == pytest.approx(right)


def test_the_gradient_goes_through_both_views():
    """A step of gradient descent on a linear model, in closed form, without a first term."""
    model = trainer(classes=2, nu=3.0, rho=1e6, compiled={"optimizer": keras.optimizers.SGD(1.0)})
    kernel = to_numpy(model.model.weights[0]).copy()
    model.train_on_batch(X, Y % 2)
    slope = np.sign(kernel[:, 0] - kernel[:, 1])[:, None] * [1.0, -1.0]
    assert_close(model.model.weights[0], kernel - 3.0 * 0.1 * slope, atol=2e-5)


def test_batch_statistics_see_two_batches():
    """Clean, then adversarial: those of the attack's own passes are dropped."""
    model = trainer(layers=[keras.layers.BatchNormalization()], compiled={}, epsilon=1e-6)
    model.fit(X, Y, batch_size=8, epochs=1, verbose=0)
    assert_close(model.model.layers[0].moving_mean, X.mean(0) * (1 - 0.99**2), rtol=1e-3)


def test_nan_stays_nan():
    x, labels = X.copy(), Y.astype("float32")
    x[1, 0] = np.nan
    model = trainer(compiled={})
    assert np.isnan(model.evaluate(x, Y, verbose=0))
    labels[2] = 3
    assert np.isnan(model.evaluate(X, labels, verbose=0))
    assert np.isfinite(model.evaluate(X, Y, verbose=0))


def test_losses_are_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16")
    try:
        model = trainer(layers=batch_norm())
        loss = model.compute_loss(X, Y, model(X), training=False)
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(to_numpy(ops.stop_gradient(loss)))
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_learns_digits_and_withstands():
    """More accurate under attack than the same network trained without it."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x[:600] / 16).astype("float32"), y[:600]

    def network():
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])

    def right(network, x):
        return np.mean(np.argmax(to_numpy(network(x)), axis=1) == y)

    plain, robust = network(), network()
    plain.compile(keras.optimizers.Adam(0.03), keras.losses.SparseCategoricalCrossentropy(True))
    attack = {"epsilon": 0.1, "step_size": 0.05, "num_steps": 3}
    model = SmoothAdversarialTrainer(robust, nu=0.3, **attack, seed=0)
    model.compile(keras.optimizers.Adam(0.03))
    plain.fit(x, y, batch_size=100, epochs=8, verbose=0)
    history = model.fit(x, y, batch_size=100, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    accuracies = {}
    for name, net in (("plain", plain), ("robust", robust)):

        def loss(x, net=net):
            return keras.losses.sparse_categorical_crossentropy(y, net(x), from_logits=True)

        moved = projected_gradient_attack(loss, x, 0.1, 0.03, 10)
        accuracies[name] = right(net, x), right(net, moved)
    assert accuracies["robust"][0] > 0.85
    assert accuracies["robust"][1] > accuracies["plain"][1] + 0.1


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"model": "dense"}, "`model` must be"),
        ({"tau": -1.0}, "`tau` must be"),
        ({"rho": 0.0}, "`rho` must be"),
        ({"nu": -1.0}, "`nu` must be"),
        ({"epsilon": 0.0}, "`epsilon` must be"),
        ({"step_size": -1.0}, "`step_size` must be"),
        ({"num_steps": 0}, "`num_steps` must be"),
        ({"num_steps": 1.5}, "`num_steps` must be"),
        ({"value_range": (1.0, 0.0)}, "`value_range` must be"),
        ({"value_range": (0.0, float("nan"))}, "`value_range` must be"),
        ({"value_range": 1.0}, "`value_range` must be"),
        ({"seed": -1}, "`seed` must be"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        SmoothAdversarialTrainer(**{"model": keras.layers.Dense(3), **kwargs})


def test_what_it_cannot_train_on():
    model = trainer(compiled={})
    with pytest.raises(ValueError, match=r"`loss`.*must be None.*Received: "):
        model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"`y` must hold the class.*Received: y=None"):
        model.compute_loss(X, None, model(X))
    with pytest.raises(ValueError, match=r"`y_pred` must be logits.*Received: .*shape"):
        model.perturb(X, np.ones((8, 3)))
    with pytest.raises(ValueError, match=r"`x` must be a tensor of floats.*Received: int32"):
        model.perturb(X.astype("int32"), Y)
