import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo.losses import ConfidenceWeightedBoundaryLoss, DiceFocalLoss
from keras_zoo.trainers import CWBASS
from tests.harness import assert_close, golden, to_numpy
from tests.losses.test_confidence_weighted_boundary_loss import naive as naive_unsupervised

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 4, 3, 2)).astype("float32")
U = RNG.normal(size=(5, 4, 3, 2)).astype("float32")
Y = RNG.integers(0, 3, (4, 4, 3))
BATCH = {"labeled": X, "unlabeled": U}
WEIGHTS = np.linspace(0, 2, 4).astype("float32")


def network(*layers, classes=3, channels=2, **kwargs):
    """A pixel's classes from its channels."""
    keras.utils.set_random_seed(0)
    last = keras.layers.Dense(classes, name="logits", **kwargs)
    return keras.Sequential([keras.Input((None, None, channels)), *layers, last])


def trainer(compiled=None, student=None, **kwargs):
    model = CWBASS(network() if student is None else student, **kwargs)
    if compiled is not None:
        # Eagerly, since a handful of steps is not worth a compilation.
        defaults = {"optimizer": keras.optimizers.SGD(0.1), "run_eagerly": True}
        model.compile(**{**defaults, **compiled})
    return model


def values(model):
    return [to_numpy(weight).copy() for weight in model.weights]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def loss_of(model, x, y, weights=None, training=True):
    y_pred = model(x, training=training)
    loss = model.compute_loss(x, y, y_pred, sample_weight=weights, training=training)
    return to_numpy(ops.stop_gradient(loss))


def naive_supervised(y, logits, ignore=255, weights=None):
    """Mean cross-entropy over the pixels that are not ignored, in float64."""
    weights = np.ones(len(y)) if weights is None else weights
    # Of images, or of pixels.
    weights = np.broadcast_to(weights.reshape(len(y), *weights.shape[1:] or (1, 1)), y.shape)
    total, kept = 0.0, 0
    for n, i, j in np.ndindex(*y.shape):
        if y[n, i, j] != ignore:
            row = logits[n, i, j].astype("float64")
            total += weights[n, i, j] * (np.log(np.exp(row).sum()) - row[y[n, i, j]])
            kept += 1
    return total / max(kept, 1)


