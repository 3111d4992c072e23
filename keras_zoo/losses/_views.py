"""What the losses over views of each example, `(N, V, D)`, share."""

from keras import ops

from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.pairs import l2_normalize


def prepare_views(y_pred, normalize, count=None):
    """Views `(N, V, D)` in full precision, of unit length where that is asked for.

    Args:
        y_pred: tensor.
        normalize: bool.
        count: int, the `V` that must be; None for two and more.
    """
    y_pred = full_precision(y_pred)
    shape = tuple(y_pred.shape)
    views = shape[1] if len(shape) == 3 else None
    if views is None or (views < 2 if count is None else views != count):
        wanted = "V >= 2" if count is None else f"V = {count}"
        raise ValueError(
            f"`y_pred` must hold views of each example, `(N, V, D)` with {wanted}. "
            f"Received: y_pred of shape {shape}"
        )
    return l2_normalize(y_pred) if normalize and shape[0] != 0 else y_pred


def check_rows(y_true, y_pred, rank, shape):
    """Raises unless `y_true` is of this rank, with one row for each row of `y_pred`."""
    rows = y_true.shape[:1] + y_pred.shape[:1]
    if len(y_true.shape) != rank or (None not in rows and rows[0] != rows[1]):
        raise ValueError(
            f"`y_true` must be `{shape}`, with a row for each row of `y_pred`. Received: "
            f"y_true of shape {tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
        )


def query_logits(views, temperature):
    """Products of each query with every candidate of the batch, over the temperature.

    Args:
        views: `(N, 2 + H, D)`: the query, its positive, its `H` hard negatives.
        temperature: float.

    Returns:
        `(N, N + N H)`: the positives of all queries, that of query `i` in column `i`, then the
        hard negatives of all queries.
    """
    query, candidates = views[:, 0] / temperature, views[:, 1]
    if views.shape[1] > 2:
        hard = ops.reshape(views[:, 2:], (-1, views.shape[2]))
        candidates = ops.concatenate([candidates, hard], axis=0)
    return ops.matmul(query, ops.transpose(candidates))
