"""Confidence-weighted, boundary-aware loss of pseudo-labels (Tarubinga et al., 2025)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import (
    check_choice,
    check_flag,
    check_not_negative,
    check_number,
    check_share,
    sizes_agree,
)
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops import label_boundaries
from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.label_boundaries import BORDERS

SMALLEST_PROBABILITY = 1e-7


@component(paper="cw-bass")
class ConfidenceWeightedBoundaryLoss(ZooLoss):
    """Cross-entropy to a teacher's labels, more of it where the teacher is sure and at boundaries.

    With the teacher's logits `t`, the student's `s`, both `(B, H, W, K)`, of the same images, and
    `m` `(B, H, W)` from `keras_zoo.ops.label_boundaries(l, K, border)`:

        c = max_k softmax(t),  l = argmax_k t                                        (B, H, W)
        T = clip(base_threshold / (1 + exp(-threshold_sensitivity (mean c - 0.5))),
                 min_threshold, max_threshold)          of the whole batch, a scalar
        v = 1 where c > T, else 0                                                    (B, H, W)
        e = -log softmax(s)[l]                                                       (B, H, W)
        loss = sum(v (confidence_decay c)^gamma e) / max(sum v, 1)
               + boundary_weight sum(v m e) / max(sum v m, 1)        sums over the whole batch

    The teacher is a constant: labels, weights and `T` have no gradient.

    With the default arguments `T` is always between 0.3 and 0.34, which drops next to nothing. Who
    wants a filter raises `base_threshold`, to 1.5, say, and `max_threshold`; equal `min_threshold`
    and `max_threshold` fix `T` at that value.

    Args:
        gamma: float >= 0. How much sure pixels count more than others; 0 for all alike.
        boundary_weight: float >= 0.
        base_threshold: float >= 0.
        threshold_sensitivity: float >= 0. How fast `T` grows with the mean confidence.
        min_threshold: float in [0, 1].
        max_threshold: float in [`min_threshold`, 1].
        confidence_decay: float in (0, 1]. A factor, which comes after the threshold. The official
            code has 0.9 where it is switched on.
        border: "constant" or "symmetric". By the former the frame of an image is a boundary.
        from_logits: bool. False where teacher and student give probabilities; the student's are
            then at least 1e-7.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` the teacher's, `y_pred` the student's `(B, H, W, K)`, channels last whatever
    `keras.config.image_data_format()` is, of any size, `K >= 2`.

    Output before reduction: `(B,)`, the part of each image in the sums, times `B`, so that the mean
    is the loss above. Images of a batch depend on one another. Where no pixel is kept, loss and
    gradient are exactly 0. Of classes that are equally probable the first is the label. NaN in
    `y_true` gives NaN for all images, NaN in `y_pred` for its own.

    Under `keras.distribution` on JAX the batch is the whole one; the replicas of `tf.distribute`
    and of torch's process groups take the sums of their own part.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` are not of one shape.

    Example:
    >>> teacher, student = np.zeros((2, 8, 8, 3), "float32"), np.zeros((2, 8, 8, 3), "float32")
    >>> loss = keras_zoo.losses.ConfidenceWeightedBoundaryLoss()
    >>> round(float(loss(teacher, student)), 4)  # log(3) (1/3 + 1/2)
    0.9155

    Reference: arXiv:2502.15152; github.com/psychofict/CW-BASS. Differs from the official code:
    none. The paper and the README speak of a decay that grows; the code has the constant factor.
    """

    def __init__(
        self,
        gamma=1.0,
        boundary_weight=0.5,
        base_threshold=0.6,
        threshold_sensitivity=0.5,
        min_threshold=0.3,
        max_threshold=0.8,
        confidence_decay=1.0,
        border="constant",
        from_logits=True,
        name="confidence_weighted_boundary_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        for argument, value in (
            ("gamma", gamma),
            ("boundary_weight", boundary_weight),
            ("base_threshold", base_threshold),
            ("threshold_sensitivity", threshold_sensitivity),
        ):
            check_not_negative(argument, value)
        check_share("min_threshold", min_threshold)
        if not min_threshold <= check_number("max_threshold", max_threshold) <= 1:
            raise ValueError(
                "`max_threshold` must be in [min_threshold, 1]. "
                f"Received: max_threshold={max_threshold}, min_threshold={min_threshold}"
            )
        if not 0 < check_number("confidence_decay", confidence_decay) <= 1:
            raise ValueError(f"`confidence_decay` must be in (0, 1]. Received: {confidence_decay=}")
        self.gamma = gamma
        self.boundary_weight = boundary_weight
        self.base_threshold = base_threshold
        self.threshold_sensitivity = threshold_sensitivity
        self.min_threshold = min_threshold
        self.max_threshold = max_threshold
        self.confidence_decay = confidence_decay
        self.border = check_choice("border", border, BORDERS)
        self.from_logits = check_flag("from_logits", from_logits)

    def call(self, y_true, y_pred):
        """Loss of each image, `(B,)`."""
        teacher, student = _prepare(y_true, y_pred)
        probabilities = ops.softmax(teacher, axis=-1) if self.from_logits else teacher
        confidence, labels = ops.amax(probabilities, axis=-1), ops.argmax(teacher, axis=-1)
        mean_confidence = ops.mean(confidence)
        kept = ops.cast(confidence > self._threshold(mean_confidence), student.dtype)
        boundary = label_boundaries(labels, student.shape[-1], self.border)
        boundary = kept * ops.cast(boundary, student.dtype)
        weights = kept * ops.power(self.confidence_decay * confidence, self.gamma)
        weights = weights / ops.maximum(ops.sum(kept), 1.0)
        weights += self.boundary_weight * boundary / ops.maximum(ops.sum(boundary), 1.0)
        losses = ops.sum(weights * self._cross_entropy(labels, student), axis=(1, 2))
        losses = losses * ops.cast(ops.shape(losses)[0], losses.dtype)
        # Above no threshold there is, nothing would be kept, and the loss 0.
        return ops.where(ops.isnan(mean_confidence), float("nan"), losses)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "gamma": self.gamma,
            "boundary_weight": self.boundary_weight,
            "base_threshold": self.base_threshold,
            "threshold_sensitivity": self.threshold_sensitivity,
            "min_threshold": self.min_threshold,
            "max_threshold": self.max_threshold,
            "confidence_decay": self.confidence_decay,
            "border": self.border,
            "from_logits": self.from_logits,
        }
        return {**super().get_config(), **own}

    def _threshold(self, mean_confidence):
        """`T` of the class docstring."""
        logit = self.threshold_sensitivity * (mean_confidence - 0.5)
        T = self.base_threshold * ops.sigmoid(logit)
        return ops.clip(T, self.min_threshold, self.max_threshold)

    def _cross_entropy(self, labels, student):
        """`e` of the class docstring."""
        index = ops.expand_dims(labels, axis=-1)
        if self.from_logits:
            log_p = ops.take_along_axis(ops.log_softmax(student, axis=-1), index, axis=-1)
        else:
            p = ops.take_along_axis(student, index, axis=-1)
            log_p = ops.log(ops.maximum(p, SMALLEST_PROBABILITY))
        return -ops.squeeze(log_p, axis=-1)


def _prepare(y_true, y_pred):
    """Teacher, a constant, and student, in full precision."""
    student = full_precision(y_pred)
    teacher = ops.stop_gradient(ops.cast(y_true, student.dtype))
    shapes = tuple(teacher.shape), tuple(student.shape)
    if [len(s) for s in shapes] != [4, 4] or not sizes_agree(*shapes) or (shapes[1][-1] or 0) < 2:
        raise ValueError(
            "`y_true` and `y_pred` must be of one shape `(B, H, W, K)`, with at least two classes. "
            f"Received: y_true of shape {shapes[0]}, y_pred of shape {shapes[1]}"
        )
    return teacher, student
