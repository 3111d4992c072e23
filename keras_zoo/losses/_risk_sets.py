"""Sums over the patients who are still at risk, in O(N log N)."""

import keras
from keras import ops

from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.scatter import added, placed

# Running sums are taken within rows of so many places, of the ends of so many rows, and of the
# ends of these: a power of two.
WIDTH = 32


class RiskSets:
    """The sets `R_i = {j: key_j >= key_i}` of a batch.

    Sorted by falling key they are the beginnings of the batch, up to the last of equal keys. A
    "place" is one of this order.

    Args:
        keys: float tensor `(N,)`, `N > 0`, without NaN. No gradient passes.
    """

    def __init__(self, keys):
        keys = _falling(ops.stop_gradient(keys))
        n = ops.shape(keys)[0]
        self.order = ops.argsort(keys)
        keys = ops.take(keys, self.order)
        is_last = ops.concatenate([ops.not_equal(keys[1:], keys[:-1]), ops.ones((1,), "bool")])
        # Which run of equal keys each place is in, counted from 0.
        self.run = ops.cumsum(ops.cast(is_last, "int32")) - ops.cast(is_last, "int32")
        # Where run k ends stands at k + 1, and -1 at 0; what is no end goes beyond all runs.
        ends = placed(
            ops.arange(n, dtype="int32"),
            ops.where(is_last, self.run + 1, n + 1),
            ops.full((n + 2,), -1, "int32"),
        )
        self.before, self.last = ops.take(ends, self.run), ops.take(ends, self.run + 1)

    def sort(self, x):
        """`(N,)` in the order of the places."""
        return ops.take(x, self.order)

    def unsort(self, x):
        """`(N,)` in the order of the batch."""
        return placed(x, self.order)

    def log_sums(self, scores):
        """`log sum_{j in R_i} exp(score_j)`, `(N,)`, for scores of any range.

        Each sum has the greatest of its own terms taken out, and none is the difference of two:
        nothing vanishes beside a far greater term that it does not hold.
        """
        scores = self.sort(scores)
        n = ops.shape(scores)[0]
        rest = -n % WIDTH**2
        scores = ops.concatenate([scores, ops.full((rest,), LOWEST, dtype=scores.dtype)])
        top = _running_max(ops.stop_gradient(scores))
        log_sums = ops.log(_running_sums(ops.exp(scores - top), top)) + top
        return self.unsort(ops.take(log_sums, self.last))

    def run_sums(self, x):
        """For each place, the sum over the places of equal key."""
        return ops.take(added(x, self.run, ops.zeros_like(x)), self.run)

    def count_runs(self, mask):
        """For each place, how many of its run are in the mask, and how many of these before it."""
        counts = ops.cumsum(ops.cast(mask, "int32"))
        padded = ops.concatenate([ops.zeros((1,), "int32"), counts])
        start = ops.take(padded, self.before + 1)
        return ops.take(counts, self.last) - start, padded[:-1] - start


def _falling(keys):
    """Integers that rise as floats fall, the same for both zeros: far quicker to sort on torch."""
    size = 64 if keras.backend.standardize_dtype(keys.dtype) == "float64" else 32
    # As a column, since Keras asks for the last axis, which TensorFlow need not know.
    bits = ops.view(keys[:, None], f"int{size}")[:, 0]
    return ops.where(bits < 0, bits & (2 ** (size - 1) - 1), -bits)


def _running_max(x, levels=2):
    """`max_{j <= i} x_j`, `(M,)`."""
    if levels == 0 or _is_short(x):
        return ops.amax(ops.where(_up_to(x), x[None, :], LOWEST), axis=1)
    x = ops.reshape(x, (-1, WIDTH))
    for d in _steps():
        x = ops.concatenate([x[:, :d], ops.maximum(x[:, d:], x[:, :-d])], axis=1)
    ends = _running_max(x[:, -1], levels - 1)
    before = ops.concatenate([x[:1, 0], ends[:-1]])
    return ops.reshape(ops.maximum(x, before[:, None]), (-1,))


def _running_sums(x, level, levels=2):
    """`sum_{j <= i} x_j exp(level_j - level_i)`, `(M,)`, for a `level` that never falls."""
    if levels == 0 or _is_short(x):
        factors = ops.exp(ops.minimum(level[None, :] - level[:, None], 0.0))
        return ops.sum(ops.where(_up_to(x), factors, 0.0) * x[None, :], axis=1)
    x, level = ops.reshape(x, (-1, WIDTH)), ops.reshape(level, (-1, WIDTH))
    for d in _steps():
        come = x[:, :-d] * ops.exp(level[:, :-d] - level[:, d:])
        x = ops.concatenate([x[:, :d], x[:, d:] + come], axis=1)
    ends = _running_sums(x[:, -1], level[:, -1], levels - 1)
    before = ops.concatenate([ops.zeros((1,), dtype=x.dtype), ends[:-1]])
    # Nothing comes before the first row.
    at = ops.concatenate([level[:1, 0], level[:-1, -1]])
    return ops.reshape(x + before[:, None] * ops.exp(at[:, None] - level), (-1,))


def _steps():
    """1, 2, 4 .. WIDTH / 2: after them each place has met all before it."""
    return [2**k for k in range(WIDTH.bit_length() - 1)]


def _is_short(x):
    """Whether a square of it is quicker than steps."""
    return x.shape[0] is not None and x.shape[0] <= WIDTH


def _up_to(x):
    """Bool `(M, M)`: column no later than row."""
    places = ops.arange(ops.shape(x)[0])
    return places[None, :] <= places[:, None]
