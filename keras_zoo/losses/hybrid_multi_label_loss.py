"""Hybrid loss for multi-label classification (Aslam et al., 2024)."""

import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import (
    check_choice,
    check_count,
    check_not_negative,
    check_number,
    sizes_agree,
)
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.masked import masked_logsumexp
from keras_zoo.ops.pairs import inner_products


@component(paper="arabic-emotion")
class HybridMultiLabelLoss(ZooLoss):
    """Weighted cross-entropy of labels, their correlation, and contrast between examples.

    With labels `y_i` `(C,)` of 0 and 1, logits `z_i` `(C,)`, `p = sigmoid(z)`, embeddings `e_i`:

        loss_i = bce_weight B_i + correlation_weight R_i + contrastive_weight K_i

        B_i = (1 / C) sum_c omega_c [ pi_c y_ic softplus(-z_ic) + (1 - y_ic) softplus(z_ic) ]

        R_i = sum_{c<k} [ max(r_ck, 0) (p_c - p_k)^2 + max(-r_ck, 0) p_c p_k ] / sum_{c<k} |r_ck|

        u    = e / sqrt(|e|^2 + 1e-12),   s_ij = u_i . u_j / temperature
        J_ij = |y_i and y_j| / |y_i or y_j|
        K_i  = - sum_{j!=i} J_ij ( s_ij - log sum_{k!=i} exp(s_ik) ) / sum_{j!=i} J_ij

    `R_i` draws together the probabilities of labels that go together, and keeps those that exclude
    one another from being high at once. `K_i` draws examples together the more, the more labels
    they share; its gradient goes to all embeddings of the batch.

    Args:
        num_labels: int `C`.
        class_weights: `C` numbers >= 0, `omega`. None for 1 each.
        positive_weights: `C` numbers >= 0, `pi`. None for 1 each. These raise the recall of rare
            labels; `class_weights` do not.
        correlation: `(C, C)`, symmetric, with zeros on its diagonal, `r`. None leaves `R_i` out.
        bce_weight: float >= 0.
        correlation_weight: float >= 0.
        contrastive_weight: float >= 0.
        temperature: float > 0.
        reduction: as in `keras.losses.Loss`.
        name: name of the loss.
        dtype: as in `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N, C)`; `y_pred` `(N, C + D)`, the logits, then the embedding. Without one
    (`D = 0`) the logits stand for it. Labels between 0 and 1 enter with their products.

    Output before reduction: `(N,)`. `K_i` is 0 where no other example shares a label, so in a batch
    of one; `R_i` is 0 where all of `correlation` is. Keras's `sample_weight` multiplies `loss_i`
    alone. Examples of a batch meet in `K_i`, so a batch should have several that share labels;
    memory grows with `N^2`. NaN in a row gives NaN for it at least.

    Attributes `class_weights`, `positive_weights` and `correlation` are lists, or None.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit.

    Example:
    >>> loss = keras_zoo.losses.HybridMultiLabelLoss.from_labels([[1, 0], [1, 0], [1, 1], [0, 1]])
    >>> [round(w, 3) for w in loss.positive_weights]
    [1.0, 1.0]
    >>> round(float(loss([[1, 0], [1, 1]], [[2.0, -1.0], [1.0, 0.5]])), 4)
    0.3415

    Reference: arXiv:2410.03979. Differs from the official code: none is public. The paper names the
    three terms; the formulas of `R_i` and `K_i`, and all weights, are ours.
    """

    def __init__(
        self,
        num_labels,
        class_weights=None,
        positive_weights=None,
        correlation=None,
        bce_weight=1.0,
        correlation_weight=0.1,
        contrastive_weight=0.1,
        temperature=0.1,
        reduction="sum_over_batch_size",
        name="hybrid_multi_label_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.num_labels = check_count("num_labels", num_labels)
        self.class_weights = _checked_weights("class_weights", class_weights, num_labels)
        self.positive_weights = _checked_weights("positive_weights", positive_weights, num_labels)
        self.correlation = _checked_correlation(correlation, num_labels)
        self.bce_weight = check_not_negative("bce_weight", bce_weight)
        self.correlation_weight = check_not_negative("correlation_weight", correlation_weight)
        self.contrastive_weight = check_not_negative("contrastive_weight", contrastive_weight)
        self.temperature = check_number("temperature", temperature, positive=True)
        self._form = _quadratic_form(self.correlation)

    @classmethod
    def from_labels(cls, labels, weighting="positive", max_weight=10.0, **kwargs):
        """The loss with weights and correlations of training labels.

        Of `N` rows, `n_c` have label `c`. Correlations are Pearson's, 0 for a label that all rows
        or none have.

        Args:
            labels: `(N, C)` of 0 and 1.
            weighting: "positive" for `pi_c = clip((N - n_c) / max(n_c, 1), 1, max_weight)`, "class"
                for `omega_c = N / max(n_c, 1)` over its mean, or None for neither.
            max_weight: float >= 1, for "positive".
            **kwargs: other arguments of the constructor; they go before what the labels give.

        Raises:
            ValueError: an argument is out of its range.
        """
        labels = _checked_labels(labels)
        if weighting is not None:
            check_choice("weighting", weighting, ("positive", "class"))
        if check_number("max_weight", max_weight) < 1:
            raise ValueError(f"`max_weight` must be at least 1. Received: {max_weight=}")
        rows, count = len(labels), labels.sum(axis=0)
        made = {"num_labels": labels.shape[1], "correlation": _pearson(labels).tolist()}
        if weighting == "positive":
            weights = np.clip((rows - count) / np.maximum(count, 1), 1, max_weight)
            made["positive_weights"] = weights.tolist()
        elif weighting == "class":
            weights = rows / np.maximum(count, 1)
            made["class_weights"] = (weights / weights.mean()).tolist()
        return cls(**{**made, **kwargs})

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        y_pred = full_precision(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        _check(tuple(y_true.shape), tuple(y_pred.shape), self.num_labels)
        if 0 in y_pred.shape:
            return ops.sum(y_pred, axis=-1)
        logits, embeddings = y_pred[:, : self.num_labels], y_pred[:, self.num_labels :]
        losses = self.bce_weight * self._cross_entropy(y_true, logits)
        if self._form is not None and self.correlation_weight:
            losses = losses + self.correlation_weight * self._disagreement(logits)
        if self.contrastive_weight:
            if embeddings.shape[1] == 0:
                embeddings = logits
            losses = losses + self.contrastive_weight * self._contrast(y_true, embeddings)
        return losses

    def _cross_entropy(self, y_true, logits):
        """`B_i`."""
        positive = y_true * ops.softplus(-logits)
        if self.positive_weights is not None:
            positive = positive * ops.convert_to_tensor(self.positive_weights, logits.dtype)
        terms = positive + (1 - y_true) * ops.softplus(logits)
        if self.class_weights is not None:
            terms = terms * ops.convert_to_tensor(self.class_weights, logits.dtype)
        return ops.mean(terms, axis=-1)

    def _disagreement(self, logits):
        """`R_i`."""
        p = ops.sigmoid(logits)
        form = ops.convert_to_tensor(self._form, logits.dtype)
        return ops.sum(ops.matmul(p, form) * p, axis=-1)

    def _contrast(self, y_true, embeddings):
        """`K_i`."""
        units = _unit_length(embeddings)
        similarities = inner_products(units) / self.temperature
        rows = ops.arange(ops.shape(units)[0])
        others = ops.not_equal(rows[:, None], rows[None, :])
        log_sums = masked_logsumexp(similarities, others)
        # On the diagonal, a batch of one has the logarithm of nothing.
        logs = ops.where(others, similarities - log_sums[:, None], 0.0)
        shares = ops.where(others, _jaccard(y_true), 0.0)
        total = ops.sum(shares, axis=-1)
        return -ops.sum(shares * logs, axis=-1) / ops.where(total > 0, total, 1.0)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "num_labels": self.num_labels,
            "class_weights": self.class_weights,
            "positive_weights": self.positive_weights,
            "correlation": self.correlation,
            "bce_weight": self.bce_weight,
            "correlation_weight": self.correlation_weight,
            "contrastive_weight": self.contrastive_weight,
            "temperature": self.temperature,
        }
        return {**super().get_config(), **own}


def _unit_length(x):
    """`x / sqrt(|x|^2 + 1e-12)` of each row, whose squares may leave the range of float32."""
    scale = ops.stop_gradient(ops.maximum(ops.amax(ops.abs(x), axis=-1, keepdims=True), 1.0))
    x, floor = x / scale, 1e-12 / scale / scale
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + floor)


