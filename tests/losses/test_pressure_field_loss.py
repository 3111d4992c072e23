import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import PressureFieldLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
Y = RNG.uniform(0, 0.7, (2, 3, 4, 2)).astype("float32")
P = RNG.uniform(0, 0.7, (2, 3, 4, 2)).astype("float32")


def naive(y, p, alpha=5.0, gradient_weight=0.1, gradient_norm="l2"):
    """The loss of each field, by plain loops in float64."""
    losses = []
    for t, found in zip(np.asarray(y, "float64"), np.asarray(p, "float64"), strict=True):
        weights = {v: np.exp(alpha * (t[v] - t.max())) for v in np.ndindex(t.shape)}
        mean = sum(weights.values()) / t.size
        loss = sum(w / mean * (found[v] - t[v]) ** 2 for v, w in weights.items()) / t.size
        for axis in range(3):
            slopes = []
            for v in np.ndindex(t.shape):
                if v[axis] + 1 < t.shape[axis]:
                    n = tuple(k + (a == axis) for a, k in enumerate(v))
                    slopes.append((found[n] - found[v]) - (t[n] - t[v]))
            if slopes and gradient_norm == "l2":
                loss += gradient_weight / 3 * np.mean([s * s for s in slopes])
            elif slopes:
                loss += gradient_weight * np.mean([abs(s) for s in slopes])
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_matches_the_fixture(norm):
    g = golden("deeptfus", f"pressure_loss_{norm}")
    assert str(g["gradient_norm"]) == norm
    loss = PressureFieldLoss(float(g["alpha"]), float(g["gradient_weight"]), norm)
    assert_close(loss.call(g["y_true"], g["y_pred"]), g["loss"], 1e-6, 1e-6)
    _, grad = gradient(lambda p: loss(g["y_true"], p), g["y_pred"])
    assert_close(grad, g["grad"], 1e-4, 1e-7)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("alpha", [0.0, 7.0])
def test_matches_plain_loops(norm, alpha):
    kwargs = {"alpha": alpha, "gradient_weight": 0.7, "gradient_norm": norm}
    loss = PressureFieldLoss(**kwargs)
    assert_close(loss.call(Y, P), naive(Y, P, **kwargs))
    _, grad = gradient(lambda p: loss(Y, p), P)
    expected = numeric_gradient(lambda p: naive(Y, p, **kwargs).mean(), P)
    assert_close(grad, expected, 1e-4, 1e-6)


def test_a_last_axis_of_one_on_either_side():
    expected = to_numpy(PressureFieldLoss().call(Y, P))
    for y, p in ((Y[..., None], P), (Y, P[..., None]), (Y[..., None], P[..., None])):
        assert_close(PressureFieldLoss().call(y, p), expected, 0, 0)


def test_weights_have_no_gradient():
    _, grad = gradient(lambda y: PressureFieldLoss(gradient_weight=0.0)(y, P), Y)
    weights = np.exp(5.0 * (Y - Y.max(axis=(1, 2, 3), keepdims=True)))
    weights /= weights.mean(axis=(1, 2, 3), keepdims=True)
    assert_close(grad, 2 * weights * (Y - P) / Y.size, 1e-4, 1e-7)


def test_constant_target_weighs_all_voxels_alike():
    flat = np.full_like(Y, 0.3)
    expected = np.square(P - flat).mean(axis=(1, 2, 3))
    assert_close(PressureFieldLoss(alpha=50.0, gradient_weight=0.0).call(flat, P), expected)


def test_an_axis_of_one_voxel_has_no_slope():
    for shape in ((2, 1, 4, 3), (2, 1, 1, 1)):
        y, p = (RNG.uniform(size=shape).astype("float32") for _ in range(2))
        assert_close(PressureFieldLoss(gradient_weight=1.0).call(y, p), naive(y, p, 5.0, 1.0))


@pytest.mark.parametrize("scale", [1e-6, 1e4, 1e6])
def test_extreme_fields(scale):
    """The largest weight is taken from the peak down, so that its exponential cannot overflow."""
    value, grad = gradient(lambda p: PressureFieldLoss(alpha=100.0)(scale * Y, p), scale * P)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_nan_stays_in_its_field():
    p = P.copy()
    p[0, 1, 2, 0] = np.nan
    assert np.isnan(to_numpy(PressureFieldLoss().call(Y, p))).tolist() == [True, False]


def test_half_precision_computes_in_float32():
    low = PressureFieldLoss().call(Y.astype("float16"), ops.cast(P, "float16"))
    assert keras.backend.standardize_dtype(low.dtype) == "float32"
    rounded = [a.astype("float16").astype("float32") for a in (Y, P)]
    assert_close(low, PressureFieldLoss().call(*rounded))


def test_learns():
    """A convolution learns to blur a field."""
    x = RNG.uniform(size=(4, 6, 6, 6, 1)).astype("float32")
    y = (x + np.roll(x, 1, axis=1)) / 2
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Conv3D(1, 3, padding="same")])
    model.compile(keras.optimizers.Adam(0.03), PressureFieldLoss())
    losses = model.fit(x, y[..., 0], batch_size=4, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"gradient_weight": -0.1},
        {"gradient_norm": "l3"},
        {"gradient_norm": None},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must be .*Received: "):
        PressureFieldLoss(**kwargs)


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ((2, 4, 4), (2, 4, 4)),
        ((2, 4, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 4, 4), (3, 4, 4, 4)),
        ((2, 4, 4, 4, 2),) * 2,
    ],
)
def test_bad_inputs(y, p):
    with pytest.raises(ValueError, match=r"must be fields of one size.*Received: y_true of shape"):
        PressureFieldLoss().call(np.zeros(y), np.zeros(p, "float32"))
