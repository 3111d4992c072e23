"""Margin loss of class scores between 0 and 1 (Sabour et al., 2017)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_not_negative, check_number, is_vector, sizes_agree
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._classes import class_ids
from keras_zoo.ops._precision import full_precision


@component(paper="weighted-capsnet")
class MarginLoss(ZooLoss):
    """Wants a long capsule for the classes that are there, and short ones for all others.

    With `p_k` the length of class `k`'s capsule and `y_k` 1 for the true class, else 0:

        loss = cost sum_k [ y_k max(0, m_plus - p_k)^2
                            + down_weight (1 - y_k) max(0, p_k - m_minus)^2 ]
        cost = sum_k y_k class_costs_k, or 1

    Args:
        m_plus: float, the length that is enough.
        m_minus: float below `m_plus`, the length that is not yet too much.
        down_weight: float >= 0. How much the classes count that are not there.
        class_costs: list of a number >= 0 for each class, or None. `N / (K n_k)` for `n_k` of `N`
            examples in class `k` of `K` makes classes count alike.
        reduction: as in `keras.losses.Loss`.
        name: name of the loss.
        dtype: as in `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` class ids `(N,)` or `(N, 1)`, or `(N, K)` with `y_k` for each class, of which
    several may be 1; `y_pred` `(N, K)`, `K >= 2`.

    Output before reduction: `(N,)`. What is no class id gives NaN.

    Raises:
        ValueError: an argument is out of its range; the inputs do not fit each other, or
            `class_costs`.

    Example:
    >>> loss = keras_zoo.losses.MarginLoss()
    >>> round(float(loss(np.array([1]), np.array([[0.3, 0.8]]))), 4)  # 0.1^2 + 0.5 0.2^2
    0.03

    Reference: arXiv:1710.09829, eq. 4, and arXiv:2306.17068, whose costs have no formula in what
    could be read: these are ours. Differs from the authors' code: without its factor of 0.5.
    """

    def __init__(
        self,
        m_plus=0.9,
        m_minus=0.1,
        down_weight=0.5,
        class_costs=None,
        reduction="sum_over_batch_size",
        name="margin_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if check_number("m_minus", m_minus) >= check_number("m_plus", m_plus):
            raise ValueError(
                f"`m_minus` must be below `m_plus`. Received: m_minus={m_minus}, m_plus={m_plus}"
            )
        self.m_plus = m_plus
        self.m_minus = m_minus
        self.down_weight = check_not_negative("down_weight", down_weight)
        self.class_costs = _checked_costs(class_costs)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        p = full_precision(y_pred)
        y = self._classes(ops.convert_to_tensor(y_true), p)
        there = ops.square(ops.maximum(self.m_plus - p, 0.0))
        elsewhere = ops.square(ops.maximum(p - self.m_minus, 0.0))
        losses = ops.sum(y * there + self.down_weight * (1 - y) * elsewhere, axis=-1)
        if self.class_costs is None:
            return losses
        return losses * ops.sum(y * ops.cast(self.class_costs, p.dtype), axis=-1)

    def _classes(self, y_true, p):
        """`y` of the class docstring, `(N, K)`."""
        given, scores = tuple(y_true.shape), tuple(p.shape)
        costs = self.class_costs
        fits = len(scores) == 2 and (scores[1] or 0) >= 2 and sizes_agree(given, scores[:1])
        each = len(given) == 2 and sizes_agree(given, scores)
        if not fits or not (is_vector(given) or each):
            raise ValueError(
                "`y_pred` must be `(N, K)`, K at least 2, and `y_true` class ids `(N,)` or "
                f"`(N, 1)`, or `(N, K)`. Received: y_true of shape {given}, y_pred of shape "
                f"{scores}"
            )
        if costs is not None and len(costs) != scores[1]:
            raise ValueError(
                f"`class_costs` must be one number for each of {scores[1]} classes. "
                f"Received: class_costs={costs}"
            )
        if each and given[1] == scores[1]:
            return ops.cast(y_true, p.dtype)
        labels, known = class_ids(y_true, scores[1])
        y = ops.one_hot(labels, scores[1], dtype=p.dtype)
        return ops.where(known[:, None], y, float("nan"))

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "m_plus": self.m_plus,
            "m_minus": self.m_minus,
            "down_weight": self.down_weight,
            "class_costs": self.class_costs,
        }
        return {**super().get_config(), **own}


def _checked_costs(costs):
    if costs is None:
        return None
    values = costs.tolist() if hasattr(costs, "tolist") else costs
    if not isinstance(values, (list, tuple)) or len(values) < 2:
        raise ValueError(
            f"`class_costs` must be a list of numbers, or None. Received: class_costs={costs!r}"
        )
    return [float(check_not_negative("class_costs", value)) for value in values]