class Batches(keras.utils.PyDataset):
    """Two labelled images and three others, again and again."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows, others = slice(2 * index, 2 * index + 2), slice(2 * index, 2 * index + 3)
        return {"labeled": X[rows], "unlabeled": U[others]}, Y[rows]


# A step


def test_matches_the_official_arithmetic():
    """Three steps and the teacher of each."""
    g = golden("cw-bass", "trainer")
    student = network(classes=4, channels=3)
    student.set_weights([g["kernel"], np.zeros(4)])
    rate, warmup = float(g["learning_rate"]), int(g["warmup_steps"])
    model = trainer(
        {"optimizer": keras.optimizers.SGD(rate)},
        student,
        unsupervised_weight=float(g["unsupervised_weight"]),
        warmup_steps=warmup,
        ema_decay=float(g["ema_decay"]),
    )
    for step in range(3):
        x = {key: g[key][step] for key in ("labeled", "unlabeled")}
        loss = model.train_on_batch(x, g["y"][step])
        assert_close(loss, np.float32(g["losses"][step]), rtol=1e-5)
        # That which this step has looked at.
        assert_close(model.teacher.weights[0], g["teacher_kernels"][step])
    assert_close(student.weights[0], g["final_kernel"])
    assert_close(student.weights[1], g["final_bias"])
    model.update_teacher()
    assert_close(model.teacher.weights[0], g["final_teacher_kernel"])


@pytest.mark.parametrize("weights", [None, WEIGHTS, RNG.random((4, 4, 3)).astype("float32")])
@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_matches_plain_loops(warmup_steps, weights):
    model = trainer(warmup_steps=warmup_steps, unsupervised_weight=0.7)
    model.student.set_weights([3 * w for w in model.student.get_weights()])
    teacher, student = (to_numpy(part(U)) for part in (model.teacher, model.student))
    y = Y.copy()
    y[0, :2] = y[2, 1, 1] = 255
    supervised = naive_supervised(y, to_numpy(model.student(X)), weights=weights)
    unsupervised = naive_unsupervised(teacher, student).mean()
    for step in range(3):
        ramp = min(1, step / warmup_steps) if warmup_steps else 1
        # Without a move of the teacher.
        model.lags.assign(0)
        expected = np.float32(supervised + 0.7 * ramp * unsupervised)
        assert_close(loss_of(model, BATCH, y, weights), expected)
    assert int(model.steps) == 3
    assert_close(loss_of(model, BATCH, y, weights, training=False), np.float32(supervised))
    assert int(model.steps) == 3


def test_statistics_are_copied_and_batches_seen_apart():
    student = network(keras.layers.BatchNormalization(momentum=0.5))
    model = trainer({"optimizer": keras.optimizers.SGD(0.5)}, student, ema_decay=0.75)
    teacher = values(model.teacher)
    for _ in range(3):
        before = values(student)
        model.train_on_batch(BATCH, Y)
        # The teacher has what the student was before this step: gamma, beta, mean, variance.
        for i in (0, 1, 4, 5):
            teacher[i] = 0.75 * teacher[i] + 0.25 * before[i]
        teacher[2:4] = before[2:4]
        for found, expected in zip(values(model.teacher), teacher, strict=True):
            assert_close(found, expected)
        mean, variance = before[2:4]
        for part in (X, U):
            mean = 0.5 * mean + 0.5 * part.mean(axis=(0, 1, 2))
            variance = 0.5 * variance + 0.5 * part.var(axis=(0, 1, 2))
        assert_close(values(student)[2], mean)
        assert_close(values(student)[3], variance)


def test_update_teacher_by_hand_changes_no_later_teacher():
    plain, by_hand = trainer({}, ema_decay=0.5), trainer({}, ema_decay=0.5)
    for _ in range(3):
        plain.train_on_batch(BATCH, Y)
        by_hand.train_on_batch(BATCH, Y)
        assert_same(values(by_hand.teacher), values(plain.teacher))
        last = values(by_hand.teacher)
        by_hand.update_teacher()
        moved = zip(values(by_hand.teacher), last, values(by_hand.student), strict=True)
        for found, old, target in moved:
            assert_close(found, (old + target) / 2)


@pytest.mark.parametrize(("ema_decay", "same"), [(1.0, "start"), (0.0, "student")])
def test_the_ends_of_the_decay(ema_decay, same):
    model = trainer({}, ema_decay=ema_decay)
    start = values(model.teacher)
    model.train_on_batch(BATCH, Y)
    model.update_teacher()
    for found, expected in zip(
        values(model.teacher), start if same == "start" else values(model.student), strict=True
    ):
        assert_close(found, expected, atol=1e-7)


def test_the_teacher_is_apart():
    """It is a copy that no optimizer trains, and in inference mode."""
    student = network(keras.layers.Dropout(0.5), keras.layers.BatchNormalization())
    model = trainer({}, student)
    assert model.teacher is not student
    assert_same(values(model.teacher), values(student))
    assert len(model.trainable_variables) == len(student.trainable_variables)
    before = values(model.teacher)
    model.train_on_batch(BATCH, Y)
    assert_same(values(model.teacher), before)
    model.train_on_batch(BATCH, Y)
    assert any((a != b).any() for a, b in zip(values(model.teacher), before, strict=True))


def test_frozen_layers_and_regularizers():
    frozen = keras.layers.Dense(3, trainable=False, kernel_regularizer="l2")
    student = network(frozen, kernel_regularizer=keras.regularizers.L2(0.1))
    model = trainer({}, student, unsupervised_weight=0.0)
    supervised = naive_supervised(Y, to_numpy(student(X)))
    penalty = 0.1 * np.square(to_numpy(student.get_layer("logits").kernel)).sum()
    before = values(frozen)
    assert_close(model.train_on_batch(BATCH, Y), np.float32(supervised + penalty))
    model.update_teacher()
    assert_same(values(frozen), before)
    assert_same(values(model.teacher.layers[0]), before)


def test_labels_that_are_all_ignored():
    model = trainer(unsupervised_weight=0.0)
    y = np.full_like(Y, 255)
    assert loss_of(model, BATCH, y) == 0
    assert loss_of(model, X, y, training=False) == 0
    model.compile(keras.optimizers.SGD(1.0))
    before = values(model.student)
    model.train_on_batch(BATCH, y)
    assert_same(values(model.student), before)
    model = trainer(ignore_class=None)
    assert_close(loss_of(model, X, Y, training=False), naive_supervised(Y, to_numpy(model(X))))


def test_nan_stays_nan():
    for key in BATCH:
        x = {name: images.copy() for name, images in BATCH.items()}
        x[key][1, 2, 2, 0] = np.nan
        assert np.isnan(loss_of(trainer(), x, Y))


# As a model


def test_evaluation_is_the_students():
    metric = keras.metrics.SparseCategoricalAccuracy()
    model = trainer({"metrics": [metric]}, network(keras.layers.Dropout(0.5)))
    before, logits = values(model), to_numpy(model.student(X))
    accuracy, loss = np.mean(logits.argmax(-1) == Y), naive_supervised(Y, logits)
    for x in (X, {"labeled": X, "unlabeled": U[:4]}):
        for y in (Y, Y[..., None], Y.astype("uint8")):
            logs = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
            assert_close(logs["loss"], np.float32(loss))
            assert_close(logs["sparse_categorical_accuracy"], np.float32(accuracy))
        assert_close(model.predict(x, verbose=0), logits)
    assert_same(values(model), before)
    # The teacher follows the whole of it.
    assert_close(model.teacher.predict(X, verbose=0), logits)


def test_fit_with_batches_of_two_sizes_goes_on_to_the_bit(tmp_path):
    """2 epochs, a file, 2 more: weights, teacher and steps of 4."""

    def fresh():
        settings = {"optimizer": keras.optimizers.Adam(0.05), "metrics": ["accuracy"]}
        settings["run_eagerly"] = False
        return trainer(settings, network(keras.layers.BatchNormalization()), warmup_steps=6)

    fit = {"shuffle": False, "verbose": 0, "validation_data": (X, Y)}
    whole, part = fresh(), fresh()
    history = whole.fit(Batches(), epochs=4, **fit).history
    part.fit(Batches(), epochs=2, **fit)
    part.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.steps) == 4
    found = again.fit(Batches(), epochs=4, initial_epoch=2, **fit).history
    assert set(found) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name in found:
        assert found[name] == history[name][2:]
    assert_same(values(again), values(whole))
    assert int(again.steps) == 8


def test_config_holds_the_losses():
    unsupervised = ConfidenceWeightedBoundaryLoss(gamma=2.0, border="symmetric")
    model = trainer(supervised_loss=DiceFocalLoss(gamma=1.0), unsupervised_loss=unsupervised)
    again = CWBASS.from_config(model.get_config())
    assert again.supervised_loss.get_config() == model.supervised_loss.get_config()
    assert again.unsupervised_loss.get_config() == unsupervised.get_config()
    again = CWBASS.from_config(trainer(ignore_class=7, warmup_steps=3).get_config())
    assert again.supervised_loss.ignore_class == again.ignore_class == 7
    assert again.warmup_steps == 3


class Unregistered(keras.Model):
    """A student of a class that Keras does not know."""

    def __init__(self, classes, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes
        self.norm = keras.layers.BatchNormalization()
        self.logits = keras.layers.Dense(classes)

    def call(self, x, training=None):
        return self.logits(self.norm(x, training=training))

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}


def test_students_of_any_class():
    subclassed = Unregistered(3)
    subclassed(X)
    inside = keras.Sequential([keras.Input((4, 3, 2)), Unregistered(3)])
    layer = keras.layers.Conv2D(3, 1)
    layer.build((None, None, None, 2))
    for student in (subclassed, inside, layer):
        model = trainer(student=student)
        assert type(model.teacher) is type(student)
        assert_close(model.teacher(U), student(U))
        assert np.isfinite(loss_of(model, BATCH, Y))


def test_channels_first_images():
    """The student turns them; its logits have their channels last."""
    before = keras.config.image_data_format()
    last = trainer()
    keras.config.set_image_data_format("channels_first")
    try:
        turned = [keras.Input((2, 4, 3)), keras.layers.Permute((2, 3, 1)), network()]
        model = trainer(student=keras.Sequential(turned))
        x = {key: np.moveaxis(images, -1, 1) for key, images in BATCH.items()}
        found = loss_of(model, x, Y)
    finally:
        keras.config.set_image_data_format(before)
    assert_close(found, loss_of(last, BATCH, Y))


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_losses_are_float32(policy):
    model = trainer(student=network(dtype=policy), dtype=policy)
    assert keras.backend.standardize_dtype(model(X).dtype) == policy.removeprefix("mixed_")
    assert loss_of(model, BATCH, Y).dtype == "float32"


def test_learns_from_few_labels():
    """Bright and dark of a photograph, of which one corner in sixteen is labelled."""
    from skimage import data

    image = data.camera()[::8, ::8].astype("float32") / 255
    u = image.reshape(4, 16, 4, 16).swapaxes(1, 2).reshape(16, 16, 16, 1)
    truth = (u[..., 0] > 0.5).astype("int32")
    mixed = np.argsort(np.abs(truth.mean(axis=(1, 2)) - 0.5))[0]
    x, y = np.repeat(u[mixed : mixed + 1], 16, axis=0), np.repeat(truth[mixed : mixed + 1], 16, 0)
    student = network(channels=1, classes=2)
    settings = {"optimizer": keras.optimizers.Adam(0.1), "run_eagerly": False}
    model = trainer(settings, student, warmup_steps=20, ema_decay=0.9)
    history = model.fit({"labeled": x, "unlabeled": u}, y, batch_size=4, epochs=15, verbose=0)
    model.update_teacher()
    assert history.history["loss"][-1] < history.history["loss"][0]
    for part in (model, model.teacher):
        assert np.mean(part.predict(u, verbose=0).argmax(-1) == truth) > 0.93


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"student": "unet"}, "student"),
        ({"student": keras.layers.Dense(3)}, "student"),
        ({"student": keras.Sequential([keras.layers.Dense(3)])}, "student"),
        ({"supervised_loss": "mse"}, "supervised_loss"),
        ({"supervised_loss": keras.losses.MeanSquaredError(None)}, "supervised_loss"),
        ({"unsupervised_loss": 3}, "unsupervised_loss"),
        (
            {"unsupervised_loss": ConfidenceWeightedBoundaryLoss(reduction=None)},
            "unsupervised_loss",
        ),
        ({"unsupervised_weight": -1.0}, "unsupervised_weight"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"warmup_steps": 1.5}, "warmup_steps"),
        ({"ema_decay": 1.1}, "ema_decay"),
        ({"ema_decay": None}, "ema_decay"),
        ({"ignore_class": 0.5}, "ignore_class"),
        ({"ignore_class": 3, "supervised_loss": DiceFocalLoss()}, "ignore_class"),
    ],
)
def test_bad_arguments(kwargs, name):
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: "):
        CWBASS(**{"student": network(), **kwargs})


def test_what_it_cannot_train_on():
    model = trainer({})
    before = values(model)
    with pytest.raises(ValueError, match=r"`loss`.*must be None.*Received: "):
        model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"`x` must be a dict .*Received: x=ndarray"):
        model.compute_loss(X, Y, model(X))
    with pytest.raises(ValueError, match=r"`x` must be images, or .*Received: x with the keys"):
        model({"labeled": X, "other": U}, training=True)
    with pytest.raises(ValueError, match=r"`y` must hold the class.*Received: y=None"):
        model.compute_loss(BATCH, None, model(X))
    for y in (Y[:3], Y[:, :3], Y[..., 0], np.stack([Y, Y], -1)):
        with pytest.raises(ValueError, match=r"`y` must be classes.*Received: y of shape"):
            model.compute_loss(BATCH, y, model(X))
    assert_same(values(model), before)
