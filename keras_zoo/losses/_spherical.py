"""What the losses of the spherical family share."""

from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo._checks import check_count
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._classes import check_logits, class_ids
from keras_zoo.ops._precision import full_precision

# Up to here a dtype tells whole numbers apart, so class ids too.
WHOLE_NUMBERS = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24}
STATISTICS = ("selected", "squared_sum", "total")


class SphericalLoss(ZooLoss):
    """Base of losses that see the logits `o` `(D,)` of an example through three numbers alone.

        A = o_c,    q = sum_k o_k^2,    s = sum_k o_k

    A subclass has `_value(A, q, s, D)`, and `_slopes(A, q, s, D)`, its derivatives with respect to
    the three in closed form. The gradient for the logits is then `dA e_c + 2 dq o + ds 1`.
    """

    shift_invariant = False

    def __call__(self, y_true, y_pred, sample_weight=None):
        """As `keras.losses.Loss`, which casts class ids to the dtype of the loss."""
        shape = tuple(ops.convert_to_tensor(y_pred).shape)
        limit = WHOLE_NUMBERS.get(self.dtype)
        if limit and shape and shape[-1] is not None and shape[-1] > limit:
            raise ValueError(
                f"`dtype` must tell all class ids apart, and {self.dtype} does so for {limit:,} "
                f"classes. Received: y_pred of shape {shape}, dtype={self.dtype!r}"
            )
        return super().__call__(y_true, y_pred, sample_weight=sample_weight)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        y_true, logits = check_logits(y_true, y_pred)
        classes = logits.shape[1]
        own, known = class_ids(y_true, classes)
        entries = ops.stack([ops.arange(ops.shape(own)[0], dtype="int32"), own], axis=1)

        @custom_gradient
        def losses_of(logits):
            if self.shift_invariant:
                # Then the gradient has no part along 1, nor has the mean one of its own.
                logits = logits - ops.mean(logits, axis=-1, keepdims=True)
            selected = ops.take_along_axis(logits, own[:, None], axis=1)[:, 0]
            squared_sum = ops.sum(ops.square(logits), axis=-1)
            centred = self.shift_invariant
            total = ops.zeros_like(selected) if centred else ops.sum(logits, axis=-1)
            statistics = (selected, squared_sum, total, classes)

            def grad(upstream):
                to_selected, to_squares, to_total = (
                    upstream * slope for slope in self._slopes(*statistics)
                )
                to_all = logits * (2 * to_squares)[:, None] + to_total[:, None]
                to_own = to_selected + 2 * to_squares * selected + to_total
                return ops.scatter_update(to_all, entries, to_own)

            return self._value(*statistics), grad

        losses = losses_of(logits)
        return ops.where(known, losses, ops.full_like(losses, float("nan")))

    def from_statistics(self, selected, squared_sum, total, num_classes):
        """Loss of each example, from what it sees of the logits.

        Args:
            selected: `(N,)`, the logit of the true class.
            squared_sum: `(N,)`, the sum of the squared logits.
            total: `(N,)`, the sum of the logits.
            num_classes: int `D`.

        Returns:
            `(N,)`.
        """
        return self._value(*_checked(selected, squared_sum, total, num_classes))

    def statistics_gradient(self, selected, squared_sum, total, num_classes):
        """Derivatives of each example's loss with respect to the three, `(N,)` each.

        Args:
            selected: as in `from_statistics`.
            squared_sum: likewise.
            total: likewise.
            num_classes: likewise.

        Returns:
            `(d_selected, d_squared_sum, d_total)`.
        """
        return self._slopes(*_checked(selected, squared_sum, total, num_classes))


def _checked(selected, squared_sum, total, num_classes):
    """The statistics in full precision, and the number of classes."""
    tensors = [full_precision(x) for x in (selected, squared_sum, total)]
    shapes = [tuple(x.shape) for x in tensors]
    if any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
        raise ValueError(
            "`selected`, `squared_sum` and `total` must be `(N,)`. Received: shapes "
            + ", ".join(f"{name} {shape}" for name, shape in zip(STATISTICS, shapes, strict=True))
        )
    return *tensors, check_count("num_classes", num_classes)