def _jaccard(labels):
    """`J`, `(N, N)`."""
    common = inner_products(labels)
    counts = ops.sum(labels, axis=-1)
    union = counts[:, None] + counts[None, :] - common
    return ops.where(union > 0, common / ops.where(union > 0, union, 1.0), 0.0)


def _quadratic_form(correlation):
    """The matrix `m` with `R_i = p^T m p`, or None where nothing correlates."""
    matrix = np.array(0.0 if correlation is None else correlation, "float64")
    total = np.abs(matrix).sum() / 2
    if total == 0:
        return None
    together, apart = np.maximum(matrix, 0), np.maximum(-matrix, 0)
    # A list, since arrays cut a graph of torch's compiler.
    return ((np.diag(together.sum(axis=0)) - together + apart / 2) / total).tolist()


def _pearson(labels):
    """Correlations of the columns, 0 on the diagonal and of a constant column."""
    centred = labels - labels.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    scale = np.where(np.ptp(labels, axis=0) > 0, norms, np.inf)
    matrix = centred.T @ centred / scale / scale[:, None]
    np.fill_diagonal(matrix, 0.0)
    return (matrix + matrix.T) / 2


def _numbers(value):
    """A float64 array, or None of what is none."""
    try:
        array = np.array(value, "float64")
    except (TypeError, ValueError):
        return None
    return array if np.isfinite(array).all() else None


