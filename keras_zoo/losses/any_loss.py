"""Metrics of the confusion matrix as losses (Han et al., 2024)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag, check_not_negative, check_number, check_share
from keras_zoo.losses._base import Reduction, ZooLoss
from keras_zoo.ops._precision import full_precision


@component(paper="anyloss")
class AnyLoss(ZooLoss):
    """One less a metric of the confusion matrix, of smoothly rounded probabilities.

    With probabilities `p` `(N,)`, labels `y` `(N,)` in [0, 1], weights `w` `(N,)`:

        a_i  = sigmoid(amplification * (p_i - threshold))       near 0 or 1, with a slope
        TP   = sum_i w_i y_i a_i            FP = sum_i w_i (1 - y_i) a_i
        FN   = sum_i w_i y_i (1 - a_i)      TN = sum_i w_i (1 - y_i) (1 - a_i)
        loss = 1 - metric(TP, FP, FN, TN)

    with TPR = TP / (TP + FN), TNR = TN / (TN + FP), b = beta, and as metric

        "accuracy"           (TP + TN) / (TP + FP + FN + TN)
        "f1", "f_beta"       (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP), b = 1 for "f1"
        "geometric_mean"     sqrt(TPR TNR)
        "balanced_accuracy"  (TPR + TNR) / 2
        "precision"          TP / (TP + FP)
        "recall"             TPR
        "specificity"        TNR
        "jaccard"            TP / (TP + FP + FN)
        "matthews"           (TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN))

    Several labels of one example, `(N, L)`, are taken one against the rest each: a matrix for each
    label, and the mean of their losses.

    Args:
        metric: one of the names above, or a function of `(tp, fp, fn, tn)` written in `keras.ops`:
            of four scalars to a scalar, and for several labels of four `(L,)` to `(L,)`. Larger is
            better. To be saved in files it must be registered with Keras.
        beta: float >= 0. For "f_beta" alone: above 1 it favours recall, below it precision.
        amplification: float > 0. 73 is the paper's: larger ones round harder.
        threshold: float in [0, 1], the least probability of what counts as positive.
        from_logits: bool. Whether `y_pred` is to go through a sigmoid first.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. It computes in float32 at least, from
            predictions as they come, whatever the dtype.

    Inputs: `y_true` `(N,)` or `(N, 1)`, bool, integers or floats, soft labels included; `y_pred`
    likewise, either with either; or both `(N, L)`. A `sample_weight` `(N,)`, `(N, 1)` or `(N, L)`
    weighs what is counted: a weight of 2 is the example twice.

    Output before reduction: `(N,)`, the loss of the batch in each place, since examples have none
    of their own. So the mean is the loss of the batch, and the sum `N` times that, whatever the
    weights.

    What is 0 / 0 counts as 0 with a gradient of 0: a batch without positives has recall 0, and
    without any weight each metric is 0, the loss 1. NaN in a label, prediction or weight gives NaN
    for all, or for several labels that of their mean.

    The gradient `amplification * a (1 - a)` fades at some 0.2 from the threshold: begin near it
    (small weights, no strong bias), with a moderate learning rate, and take batches that hold
    several positives.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; the inputs do not fit together; the function
            gives another shape.

    Example:
    >>> loss = keras_zoo.losses.AnyLoss("f1")
    >>> round(float(loss([1, 1, 0, 0], [0.53, 0.49, 0.47, 0.51])), 4)
    0.3877

    Reference: arXiv:2405.14745, section 3; github.com/doheonhan/anyloss. Differs from the official
    code, which divides by the size of the training set where the batch is summed over, so that two
    metrics are wrong in small batches, and whose hand-written gradient of the geometric mean is 4
    times the true one.
    """

    def __init__(
        self,
        metric="f1",
        beta=1.0,
        amplification=73.0,
        threshold=0.5,
        from_logits=False,
        name="any_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if not callable(metric) and metric not in tuple(METRICS):
            raise ValueError(
                f"`metric` must be one of {tuple(METRICS)}, or a function of (tp, fp, fn, tn). "
                f"Received: metric={metric!r}"
            )
        self.metric = metric
        self.beta = check_not_negative("beta", beta)
        self.amplification = check_number("amplification", amplification, positive=True)
        self.threshold = check_share("threshold", threshold)
        self.from_logits = check_flag("from_logits", from_logits)
        self._reduce = Reduction(name, self.reduction, dtype=self._dtype_policy)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The reduced loss, with the weights inside; what a Keras mask leaves out weighs 0."""
        mask = getattr(y_pred, "_keras_mask", None)
        if mask is not None:
            mask = _as_columns(ops.cast(mask, "float32"))
            weights = 1.0 if sample_weight is None else ops.cast(sample_weight, "float32")
            sample_weight = mask * _as_columns(weights)
        losses = self.call(y_true, y_pred, sample_weight)
        return self._reduce(losses, losses)

    def call(self, y_true, y_pred, sample_weight=None):
        """The loss of the batch, `(N,)` times."""
        labels, predictions, weights = self._prepare(y_true, y_pred, sample_weight)
        if self.from_logits:
            predictions = ops.sigmoid(predictions)
        steps = self.amplification * (predictions - self.threshold)
        # Not 1 - sigmoid(steps), which loses its digits.
        above, below = ops.sigmoid(steps), ops.sigmoid(-steps)
        axis = None if predictions.shape[1] == 1 else 0
        positive, negative = weights * labels, weights * (1 - labels)
        tp, fp = ops.sum(positive * above, axis=axis), ops.sum(negative * above, axis=axis)
        fn, tn = ops.sum(positive * below, axis=axis), ops.sum(negative * below, axis=axis)
        return ops.ones_like(predictions[:, 0]) * (1 - ops.mean(self._score(tp, fp, fn, tn)))

    def get_config(self):
        """The constructor's arguments, a function by its registered name."""
        metric = self.metric
        own = {
            "metric": keras.saving.serialize_keras_object(metric) if callable(metric) else metric,
            "beta": self.beta,
            "amplification": self.amplification,
            "threshold": self.threshold,
            "from_logits": self.from_logits,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """Makes the loss, and a metric of the user's, from `get_config`."""
        metric = config["metric"]
        if isinstance(metric, dict):
            metric = keras.saving.deserialize_keras_object(metric)
        return cls(**{**config, "metric": metric})

    def _score(self, tp, fp, fn, tn):
        """The metric, of the shape of its arguments."""
        if not callable(self.metric):
            return METRICS[self.metric](tp, fp, fn, tn, self.beta)
        score = ops.convert_to_tensor(self.metric(tp, fp, fn, tn))
        if tuple(score.shape) != tuple(tp.shape):
            raise ValueError(
                "`metric` must give a result of the shape of its arguments. "
                f"Received: shape {tuple(score.shape)} for arguments of {tuple(tp.shape)}"
            )
        return score

    def _prepare(self, y_true, y_pred, sample_weight):
        """Labels and predictions `(N, L)`, and weights that go with them, in full precision."""
        y_true, y_pred = ops.convert_to_tensor(y_true), full_precision(y_pred)
        sample_weight = ops.convert_to_tensor(1.0 if sample_weight is None else sample_weight)
        predictions = _as_columns(y_pred)
        labels, weights = (_as_columns(ops.cast(x, y_pred.dtype)) for x in (y_true, sample_weight))
        if len(predictions.shape) != 2 or not _fits(labels.shape, predictions.shape):
            raise ValueError(
                "`y_pred` must be `(N,)`, `(N, 1)` or `(N, L)`, and `y_true` as many labels. "
                f"Received: y_true of shape {tuple(y_true.shape)}, "
                f"y_pred of shape {tuple(y_pred.shape)}"
            )
        if not _fits(weights.shape, predictions.shape, spread=True):
            raise ValueError(
                "`sample_weight` must be `(N,)`, `(N, 1)`, or of the shape of `y_pred`. Received: "
                f"sample_weight of shape {tuple(sample_weight.shape)}, "
                f"y_pred of shape {tuple(y_pred.shape)}"
            )
        return labels, predictions, weights


def _as_columns(x):
    """`(N,)` as `(N, 1)`, and a number as `(1, 1)`."""
    x = ops.convert_to_tensor(x)
    return ops.reshape(x, (-1, 1)) if len(x.shape) < 2 else x


def _fits(shape, wanted, spread=False):
    """Whether one shape is the other, where both are known, or is spread to it from 1."""
    return len(shape) == len(wanted) and all(
        None in (a, b) or a == b or (spread and a == 1) for a, b in zip(shape, wanted, strict=True)
    )


def _root(x):
    """The square root, with a gradient of 0 at 0."""
    nothing = x <= 0
    return ops.where(nothing, 0.0, ops.sqrt(ops.where(nothing, 1.0, x)))


def _accuracy(tp, fp, fn, tn, beta):
    return ops.divide_no_nan(tp + tn, tp + fp + fn + tn)


def _f_beta(tp, fp, fn, tn, beta):
    hits = (1 + beta**2) * tp
    return ops.divide_no_nan(hits, hits + beta**2 * fn + fp)


def _f1(tp, fp, fn, tn, beta):
    return _f_beta(tp, fp, fn, tn, 1.0)


def _precision(tp, fp, fn, tn, beta):
    return ops.divide_no_nan(tp, tp + fp)


def _recall(tp, fp, fn, tn, beta):
    return ops.divide_no_nan(tp, tp + fn)


def _specificity(tp, fp, fn, tn, beta):
    return ops.divide_no_nan(tn, tn + fp)


def _geometric_mean(*matrix):
    return _root(_recall(*matrix)) * _root(_specificity(*matrix))


def _balanced_accuracy(*matrix):
    return (_recall(*matrix) + _specificity(*matrix)) / 2


def _jaccard(tp, fp, fn, tn, beta):
    return ops.divide_no_nan(tp, tp + fp + fn)


def _matthews(tp, fp, fn, tn, beta):
    # Of four roots, since the product of four sums leaves the range of float32.
    norm = _root(tp + fp) * _root(tp + fn) * _root(tn + fp) * _root(tn + fn)
    return ops.divide_no_nan(tp * tn - fp * fn, norm)


# Functions of (tp, fp, fn, tn, beta).
METRICS = {
    "accuracy": _accuracy,
    "f1": _f1,
    "f_beta": _f_beta,
    "geometric_mean": _geometric_mean,
    "balanced_accuracy": _balanced_accuracy,
    "precision": _precision,
    "recall": _recall,
    "specificity": _specificity,
    "jaccard": _jaccard,
    "matthews": _matthews,
}
