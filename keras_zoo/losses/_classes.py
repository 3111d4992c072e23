"""What the losses of class ids `(N,)` and logits `(N, K)` share."""

from keras import ops

from keras_zoo._checks import is_vector, sizes_agree
from keras_zoo.ops._precision import full_precision


def check_logits(y_true, y_pred, views=None):
    """`y_true` as a tensor, `y_pred` in full precision, if they fit together.

    Args:
        y_true: class ids, `(N,)` or `(N, 1)`.
        y_pred: logits, `(N, K)`, or `(N, views, K)`.
        views: int, or None.
    """
    y_true, y_pred = ops.convert_to_tensor(y_true), full_precision(y_pred)
    labels, logits = tuple(y_true.shape), tuple(y_pred.shape)
    between = () if views is None else (views,)
    fits = len(logits) == 2 + len(between) and logits[1:-1] == between and logits[-1]
    if not (is_vector(labels) and sizes_agree(labels[:1], logits) and fits):
        wanted = "(N, K)" if views is None else f"(N, {views}, K)"
        raise ValueError(
            f"`y_pred` must be logits `{wanted}`, and `y_true` class ids `(N,)` or `(N, 1)`. "
            f"Received: y_true of shape {labels}, y_pred of shape {logits}"
        )
    return y_true, y_pred


def class_ids(y_true, num_classes):
    """Class ids that can be looked up, and which of them were given as such.

    Args:
        y_true: `(N,)` or `(N, 1)`.
        num_classes: int.

    Returns:
        `(labels, known)`: int32 in `[0, num_classes)` and bool, `(N,)`.
    """
    y_true = ops.reshape(y_true, (-1,))
    labels = ops.clip(ops.cast(y_true, "int32"), 0, num_classes - 1)
    # NaN, a fraction or another number than a class id comes back as something else.
    return labels, ops.equal(ops.cast(labels, y_true.dtype), y_true)