def _checked_weights(name, value, count):
    if value is None:
        return None
    weights = _numbers(value)
    if weights is None or weights.shape != (count,) or (weights < 0).any():
        raise ValueError(
            f"`{name}` must be None, or a number of at least 0 for each of {count} labels. "
            f"Received: {name}={value!r}"
        )
    return weights.tolist()


def _checked_correlation(value, count):
    if value is None:
        return None
    matrix = _numbers(value)
    if (
        matrix is None
        or matrix.shape != (count, count)
        or np.diag(matrix).any()
        or not np.allclose(matrix, matrix.T)
    ):
        raise ValueError(
            f"`correlation` must be None, or a symmetric matrix of {count} by {count} with zeros "
            f"on its diagonal. Received: correlation={value!r}"
        )
    return matrix.tolist()


def _checked_labels(labels):
    array = _numbers(labels)
    if array is None or array.ndim != 2 or not array.size or not np.isin(array, (0, 1)).all():
        received = type(labels).__name__ if array is None else f"an array of shape {array.shape}"
        raise ValueError(
            f"`labels` must be `(N, C)` of 0 and 1, with a row at least. Received: {received}"
        )
    return array


def _check(y_true, y_pred, count):
    fits = len(y_true) == len(y_pred) == 2 and sizes_agree(y_true[:1], y_pred)
    if not fits or y_true[1] not in (count, None) or (y_pred[1] or 0) < count:
        raise ValueError(
            f"`y_true` must be `(N, C)` and `y_pred` `(N, C + D)` with C = {count}. "
            f"Received: y_true of shape {y_true}, y_pred of shape {y_pred}"
        )
