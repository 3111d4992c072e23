import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.ops import projected_gradient_attack
from tests.harness import assert_close, to_numpy

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.7, size=(5, 4)).astype("float32")
W = RNG.normal(size=(4,)).astype("float32")
INSIDE = {"linf": lambda d: np.abs(d).max(-1), "l2": lambda d: np.sqrt((d**2).sum(-1))}


def linear(x):
    return ops.sum(ops.convert_to_tensor(W) * x, axis=-1)


def bowl(x):
    """A loss with a least value at the inputs themselves."""
    away = ops.square(x - ops.convert_to_tensor(X))
    return ops.sum(away * ops.arange(1.0, 5.0), axis=-1)


def naive(gradient, x, epsilon, step_size, num_steps, start, value_range, norm):
    """The attack on each example by plain loops, in float64."""
    results = []
    for row, moved in zip(x.astype("float64"), start.astype("float64"), strict=True):
        for _ in range(num_steps):
            g = gradient(row, moved)
            if norm == "linf":
                moved = moved + step_size * np.sign(g)
                moved = np.array(
                    [min(max(m, r - epsilon), r + epsilon) for m, r in zip(moved, row, strict=True)]
                )
            else:
                moved = moved + step_size * g / np.sqrt(sum(v**2 for v in g))
                far = np.sqrt(sum((moved - row) ** 2))
                moved = row + (moved - row) * min(1.0, epsilon / far)
            if value_range is not None:
                moved = np.array([min(max(m, value_range[0]), value_range[1]) for m in moved])
        results.append(moved)
    return np.array(results)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("value_range", [None, (0.35, 0.65)])
def test_matches_plain_loops(norm, value_range):
    start = X + RNG.uniform(-0.05, 0.05, size=X.shape).astype("float32")
    arguments = X, 0.1, 0.03, 6, start, value_range, norm

    def slope(row, moved):
        return 2 * (moved - row) * np.arange(1.0, 5.0)

    assert_close(projected_gradient_attack(bowl, *arguments), naive(slope, *arguments), atol=1e-6)


# Closed forms


def test_a_linear_loss_ends_in_a_corner_of_the_box():
    for start in (None, X + 0.05):
        moved = projected_gradient_attack(linear, X, 0.1, 0.03, 10, start, None)
        assert_close(moved, X + 0.1 * np.sign(W))
        assert_close(linear(moved), X @ W + 0.1 * np.abs(W).sum())


def test_a_linear_loss_ends_where_its_gradient_leaves_the_sphere():
    moved = projected_gradient_attack(linear, X, 0.1, 0.03, 10, value_range=None, norm="l2")
    assert_close(moved, X + 0.1 * W / np.linalg.norm(W))
    assert_close(linear(moved), X @ W + 0.1 * np.linalg.norm(W))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_inside_the_ball_and_the_range(norm):
    x = RNG.uniform(0, 1, size=(50, 4)).astype("float32")
    start = x + 0.3 * RNG.normal(size=x.shape).astype("float32")
    moved = to_numpy(projected_gradient_attack(linear, x, 0.2, 0.15, 5, start, norm=norm))
    assert INSIDE[norm](moved - x).max() <= 0.2 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    if norm == "linf":
        assert_close(moved, np.clip(x + 0.2 * np.sign(W), 0, 1))


def test_images():
    """The ball is that of each example, over all its axes."""
    x = RNG.uniform(0.4, 0.6, size=(3, 2, 2, 3)).astype("float32")
    w = RNG.normal(size=x.shape).astype("float32")

    def loss(x):
        return ops.sum(ops.convert_to_tensor(w) * x, axis=(1, 2, 3))

    moved = projected_gradient_attack(loss, x, 0.1, 0.1, 3, norm="l2")
    assert_close(moved, x + 0.1 * w / np.sqrt((w**2).sum(axis=(1, 2, 3), keepdims=True)))


def test_bounds_for_each_entry():
    low, high = X - np.float32(0.02), X + np.linspace(0, 0.3, 4, dtype="float32")
    moved = projected_gradient_attack(linear, X, 0.1, 0.05, 5, value_range=(low, high))
    assert_close(moved, np.clip(X + 0.1 * np.sign(W), low, high))


def test_along_the_gradient_itself():
    moved = projected_gradient_attack(linear, X, 9.0, 0.01, 3, None, None, direction="gradient")
    assert_close(moved, X + 0.03 * W)


