"""Training with a temperature for each example (Zhu et al., 2023)."""

import keras
import numpy as np
from keras import ops

from keras_zoo._backend import constant
from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_layer
from keras_zoo.losses import ALDRLoss
from keras_zoo.losses._base import Reduction
from keras_zoo.trainers._base import ZooTrainer


@component(paper="ldr")
class ALDRTrainer(ZooTrainer):
    """Trains a classifier with `ALDRLoss`, and remembers the temperature of each example.

    With `t` `(num_samples,)` the temperatures, at first all `loss.temperature`, a training step on
    scores `F` `(N, K)` of examples with labels `y` `(N,)` and places `i` `(N,)`

        t[i] <- loss.adapt_temperature(F, t[i])
        l     = loss.loss_at(y, F, t[i])        (N,), then reduced as `loss` reduces

    so that each visit moves a temperature by `loss.num_steps` steps, with the scores of that time.
    Evaluation starts from `loss.temperature`, whatever the place, and leaves `t` as it is.

    Args:
        model: layer or model, from inputs to raw scores `(N, K)`.
        num_samples: int > 0. How many examples the training set has.
        loss: `keras_zoo.losses.ALDRLoss` with a reduction. None for `ALDRLoss()`.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Attributes:
        instance_temperature: non-trainable float32 variable `(num_samples,)`, the `t` above. After
            training it tells examples that the model was sure of (low) from the others (high).

    Inputs: `fit(x, y)` with `y` integers `(N, 2)`, `[label, place in the training set]`. Evaluation
    needs both columns and looks at the first. The compiled metrics get the first, `(N,)`.
    `sample_weight` `(N,)` weighs the losses; a weight of 0 does not keep a temperature from moving.

    Output: `(N, K)`, the scores of `model`.

    A place outside of the table gives NaN as the loss; `fit` refuses arrays with such places before
    it trains. Where one place occurs twice in a batch, one of the two temperatures is kept. NaN in
    a row of scores gives NaN, and leaves the temperature of its example in it. Temperatures and
    losses are float32 under every policy. Regularizers and what layers add count.

    Compile it with an optimizer and metrics, without a loss. Saved as `.keras` it holds the
    temperatures, and goes on from there to the bit.

    Raises:
        ValueError: an argument is of another kind; `compile` is given a loss; `y` is not of two
            columns, or holds a place that the table does not have.

    Example:
    >>> network = keras.Sequential([keras.layers.Dense(32, "tanh"), keras.layers.Dense(10)])
    >>> loss = keras_zoo.losses.ALDRLoss(temperature=1.0)
    >>> model = keras_zoo.trainers.ALDRTrainer(network, num_samples=100, loss=loss)
    >>> model.compile("sgd", metrics=["sparse_categorical_accuracy"])
    >>> x, labels = np.random.rand(100, 8), np.random.randint(0, 10, 100)
    >>> y = np.stack([labels, np.arange(100)], axis=1)
    >>> history = model.fit(x, y, verbose=0)

    Reference: arXiv:2112.14869, section 4; github.com/Optimization-AI/ICML2023_LDR. Differs from
    the official code: as `ALDRLoss` does.
    """

    def __init__(self, model, num_samples, loss=None, **kwargs):
        check_layer("model", model)
        num_samples = check_count("num_samples", num_samples)
        loss = ALDRLoss() if loss is None else loss
        if not isinstance(loss, ALDRLoss):
            raise ValueError(
                f"`loss` must be a `keras_zoo.losses.ALDRLoss`, or None. Received: loss={loss!r}"
            )
        if loss.reduction in (None, "none"):
            raise ValueError(
                "`loss` must reduce the losses of a batch to one number. "
                f"Received: loss.reduction={loss.reduction!r}"
            )
        super().__init__(seed=None, **kwargs)
        self.model = model
        self.num_samples = num_samples
        self.loss_fn = loss
        self._reduction = Reduction("aldr", loss.reduction)
        self.instance_temperature = self.add_weight(
            name="instance_temperature",
            shape=(num_samples,),
            initializer=keras.initializers.Constant(loss.temperature),
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def call(self, x, training=None):
        """The scores of the wrapped model, `(N, K)`."""
        return self.model(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss; in training also the next temperatures."""
        labels, places = self._columns(y)
        y_pred = ops.cast(y_pred, "float32")
        if not training:
            return self._total(self.loss_fn(labels, y_pred, sample_weight))
        known = ops.logical_and(places >= 0, places < self.num_samples)
        places = ops.where(known, places, 0)
        table = ops.convert_to_tensor(self.instance_temperature)
        previous = ops.where(known, ops.take(table, places, axis=0), float("nan"))
        temperatures = constant(self.loss_fn.adapt_temperature(y_pred, previous))
        # Where a place is unknown no row of the table may change: its loss is NaN already.
        kept = ops.where(known, temperatures, ops.take(table, places, axis=0))
        self.instance_temperature.assign(ops.scatter_update(table, places[:, None], kept))
        losses = self.loss_fn.loss_at(labels, y_pred, temperatures)
        return self._total(self._reduction(losses, losses, sample_weight))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics, of the labels alone."""
        return super().compute_metrics(x, self._columns(y)[0], y_pred, sample_weight)

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`; an array of places is looked through first."""
        if isinstance(y, np.ndarray):
            _check_columns(y)
            places = y[:, 1]
            if places.size and (
                y.dtype.kind not in "iu" or places.min() < 0 or places.max() >= self.num_samples
            ):
                raise ValueError(
                    "`y` must hold integers `[label, place]`, with places in "
                    f"[0, {self.num_samples}). Received: {y.dtype}, "
                    f"places from {places.min()} to {places.max()}"
                )
        return super().fit(x, y, *args, **kwargs)

    def _columns(self, y):
        """Labels `(N,)` and int32 places `(N,)`."""
        _check_columns(y)
        y = ops.convert_to_tensor(y)
        return y[:, 0], ops.cast(y[:, 1], "int32")

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        del config["seed"]  # Nothing is drawn.
        own = {
            "model": keras.saving.serialize_keras_object(self.model),
            "num_samples": self.num_samples,
            "loss": keras.saving.serialize_keras_object(self.loss_fn),
        }
        return {**config, **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("model", "loss")
        }
        return cls(**{**config, **parts})


def _check_columns(y):
    """Raises unless `y` has two columns."""
    if y is None or len(y.shape) != 2 or y.shape[1] != 2:
        raise ValueError(
            "`y` must be integers `(N, 2)`, `[label, place in the training set]`. "
            f"Received: {'y=None' if y is None else f'y of shape {tuple(y.shape)}'}"
        )
