"""A weighted sum of losses."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses._base import ZooLoss

# Those that leave a loss per example to be had; the rest would be overruled.
REDUCTIONS = ("sum_over_batch_size", "mean", "none", None)


@component(paper="susana-distancia")
class CombinedLoss(ZooLoss):
    """Adds up losses that share labels and predictions, example by example.

        l_i = sum_k weights_k l_ki                                   (N,)

    with `l_ki` what loss `k` gives for example `i` before it is reduced. The sum is reduced, and
    weighed by sample weights, once, by this loss.

    Labels and predictions are cast to the `dtype` of this loss, then to that of each part; what the
    parts give is added in the `dtype` of this one. So take the widest one here.

    Args:
        losses: list of `keras.losses.Loss`, Keras's own, those of the zoo, or yours, each with one
            number per example. Their own `reduction` has nothing to do, and one that would mean
            something else is refused: give `"sum"` or `"mean_with_sample_weight"` to this loss.
        weights: list of numbers, one for each loss. None for `1 / len(losses)`, the average.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`.

    Inputs: `y_true` and `y_pred` as all the losses take them.

    Output before reduction: `(N,)`, or what shape the losses give. NaN in one gives NaN, whatever
    its weight.

    In files the parts are stored with their configs. Keras's own losses leave their dtype out of
    theirs, so that it is float32 after loading.

    Raises:
        ValueError: `losses` is empty or holds something else, `weights` do not fit, a loss has
            another reduction, or gives another shape than the first, or one number for all.

    Example:
    >>> loss = keras_zoo.losses.CombinedLoss([
    ...     keras_zoo.losses.PrototypicalLoss(shots=5),
    ...     keras_zoo.losses.ProtoTripletLoss(shots=5),
    ...     keras_zoo.losses.ICNNLoss(num_neighbors=15),
    ... ])
    >>> model.compile("adam", loss=loss)

    Reference: arXiv:2305.09062, section 4, where the average is taken.
    """

    def __init__(self, losses, weights=None, name="combined_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        is_list = isinstance(losses, (list, tuple))
        if not (is_list and losses and all(isinstance(x, keras.losses.Loss) for x in losses)):
            raise ValueError(
                f"`losses` must be a list of keras.losses.Loss objects. Received: losses={losses!r}"
            )
        for loss in losses:
            if loss.reduction not in REDUCTIONS:
                raise ValueError(
                    "`losses` are added up before they are reduced: give their `reduction` to the "
                    f"combination. Received: {loss.name} with reduction={loss.reduction!r}"
                )
        if weights is not None and not (
            isinstance(weights, (list, tuple)) and len(weights) == len(losses)
        ):
            raise ValueError(
                f"`weights` must be a list of {len(losses)} numbers, one for each loss, or None. "
                f"Received: weights={weights!r}"
            )
        self.losses = list(losses)
        self.weights = weights and [check_number("weights", weight) for weight in weights]

    def call(self, y_true, y_pred):
        """Sum of the weighted losses of each example."""
        weights = self.weights or [1.0 / len(self.losses)] * len(self.losses)
        parts = [self._part(loss, y_true, y_pred) for loss in self.losses]
        for loss, part in zip(self.losses, parts, strict=True):
            if not part.shape or part.shape != parts[0].shape:
                raise ValueError(
                    "`losses` must each give one number per example. Received: "
                    f"{loss.name} with shape {tuple(part.shape)}, "
                    f"{self.losses[0].name} with shape {tuple(parts[0].shape)}"
                )
        return sum(weight * part for weight, part in zip(weights, parts, strict=True))

    def _part(self, loss, y_true, y_pred):
        """What one loss gives, computed in its own dtype."""

        def own(x):
            return ops.convert_to_tensor(x, dtype=loss.dtype)

        losses = loss.call(*(keras.tree.map_structure(own, x) for x in (y_true, y_pred)))
        return ops.cast(losses, self.dtype)

    def get_config(self):
        """The constructor's arguments, the losses as configs."""
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config):
        """Makes the loss, and its parts, from `get_config`."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})