# What does not move, or cannot


def test_no_steps_give_the_start():
    start = X + 9.0
    assert_close(projected_gradient_attack(linear, X, 0.1, 0.1, 0, start), start)
    assert_close(projected_gradient_attack(linear, X, 0.1, 0.1, 0), X)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_at_a_least_value(norm):
    """No gradient, no way to go; a random start finds one."""
    assert_close(projected_gradient_attack(bowl, X, 0.1, 0.05, 5, norm=norm), X)
    start = X + RNG.uniform(-0.1, 0.1, size=X.shape).astype("float32")
    moved = to_numpy(projected_gradient_attack(bowl, X, 0.1, 0.05, 9, start, norm=norm))
    assert_close(INSIDE[norm](moved - X), np.full(5, 0.1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_gradients_whose_squares_leave_float32(norm, size):
    moved = projected_gradient_attack(lambda x: size * linear(x), X, 0.1, 0.05, 5, norm=norm)
    assert_close(moved, projected_gradient_attack(linear, X, 0.1, 0.05, 5, norm=norm))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nan_stays_nan_and_alone(norm):
    x = X.copy()
    x[2, 1] = np.nan
    moved = to_numpy(projected_gradient_attack(linear, x, 0.1, 0.05, 2, norm=norm))
    assert np.isnan(moved[2, 1])
    assert np.isfinite(np.delete(moved, 2, axis=0)).all()
    slope = ops.convert_to_tensor(
        np.where(np.isnan(x), np.nan, np.float32(1))
    )  # of inputs in order
    moved = projected_gradient_attack(lambda x: ops.sum(slope * x, -1), X, 0.1, 0.05, 2, norm=norm)
    assert np.isnan(to_numpy(moved)[2, 1])
    assert np.isfinite(np.delete(to_numpy(moved), 2, axis=0)).all()


def test_an_empty_batch_and_a_radius_of_nothing():
    assert to_numpy(projected_gradient_attack(linear, X[:0], 0.1, 0.05, 2)).shape == (0, 4)
    assert_close(projected_gradient_attack(linear, X, 0, 0.05, 2), X)


def test_keeps_float64():
    x = ops.cast(X, "float64")
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        moved = projected_gradient_attack(lambda x: ops.sum(x, axis=-1), x, 0.1, 0.05, 4)
        assert keras.backend.standardize_dtype(moved.dtype) == "float64"


# With a model


def test_a_batch_normalised_model_is_left_as_it_is():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6, "tanh"), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    before = [to_numpy(w).copy() for w in model.weights]

    def loss(x):
        return model(x, training=False)[:, 0]

    moved = projected_gradient_attack(loss, X, 0.1, 0.03, 6)
    assert (to_numpy(loss(moved)) > to_numpy(loss(ops.convert_to_tensor(X)))).all()
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, to_numpy(b))


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.ones((2, 4), "int32")}, "`x` must be a float tensor"),
        ({"x": np.ones(4, "float32")}, "`x` must be a float tensor"),
        ({"x_start": X[:, :3]}, "`x_start` must have the shape"),
        ({"x_start": X[:2]}, "`x_start` must have the shape"),
        ({"epsilon": -0.1}, "`epsilon` must be at least 0"),
        ({"epsilon": float("nan")}, "`epsilon` must be a finite number"),
        ({"step_size": 0}, "`step_size` must be a positive number"),
        ({"num_steps": -1}, "`num_steps` must be an integer"),
        ({"num_steps": 2.0}, "`num_steps` must be an integer"),
        ({"value_range": (1.0, 0.0)}, "`value_range` must be a pair"),
        ({"value_range": 1.0}, "`value_range` must be a pair"),
        ({"norm": "l1"}, "`norm` must be one of"),
        ({"direction": "sign"}, "`direction` must be one of"),
        ({"loss_fn": lambda x: x}, "`loss_fn` must return one number per example"),
        ({"loss_fn": lambda x: ops.sum(x)}, "`loss_fn` must return one number per example"),
    ],
)
def test_bad_arguments(arguments, message):
    given = {"loss_fn": linear, "x": X, "epsilon": 0.1, "step_size": 0.1, "num_steps": 2}
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        projected_gradient_attack(**{**given, **arguments})
