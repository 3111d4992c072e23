"""Dice and focal loss of a segmentation together (Zheng et al., 2025)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag, check_not_negative, sizes_agree
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops._precision import full_precision

SMALLEST_SUM = 1e-7
SMALLEST_PROBABILITY = 1e-7


@component(paper="dwff-net")
class DiceFocalLoss(ZooLoss):
    """Overlap of whole classes, and cross-entropy of the pixels that are still wrong.

    With logits `z` `(N, H, W, K)`, one-hot truth `T` of the same shape:

        P      = softmax(z)
        D_k    = 2 sum(P_k T_k) / max(sum P_k + sum T_k, 1e-7)      over the whole batch
        dice   = 1/K sum_k (1 - D_k if class k occurs in the batch, else 0)
        b      = max(z, 0) - z T + log(1 + exp(-|z|))               each class against the rest
        focal  = mean over the pixels and classes of an image of (1 - exp(-b))^gamma b       (N,)
        l      = dice_weight dice + focal_weight focal                                       (N,)

    Args:
        dice_weight: float >= 0.
        focal_weight: float >= 0.
        gamma: float >= 0. How much less a pixel that is nearly right counts.
        from_logits: bool. False for probabilities `p`: dice takes them as they are, focal takes
            the binary cross-entropy of `p` kept within [1e-7, 1 - 1e-7].
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N, H, W)` or `(N, H, W, 1)`, class ids in `[0, K)`, none of them ignored;
    `y_pred` `(N, H, W, K)`.

    Output before reduction: `(N,)`. The dice term is that of the whole batch in each place, so the
    mean is the paper's loss, and the images of a batch depend on one another. Classes that do not
    occur in it count as 0 in the mean over classes. A pixel of a class that there is not gives NaN
    for its image, NaN in `y_pred` for all.

    Under `keras.distribution` on JAX the batch is the whole one; the replicas of `tf.distribute`
    and of torch's process groups take the dice of their own part.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together.

    Example:
    >>> masks, logits = np.zeros((2, 8, 8), "int32"), np.zeros((2, 8, 8, 3), "float32")
    >>> round(float(keras_zoo.losses.DiceFocalLoss()(masks, logits)), 4)
    0.17

    Reference: arXiv:2511.11659; github.com/sysau/DWFF-Net, whose two losses are those of
    segmentation_models_pytorch 0.6.0. Differs from the official code: none.
    """

    def __init__(
        self,
        dice_weight=0.5,
        focal_weight=0.5,
        gamma=2.0,
        from_logits=True,
        name="dice_focal_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.dice_weight = check_not_negative("dice_weight", dice_weight)
        self.focal_weight = check_not_negative("focal_weight", focal_weight)
        self.gamma = check_not_negative("gamma", gamma)
        self.from_logits = check_flag("from_logits", from_logits)

    def call(self, y_true, y_pred):
        """Loss of each image, `(N,)`."""
        y_true, y_pred = self._prepare(y_true, y_pred)
        classes = ops.arange(y_pred.shape[-1], dtype=y_true.dtype)
        truth = ops.equal(y_true[..., None], classes)
        known = ops.all(ops.any(truth, axis=-1), axis=(1, 2))
        truth = ops.cast(truth, y_pred.dtype)
        focal = ops.mean(self._focal(truth, y_pred), axis=(1, 2, 3))
        losses = self.dice_weight * self._dice(truth, y_pred) + self.focal_weight * focal
        return ops.where(known, losses, float("nan"))

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "dice_weight": self.dice_weight,
            "focal_weight": self.focal_weight,
            "gamma": self.gamma,
            "from_logits": self.from_logits,
        }
        return {**super().get_config(), **own}

    def _dice(self, truth, y_pred):
        """`dice` of the class docstring, a scalar."""
        p = ops.softmax(y_pred, axis=-1) if self.from_logits else y_pred
        occurring = ops.sum(truth, axis=(0, 1, 2))
        overlap = ops.sum(p * truth, axis=(0, 1, 2))
        total = ops.maximum(ops.sum(p, axis=(0, 1, 2)) + occurring, SMALLEST_SUM)
        return ops.mean(ops.where(occurring > 0, 1 - 2 * overlap / total, 0 * overlap))

    def _focal(self, truth, y_pred):
        """The focal loss of each pixel and class, `(N, H, W, K)`."""
        if self.from_logits:
            entropy = ops.relu(y_pred) - y_pred * truth + ops.log1p(ops.exp(-ops.abs(y_pred)))
        else:
            p = ops.clip(y_pred, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
            entropy = -ops.log(ops.where(truth > 0, p, 1 - p))
        # Above 0, for the sake of the gradient of powers below 1.
        wrong = ops.maximum(-ops.expm1(-entropy), 1e-12)
        return ops.power(wrong, self.gamma) * entropy

    def _prepare(self, y_true, y_pred):
        """Class ids `(N, H, W)` and predictions `(N, H, W, K)`, in full precision."""
        y_true, y_pred = full_precision(y_true), full_precision(y_pred)
        if len(y_true.shape) == 4 and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        masks, scores = tuple(y_true.shape), tuple(y_pred.shape)
        agree = sizes_agree(masks, scores)
        if len(masks) != 3 or len(scores) != 4 or not scores[-1] or not agree:
            raise ValueError(
                "`y_pred` must be `(N, H, W, K)` and `y_true` class ids `(N, H, W)`. "
                f"Received: y_true of shape {masks}, y_pred of shape {scores}"
            )
        return y_true, y_pred
