"""What the metrics of multi-label predictions share."""

import keras
from keras import ops

from keras_zoo._checks import check_count, check_flag, check_share, sizes_agree


class MultiLabelMetric(keras.metrics.Mean):
    """The mean over examples of what `score` makes of two sets of labels."""

    def __init__(self, num_labels=None, threshold=0.5, from_logits=True, name=None, dtype=None):
        if num_labels is not None:
            num_labels = check_count("num_labels", num_labels)
        check_share("threshold", threshold)
        check_flag("from_logits", from_logits)
        super().__init__(name=name, dtype=dtype)
        self.num_labels = num_labels
        self.threshold = threshold
        self.from_logits = from_logits

    def score(self, truth, found):
        """One number for each example, of bool `(N, C)` twice."""
        raise TypeError(f"{type(self).__name__} must define `score`.")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the examples of one batch."""
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        shapes = f"y_true of shape {tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
        if self.num_labels is not None and len(y_pred.shape) == 2:
            y_pred = y_pred[:, : self.num_labels]
        labels, scores = tuple(y_true.shape), tuple(y_pred.shape)
        wanted = (None, self.num_labels)
        if not len(labels) == len(scores) == 2 or not all(
            sizes_agree(*pair) for pair in ((labels, scores), (labels, wanted), (scores, wanted))
        ):
            count = "C" if self.num_labels is None else self.num_labels
            raise ValueError(
                f"`y_true` must be `(N, {count})` of 0 and 1, and `y_pred` must have a score for "
                f"each. Received: {shapes}"
            )
        if 0 in labels:
            return
        scores = ops.sigmoid(y_pred) if self.from_logits else y_pred
        values = ops.cast(self.score(y_true > 0.5, scores > self.threshold), "float32")
        # Comparisons would swallow it.
        unknown = ops.any(ops.isnan(y_true + y_pred), axis=-1)
        values = ops.where(unknown, float("nan"), values)
        if sample_weight is not None:
            sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
        super().update_state(values, sample_weight=sample_weight)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "num_labels": self.num_labels,
            "threshold": self.threshold,
            "from_logits": self.from_logits,
        }
        return {**super().get_config(), **own}
