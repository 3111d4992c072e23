"""Training a binary classifier with a new random loss at each step (Dai, 2025)."""

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_binary_batch, check_count, check_layer
from keras_zoo.losses._base import Reduction
from keras_zoo.ops import ens_loss_derivatives
from keras_zoo.trainers._base import ZooTrainer


@component(paper="ensloss")
class EnsLossTrainer(ZooTrainer):
    """Trains a binary classifier with an ensemble of losses: dropout for the loss.

    With logits `f` `(B,)`, labels `y` `(B,)` in {0, 1}, weights `w` `(B,)`, a training step draws
    `z` `(B,)` from the standard normal distribution, and so a margin loss `phi` that is convex and
    calibrated for classification, and descends along its gradient:

        s    = (2 y - 1) f                                                          (B,)
        phi' = keras_zoo.ops.ens_loss_derivatives(s, z, box_cox_lambda)             (B,)
        loss = mean_i w_i phi'_i s_i,   with phi' a constant

    The value of this loss means nothing: it is noisy, and often negative. Watch the accuracy.
    Evaluation draws nothing, and reports the logistic loss `mean_i w_i log(1 + exp(-s_i))`. The
    sign of `f` is the predicted class.

    Args:
        model: layer or model, from inputs to one logit, `(N, 1)` or `(N,)`.
        box_cox_period: int > 0. At the start of epoch `e` (the first is 1) of `fit`, if `e` is a
            multiple of it, `box_cox_lambda` is drawn from the uniform distribution on [-1, 1).
            None for never. Epochs are counted as Keras counts them, from `initial_epoch` on: who
            goes on with a stopped run passes it, as `keras.callbacks.BackupAndRestore` does.
        seed: int >= 0, or None for a new one each time.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Attributes:
        box_cox_lambda: non-trainable float32 scalar, at first 0.

    Inputs: `fit(x, y)` with labels `y` `(N,)` or `(N, 1)` in {0, 1}, bool, integers or floats.
    `sample_weight` `(N,)` weighs the losses; an example of weight 0 still counts in the ranks of
    the others. The compiled metrics get logits, so that they need a threshold of 0.

    Output: the logits, as `model` gives them.

    A label outside {0, 1} gives NaN, and so does NaN in a logit; `fit` refuses arrays with such
    labels before it trains. A last batch that is smaller, down to one row, is a batch like others.
    Losses are float32 under every policy. Regularizers and what layers add count. `train_on_batch`
    draws `z` but never `box_cox_lambda`. The slopes of a batch are ranked within it: the replicas
    of TensorFlow's `tf.distribute` and of torch's process groups rank each their own part.

    Compile it with an optimizer and metrics, without a loss. Saved as `.keras` it holds
    `box_cox_lambda` and the state of its random numbers, and goes on from there to the bit.

    Raises:
        ValueError: an argument is out of its range or of another kind; `compile` is given a loss;
            there are no labels, or such as are not 0 or 1; the model has not one logit.

    Example:
    >>> network = keras.Sequential([keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    >>> model = keras_zoo.trainers.EnsLossTrainer(network, box_cox_period=10, seed=0)
    >>> model.compile("sgd", metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    >>> x, y = np.random.rand(100, 8), np.random.randint(0, 2, 100)
    >>> history = model.fit(x, y, verbose=0)

    Reference: arXiv:2409.00908, section 3; github.com/statmlben/ensLoss. Differs from the official
    code: the logistic loss in evaluation.
    """

    def __init__(self, model, box_cox_period=None, seed=None, **kwargs):
        check_layer("model", model)
        if box_cox_period is not None:
            box_cox_period = check_count("box_cox_period", box_cox_period)
        super().__init__(seed=seed, **kwargs)
        self.model = model
        self.box_cox_period = box_cox_period
        self._reduction = Reduction("ens_loss")
        self.box_cox_lambda = self.add_weight(
            name="box_cox_lambda",
            shape=(),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def call(self, x, training=None):
        """The logits of the wrapped model."""
        return self.model(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """A random loss in training, the logistic loss otherwise."""
        margins = _margins(y, y_pred)
        if training:
            shape = ops.shape(margins)
            noise = keras.random.normal(shape, dtype="float32", seed=self.seed_generator)
            losses = ens_loss_derivatives(margins, noise, self.box_cox_lambda) * margins
        else:
            losses = ops.softplus(-margins)
        return self._total(self._reduction(losses, losses, sample_weight))

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`; an array of labels is looked through first."""
        if isinstance(y, np.ndarray) or ops.is_tensor(y):
            labels = ops.convert_to_numpy(y)
            wrong = labels[(labels != 0) & (labels != 1)]
            if wrong.size:
                raise ValueError(f"`y` must hold 0 and 1 alone. Received: {wrong[:5]}")
        return super().fit(x, y, *args, **kwargs)

    def _own_callbacks(self):
        if self.box_cox_period is None:
            return []
        return [keras.callbacks.LambdaCallback(on_epoch_begin=self._begin_epoch)]

    def _begin_epoch(self, epoch, logs=None):
        """Draws `box_cox_lambda` where it is due. Keras's first epoch is 0."""
        if (epoch + 1) % self.box_cox_period == 0:
            draw = keras.random.uniform((), -1.0, 1.0, dtype="float32", seed=self.seed_generator)
            self.box_cox_lambda.assign(draw)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "model": keras.saving.serialize_keras_object(self.model),
            "box_cox_period": self.box_cox_period,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})


def _margins(y, y_pred):
    """`(2 y - 1) f`, float32 `(N,)`; NaN where a label is neither 0 nor 1."""
    if y is None:
        raise ValueError("`y` must hold the label of each example, 0 or 1. Received: y=None")
    check_binary_batch(y, y_pred)
    labels, logits = (ops.reshape(ops.cast(part, "float32"), (-1,)) for part in (y, y_pred))
    known = ops.logical_or(ops.equal(labels, 0.0), ops.equal(labels, 1.0))
    return ops.where(known, 2.0 * labels - 1.0, float("nan")) * logits
