"""Semi-supervised segmentation with confidence and boundaries (Tarubinga et al., 2025)."""

import keras
from keras import ops

from keras_zoo._backend import constant
from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_not_negative, check_share, sizes_agree
from keras_zoo.losses import ConfidenceWeightedBoundaryLoss
from keras_zoo.trainers._base import ZooTrainer

IGNORE_CLASS = 255
KEYS = {"labeled", "unlabeled"}


@component(paper="cw-bass")
class CWBASS(ZooTrainer):
    """Trains a segmenter on few labelled images, and on others that its own average labels.

    `teacher` is a copy of `student` whose weights are a moving average of the student's. At step
    `n` (the first is 0), with labelled images `x` and their classes `y`, unlabelled images `u`:

        loss = supervised_loss(y, student(x))
               + w_n unsupervised_loss(teacher(u), student(u))
        w_n  = unsupervised_weight min(1, n / warmup_steps)

    The student sees `x` and `u` apart, both in training mode, so that batch normalisation takes the
    statistics of each alone; the teacher is in inference mode, a constant. After each step

        teacher's trainable weights <- d teacher + (1 - d) student,   d = ema_decay
        its other weights           <- the student's

    This is made good at the start of the next step: after `fit` the teacher lacks the last one,
    which `update_teacher()` gives it.

    Args:
        student: built layer or model, from images `(B, H, W, C)` to logits `(B, H, W, K)`, of a
            class that its config rebuilds.
        supervised_loss: loss with a reduction. None for
            `keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=...)`, the
            mean over the pixels that are not ignored, 0 if all are.
        unsupervised_loss: loss with a reduction, of the teacher's output and the student's. None
            for `keras_zoo.losses.ConfidenceWeightedBoundaryLoss()`.
        unsupervised_weight: float >= 0.
        warmup_steps: int >= 0. Over so many steps the second term comes in.
        ema_decay: float in [0, 1]. At 1 the teacher stays as it is. 0.999 is for tens of thousands
            of steps; a short run needs less.
        ignore_class: int, the class of pixels that do not count in the default `supervised_loss`;
            None for none. Of no use with another loss.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Attributes:
        teacher: model like `student`, not trainable. Whoever gives `student` other weights before
            training gives them to `teacher` as well.

    Inputs: `fit(x, y)` with `x` a dict of "labeled" `(B, H, W, C)` and "unlabeled" `(B', H, W, C)`,
    and ints `y` `(B, H, W)` or `(B, H, W, 1)`, of the size of the logits. Any size will do that
    `student` takes. Arrays must have as many rows each, so the shorter ones are repeated; batches
    of a `keras.utils.PyDataset` or of a `tf.data.Dataset` may differ. `sample_weight` `(B,)`, or
    `(B, H, W)`, weighs what is labelled.

    In `evaluate`, `predict` and validation it is the student: `x` is one tensor of images, or a
    dict of which "labeled" is looked at. The evaluated loss is the supervised one. The compiled
    metrics see the logits of labelled images.

    Output: logits `(B, H, W, K)`, channels last whatever `keras.config.image_data_format()` is;
    images are as `student` takes them.

    Losses are float32 under every policy. Regularizers and what layers add in the labelled pass
    count. A step costs a pass of the teacher, and one of the student both ways, more than one
    without unlabelled images.

    Compile it with an optimizer and metrics, without a loss. Saved as `.keras` it holds student,
    teacher and the number of steps, and goes on from there to the bit.

    Raises:
        ValueError: an argument is out of its range or of another kind; `student` is not built;
            `compile` is given a loss; `fit` is given no "unlabeled" images, or `y` that does not
            fit the logits.

    Example:
    >>> student = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)])
    >>> model = keras_zoo.trainers.CWBASS(student, warmup_steps=100, ema_decay=0.99)
    >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    >>> images, y = np.random.rand(2, 16, 16, 16, 3), np.random.randint(0, 4, (16, 14, 14))
    >>> history = model.fit({"labeled": images[0], "unlabeled": images[1]}, y, verbose=0)
    >>> model.update_teacher()
    >>> model.predict(images[0], verbose=0).shape
    (16, 14, 14, 4)

    Reference: arXiv:2502.15152; github.com/psychofict/CW-BASS. Differs from the official code:
    none in a step; the paper's two stages are one there and here. It trains DeepLabV3+ by SGD with
    momentum 0.9, weight decay 1e-4 and a rate that falls as `(1 - n / steps)^0.9`, ten times as
    high in the head, and warms up over 5 of 80 epochs.
    """

    def __init__(
        self,
        student,
        supervised_loss=None,
        unsupervised_loss=None,
        unsupervised_weight=1.0,
        warmup_steps=0,
        ema_decay=0.999,
        ignore_class=IGNORE_CLASS,
        **kwargs,
    ):
        if not isinstance(student, keras.layers.Layer) or not student.built:
            raise ValueError(
                "`student` must be a Keras layer or model that is built: call it on a batch first. "
                f"Received: student={student!r}"
            )
        check_not_negative("unsupervised_weight", unsupervised_weight)
        warmup_steps = check_count("warmup_steps", warmup_steps, least=0)
        check_share("ema_decay", ema_decay)
        if ignore_class is not None and not _is_int(ignore_class):
            raise ValueError(f"`ignore_class` must be an int or None. Received: {ignore_class=}")
        if supervised_loss is not None and ignore_class != IGNORE_CLASS:
            raise ValueError(
                "`ignore_class` must be left out where there is a `supervised_loss`. "
                f"Received: {ignore_class=}"
            )
        own_supervised_loss = supervised_loss is None
        if own_supervised_loss:
            supervised_loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=ignore_class, dtype="float32"
            )
        if unsupervised_loss is None:
            unsupervised_loss = ConfidenceWeightedBoundaryLoss(dtype="float32")
        _check_loss("supervised_loss", supervised_loss)
        _check_loss("unsupervised_loss", unsupervised_loss)
        teacher = _copy(student)
        super().__init__(seed=None, **kwargs)
        self.student = student
        self.teacher = teacher
        self.supervised_loss = supervised_loss
        self.unsupervised_loss = unsupervised_loss
        self.unsupervised_weight = unsupervised_weight
        self.warmup_steps = warmup_steps
        self.ema_decay = ema_decay
        self.ignore_class = ignore_class
        self._own_supervised_loss = own_supervised_loss
        # How many steps were made, and whether the teacher lags behind the latest of them.
        self.steps = self._counter("steps", "zeros")
        self.lags = self._counter("lags", "ones")
        self.built = True

    def _counter(self, name, initializer):
        return self.add_weight(
            name=name, shape=(), initializer=initializer, dtype="int32", trainable=False
        )

    def call(self, x, training=None):
        """The student's logits, of labelled images if there are others; then the teacher moves."""
        if not isinstance(x, dict):
            return self.student(x, training=training)
        if set(x) != KEYS:
            raise ValueError(
                "`x` must be images, or a dict of `labeled` and `unlabeled` ones. "
                f"Received: x with the keys {sorted(x)}"
            )
        if training:
            # Before the student's statistics move on.
            self._move_teacher(ops.cast(self.lags, "bool"))
        return self.student(x["labeled"], training=training)

    def update_teacher(self):
        """Moves the teacher towards the student as it is; the next step then leaves this out."""
        self._move_teacher(True)

    def _move_teacher(self, wanted):
        """Moves the teacher if `wanted`, a bool, or a scalar tensor of such."""
        for ours, other in zip(self.teacher.weights, self.student.weights, strict=True):
            old, new = ops.convert_to_tensor(ours), ops.stop_gradient(ops.convert_to_tensor(other))
            if other.trainable:
                # Of two that are equal nothing changes, not even by rounding.
                new = old + (1 - self.ema_decay) * (new - old)
            ours.assign(ops.where(wanted, new, old))
        self.lags.assign(0)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The supervised loss, and in training the unsupervised one."""
        # Before a further pass replaces what layers added in this one.
        loss = self._total(self._supervised(y, y_pred, sample_weight))
        if not training:
            return loss
        if not isinstance(x, dict):
            raise ValueError(
                "`x` must be a dict of `labeled` and `unlabeled` images in training. "
                f"Received: x={type(x).__name__}"
            )
        teacher = ops.stop_gradient(self.teacher(x["unlabeled"], training=False))
        student = self.student(x["unlabeled"], training=training)
        weight = self.unsupervised_weight * self._ramp()
        self.steps.assign(self.steps + 1)
        self.lags.assign(1)
        logits = [ops.cast(part, "float32") for part in (teacher, student)]
        return loss + weight * self.unsupervised_loss(*logits)

    def _supervised(self, y, y_pred, sample_weight):
        """The loss of labelled images."""
        y = _check_masks(y, y_pred)
        logits = ops.cast(y_pred, "float32")
        per_pixel = isinstance(self.supervised_loss, keras.losses.SparseCategoricalCrossentropy)
        if per_pixel and sample_weight is not None:
            weight = ops.cast(sample_weight, "float32")
            weight = ops.reshape(weight, (-1, 1, 1)) if len(weight.shape) == 1 else weight
            # Keras takes no weights of images where losses are of pixels, and on torch it changes
            # the tensor that it is given.
            sample_weight = weight * ops.ones_like(logits[..., 0])
        return self.supervised_loss(y, logits, sample_weight)

    def _ramp(self):
        """`min(1, n / warmup_steps)`."""
        if not self.warmup_steps:
            return 1.0
        return constant(ops.minimum(ops.cast(self.steps, "float32") / self.warmup_steps, 1.0))

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        del config["seed"]
        given = None if self._own_supervised_loss else self.supervised_loss
        own = {
            "student": keras.saving.serialize_keras_object(self.student),
            "supervised_loss": keras.saving.serialize_keras_object(given),
            "unsupervised_loss": keras.saving.serialize_keras_object(self.unsupervised_loss),
            "unsupervised_weight": self.unsupervised_weight,
            "warmup_steps": self.warmup_steps,
            "ema_decay": self.ema_decay,
            "ignore_class": self.ignore_class,
        }
        return {**config, **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("student", "supervised_loss", "unsupervised_loss")
        }
        return cls(**{**config, **parts})


def _copy(student):
    """A model like the student, of equal weights, that no optimizer trains."""
    classes = {type(layer).__name__: type(layer) for layer in student._flatten_layers()}
    with keras.saving.custom_object_scope(classes):
        teacher = type(student).from_config(student.get_config())
        if not teacher.built:
            teacher.build_from_config(student.get_build_config())
    shapes = [[tuple(weight.shape) for weight in part.weights] for part in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`student` must be rebuilt by its config with the same weights. "
            f"Received: student={student!r}, of {len(shapes[0])} weights, rebuilt with "
            f"{len(shapes[1])}"
        )
    teacher.set_weights(student.get_weights())
    teacher.trainable = False
    return teacher


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _check_loss(name, loss):
    """Raises unless this is a loss that gives one number for a batch."""
    if not isinstance(loss, keras.losses.Loss) or loss.reduction in (None, "none"):
        raise ValueError(
            f"`{name}` must be a `keras.losses.Loss` with a reduction. "
            f"Received: {name}={loss!r}, reduction={getattr(loss, 'reduction', None)!r}"
        )


def _check_masks(y, y_pred):
    """`y` as `(B, H, W)`, if it fits the logits."""
    if y is None:
        raise ValueError("`y` must hold the class of each pixel. Received: y=None")
    masks, logits = tuple(y.shape), tuple(y_pred.shape)
    if len(masks) == 4 and masks[-1] == 1:
        y, masks = ops.squeeze(y, axis=-1), masks[:-1]
    if len(masks) != 3 or len(logits) != 4 or not sizes_agree(masks, logits):
        raise ValueError(
            "`y` must be classes `(B, H, W)`, of the size of the logits `(B, H, W, K)`. "
            f"Received: y of shape {masks}, logits of shape {logits}"
        )
    return y
