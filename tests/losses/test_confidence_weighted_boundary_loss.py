import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import ConfidenceWeightedBoundaryLoss
from tests.harness import assert_close, golden, gradient, numeric_gradient, to_numpy
from tests.ops.test_label_boundaries import naive as naive_boundaries

RNG = np.random.default_rng(0)
TEACHER = 2 * RNG.normal(size=(3, 4, 3, 3))
STUDENT = RNG.normal(size=(3, 4, 3, 3))
ARGUMENTS = (
    "gamma",
    "boundary_weight",
    "base_threshold",
    "threshold_sensitivity",
    "min_threshold",
    "max_threshold",
    "confidence_decay",
)
DEFAULTS = dict(zip(ARGUMENTS, (1.0, 0.5, 0.6, 0.5, 0.3, 0.8, 1.0), strict=True))
STRICT = dict(zip(ARGUMENTS, (2.0, 1.5, 1.3, 2.0, 0.2, 0.9, 0.7), strict=True))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def naive(teacher, student, border="constant", from_logits=True, **arguments):
    """The loss of each image, by plain loops in float64."""
    a = {**DEFAULTS, **arguments}
    images, classes = teacher.shape[0], teacher.shape[-1]
    p, q = (softmax(z) if from_logits else z for z in (teacher, student))
    c, labels = np.zeros(p.shape[:3]), np.zeros(p.shape[:3], "int64")
    for place in np.ndindex(*c.shape):
        for k in range(classes):
            if p[place][k] > c[place]:
                c[place], labels[place] = p[place][k], k
    m = naive_boundaries(labels, classes, border)
    T = a["base_threshold"] / (1 + np.exp(-a["threshold_sensitivity"] * (c.mean() - 0.5)))
    T = min(max(T, a["min_threshold"]), a["max_threshold"])
    kept = kept_boundary = 0.0
    for place in np.ndindex(*c.shape):
        if c[place] > T:
            kept += 1
            kept_boundary += m[place]
    losses = np.zeros(images)
    for n, i, j in np.ndindex(*c.shape):
        if c[n, i, j] > T:
            e = -np.log(max(q[n, i, j, labels[n, i, j]], 1e-7))
            weight = (a["confidence_decay"] * c[n, i, j]) ** a["gamma"]
            losses[n] += images * weight * e / max(kept, 1)
            at_boundary = m[n, i, j] * e / max(kept_boundary, 1)
            losses[n] += images * a["boundary_weight"] * at_boundary
    return losses


def both(dtype="float32"):
    return TEACHER.astype(dtype), STUDENT.astype(dtype)


@pytest.mark.parametrize("name", ["loss_defaults", "loss_strict"])
def test_matches_the_official_arithmetic(name):
    g = golden("cw-bass", name)
    arguments = {argument: float(g[argument]) for argument in ARGUMENTS}
    loss = ConfidenceWeightedBoundaryLoss(**arguments)
    value, grad = gradient(lambda s: loss(g["teacher"], s), g["student"])
    assert_close(value, g["loss"], rtol=1e-6, atol=1e-6)
    assert_close(grad, g["grad"], rtol=1e-5, atol=1e-8)
    assert_close(loss._threshold(ops.convert_to_tensor(g["confidence"].mean())), g["threshold"])
    assert 0.1 < g["valid"].mean() <= 1


