import keras
import numpy as np
import pytest

from keras_zoo.losses import DiceFocalLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, (3, 4, 2))
Z = 2 * RNG.normal(size=(3, 4, 2, 4))  # class 3 does not occur


def naive(y, z, dice_weight=0.5, focal_weight=0.5, gamma=2.0, from_logits=True):
    """The loss of each image, by plain loops in float64."""
    images, height, width, classes = z.shape
    overlap, total = np.zeros(classes), np.zeros(classes)
    focal = np.zeros(images)
    for n, i, j in np.ndindex(images, height, width):
        row = z[n, i, j]
        e = [np.exp(v - max(row)) for v in row]
        p = [v / sum(e) for v in e] if from_logits else row
        for k in range(classes):
            truth = float(y[n, i, j] == k)
            overlap[k] += p[k] * truth
            total[k] += p[k] + truth
            if from_logits:
                b = np.logaddexp(0, row[k]) - row[k] * truth
            else:
                b = -np.log(np.clip(row[k] if truth else 1 - row[k], 1e-7, 1 - 1e-7))
            focal[n] += (1 - np.exp(-b)) ** gamma * b / (height * width * classes)
    dice = 0.0
    for k in range(classes):
        if np.any(y == k):
            dice += (1 - 2 * overlap[k] / max(total[k], 1e-7)) / classes
    return dice_weight * dice + focal_weight * focal


@pytest.mark.parametrize("name", ["dice_focal", "dice_focal_absent_class"])
def test_matches_the_official_code(name):
    g = golden("dwff-net", name)
    loss = DiceFocalLoss(float(g["dice_weight"]), float(g["focal_weight"]))
    value, grad = gradient(lambda z: loss(g["y_true"], z), g["y_pred"])
    assert_close(value, g["loss"], rtol=1e-6, atol=1e-6)
    assert_close(grad, g["grad"], rtol=1e-4, atol=1e-7)
    for weights, key in (((1.0, 0.0), "dice"), ((0.0, 1.0), "focal")):
        assert_close(DiceFocalLoss(*weights)(g["y_true"], g["y_pred"]), g[key], 1e-6, 1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
@pytest.mark.parametrize("from_logits", [True, False])
def test_matches_plain_loops(gamma, from_logits):
    scores = Z if from_logits else np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
    arguments = {"dice_weight": 0.3, "focal_weight": 1.2, "gamma": gamma}
    loss = DiceFocalLoss(**arguments, from_logits=from_logits)
    x = scores.astype("float32")
    assert_close(loss.call(Y, x), naive(Y, scores, **arguments, from_logits=from_logits))
    assert_close(loss.call(Y[..., None], x), loss.call(Y, x))
    _, grad = gradient(lambda z: loss(Y, z), x)

    def mean(z):
        return naive(Y, z, **arguments, from_logits=from_logits).mean()

    assert_close(grad, numeric_gradient(mean, scores), rtol=1e-3, atol=1e-5)


def test_the_mean_is_the_whole_loss():
    x = Z.astype("float32")
    each = to_numpy(DiceFocalLoss(reduction=None)(Y, x))
    assert each.shape == (3,)
    assert_close(DiceFocalLoss()(Y, x), each.mean())
    zeros = np.zeros((2, 8, 8, 3), "float32")
    assert round(float(DiceFocalLoss()(np.zeros((2, 8, 8), "int32"), zeros)), 4) == 0.17


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [0.0, 1e-3, 300.0, 1e6])
def test_extreme_logits(gamma, size):
    x = size * np.sign(Z).astype("float32")
    value, grad = gradient(lambda z: DiceFocalLoss(gamma=gamma)(Y, z), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_extreme_probabilities():
    x = (Z > 0).astype("float32")
    value, grad = gradient(lambda p: DiceFocalLoss(from_logits=False)(Y, p), x)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_right_and_wrong():
    right = 100 * np.eye(4, dtype="float32")[Y]
    # The class that does not occur counts as 0, its logits of 0 as half right.
    assert_close(DiceFocalLoss(1.0, 0.0)(Y, right), 0.0, atol=1e-6)
    sure = np.where(np.eye(4)[Y] > 0, 50, -50).astype("float32")
    assert_close(DiceFocalLoss()(Y, sure), 0.0, atol=1e-6)
    assert_close(DiceFocalLoss(1.0, 0.0)(Y, -100 * right), 0.75, atol=1e-6)


def test_what_is_no_class_or_no_number():
    x, y = Z.astype("float32"), Y.astype("float32")
    y[1, 0, 0] = 4
    losses = to_numpy(DiceFocalLoss().call(y, x))
    assert np.isnan(losses).tolist() == [False, True, False]
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(to_numpy(DiceFocalLoss().call(Y, x))).all()


def test_learns():
    """Which half of a picture of scikit-image is bright."""
    from skimage import data

    image = data.camera()[::8, ::8].astype("float32") / 255
    x = np.stack([image[:32, :32], image[32:, :32], image[:32, 32:], image[32:, 32:]])[..., None]
    y = (x[..., 0] > 0.5).astype("int32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Conv2D(2, 1)])
    model.compile(keras.optimizers.Adam(0.1), DiceFocalLoss(), metrics=["accuracy"])
    history = model.fit(x, y, epochs=60, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    assert history["accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    "kwargs",
    [
        {"dice_weight": -1.0},
        {"focal_weight": float("inf")},
        {"gamma": -0.5},
        {"gamma": "2"},
        {"from_logits": None},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=rf"`{next(iter(kwargs))}` must be .*Received: "):
        DiceFocalLoss(**kwargs)


@pytest.mark.parametrize(
    ("masks", "scores"),
    [
        ((2, 4, 4), (3, 4, 4, 2)),
        ((2, 4, 3), (2, 4, 4, 2)),
        ((2, 4), (2, 4, 2)),
        ((2, 4, 4, 2),) * 2,
    ],
)
def test_bad_inputs(masks, scores):
    with pytest.raises(ValueError, match=r"`y_pred` must be .*Received: y_true of shape"):
        DiceFocalLoss().call(np.zeros(masks), np.zeros(scores, "float32"))