@pytest.mark.parametrize("arguments", [{}, STRICT, {"gamma": 0.0, "boundary_weight": 0.0}])
@pytest.mark.parametrize("border", ["constant", "symmetric"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_matches_plain_loops(arguments, border, from_logits):
    teacher, student = both("float64")
    if not from_logits:
        teacher, student = softmax(teacher), softmax(student)
    options = {**arguments, "border": border, "from_logits": from_logits}
    loss = ConfidenceWeightedBoundaryLoss(**options)
    x = teacher.astype("float32"), student.astype("float32")
    assert_close(loss.call(*x), naive(teacher, student, **options))
    _, grad = gradient(lambda s: loss(x[0], s), x[1])

    def mean(s):
        return naive(teacher, s, **options).mean()

    assert_close(grad, numeric_gradient(mean, student), rtol=1e-3, atol=1e-5)


def test_the_default_threshold_is_hardly_one():
    """Between 0.3 and 0.337, whatever the mean confidence is."""
    loss = ConfidenceWeightedBoundaryLoss()
    found = to_numpy(loss._threshold(ops.convert_to_tensor(np.linspace(0, 1, 11, dtype="float32"))))
    assert found.min() == np.float32(0.3)
    assert 0.33 < found.max() < 0.3375


def test_the_threshold_is_that_of_the_whole_batch_and_strict():
    sure, unsure = (np.full((1, 2, 2, 2), 0.5, "float32") for _ in range(2))
    sure[..., 0], sure[..., 1] = 1.0, 0.0
    settings = {"base_threshold": 1.0, "threshold_sensitivity": 0.0, "from_logits": False}
    for top, kept in ((1.0, 0.0), (0.75, 1.0)):
        # T is 0.5, then pressed up to `min_threshold`, just not below the confidence.
        settings["min_threshold"], settings["max_threshold"] = top, 1.0
        loss = ConfidenceWeightedBoundaryLoss(**settings)
        found = to_numpy(loss.call(np.concatenate([sure, unsure]), np.full((2, 2, 2, 2), 0.5)))
        # All four kept pixels are of the frame.
        assert_close(found, [kept * 2 * 1.5 * np.log(2), 0.0])


def test_nothing_kept_is_exactly_nothing():
    teacher, student = both()
    loss = ConfidenceWeightedBoundaryLoss(min_threshold=1.0, max_threshold=1.0)
    value, grad = gradient(lambda s: loss(teacher, s), student)
    assert value == 0
    assert not grad.any()


def test_the_teacher_is_a_constant():
    teacher, student = both()
    loss = ConfidenceWeightedBoundaryLoss()
    # The second term, of gradient 1, is for torch, which wants one.
    _, grad = gradient(lambda t: loss(t, student) + ops.sum(t), teacher)
    np.testing.assert_array_equal(grad, np.ones_like(grad))


def test_of_equal_classes_the_first_is_the_label():
    student = np.zeros((1, 3, 3, 3), "float32")
    student[..., 0] = 100
    loss = ConfidenceWeightedBoundaryLoss(min_threshold=0.0, base_threshold=0.0)
    assert_close(loss(np.zeros((1, 3, 3, 3)), student), 0.0)
    assert round(float(ConfidenceWeightedBoundaryLoss()(0 * student, 0 * student)), 4) == 0.9155


def test_the_mean_is_the_whole_loss():
    teacher, student = both()
    each = to_numpy(ConfidenceWeightedBoundaryLoss(reduction=None)(teacher, student))
    assert each.shape == (3,)
    assert_close(ConfidenceWeightedBoundaryLoss()(teacher, student), each.mean())


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("size", [0.0, 1e-3, 100.0, 1e30])
def test_extremes(size, from_logits):
    teacher, student = (size * np.sign(z).astype("float32") for z in both())
    if not from_logits:
        teacher, student = softmax(teacher), softmax(student)
    loss = ConfidenceWeightedBoundaryLoss(from_logits=from_logits)
    value, grad = gradient(lambda s: loss(teacher, s), student)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_classes_that_are_ruled_out():
    """A logit of minus infinity does no harm where the label is another."""
    teacher, student = both()
    teacher[..., 2] = student[..., 2] = -np.inf
    value, grad = gradient(lambda s: ConfidenceWeightedBoundaryLoss()(teacher, s), student)
    two = ConfidenceWeightedBoundaryLoss()(teacher[..., :2], student[..., :2])
    assert_close(value, two)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_nan(gamma):
    loss = ConfidenceWeightedBoundaryLoss(gamma)
    teacher, student = both()
    student[1, 2, 2, 0] = np.nan
    assert np.isnan(to_numpy(loss.call(teacher, student))).tolist() == [False, True, False]
    teacher[0, 0, 0, 0] = np.nan
    assert np.isnan(to_numpy(loss.call(*(teacher, both()[1])))).all()


def test_the_image_data_format_changes_nothing():
    before, expected = keras.config.image_data_format(), naive(TEACHER, STUDENT)
    keras.config.set_image_data_format("channels_first")
    try:
        assert_close(ConfidenceWeightedBoundaryLoss().call(*both()), expected)
    finally:
        keras.config.set_image_data_format(before)


def test_learns():
    """Which part of a picture of scikit-image is bright, from a teacher that knows."""
    from skimage import data

    image = data.camera()[::8, ::8].astype("float32") / 255
    x = np.stack([image[:32, :32], image[32:, :32], image[:32, 32:], image[32:, 32:]])[..., None]
    teacher = 20 * np.concatenate([0.5 - x, x - 0.5], axis=-1)
    keras.utils.set_random_seed(0)
    # Of any size.
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 1)])
    model.compile(keras.optimizers.Adam(0.1), ConfidenceWeightedBoundaryLoss())
    history = model.fit(x, teacher, epochs=60, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2
    right = model.predict(x, verbose=0).argmax(-1) == (x[..., 0] > 0.5)
    assert right.mean() > 0.9


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"boundary_weight": float("inf")}, "boundary_weight"),
        ({"base_threshold": "0.6"}, "base_threshold"),
        ({"threshold_sensitivity": -0.5}, "threshold_sensitivity"),
        ({"min_threshold": -0.1}, "min_threshold"),
        ({"min_threshold": 0.9}, "max_threshold"),
        ({"max_threshold": 1.1}, "max_threshold"),
        ({"confidence_decay": 0.0}, "confidence_decay"),
        ({"confidence_decay": 1.1}, "confidence_decay"),
        ({"border": "same"}, "border"),
        ({"from_logits": 1}, "from_logits"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: "):
        ConfidenceWeightedBoundaryLoss(**kwargs)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ((2, 4, 4, 3), (3, 4, 4, 3)),
        ((2, 4, 4, 3), (2, 4, 5, 3)),
        ((2, 4, 4, 2), (2, 4, 4, 3)),
        ((2, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 3), (2, 4, 3)),
        ((2, 4, 4, 1), (2, 4, 4, 1)),
    ],
)
def test_bad_inputs(teacher, student):
    with pytest.raises(ValueError, match=r"`y_true` and `y_pred` must be .*Received: y_true of"):
        ConfidenceWeightedBoundaryLoss().call(np.zeros(teacher), np.zeros(student, "float32"))
