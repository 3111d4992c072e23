"""Training a model with very many classes by exact updates of its output layer."""

import keras
import numpy as np
from keras import ops

from keras_zoo._backend import constant
from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_layer, check_number
from keras_zoo.layers import FactoredDense
from keras_zoo.losses import ZLoss
from keras_zoo.trainers._base import ZooTrainer

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight")


@component(paper="z-loss")
class FactoredOutputTrainer(ZooTrainer):
    """Trains an encoder under a very large output layer, at a cost that the classes do not add to.

    With `h = encoder(x)` `(N, d)`, logits `o = W h` for `D` classes, and a loss of the spherical
    family, a step of `fit`

        works out the loss and its gradients from `o_c`, `sum o_k^2`, `sum o_k` alone
        W       <- W - output_learning_rate * dL/dW      exactly, by `output_layer.sgd_update`
        encoder <- what the optimizer of `compile` makes of dL/dh

    at `O(N d^2)` for the output layer, where a softmax over a dense layer takes `O(N D d)`. The
    logits are not formed. The result is that of training both with the same loss and a plain SGD on
    `W`, up to rounding. In evaluation and prediction the logits are formed.

    Args:
        encoder: layer or model, from inputs to `(N, d)`.
        output_layer: `keras_zoo.layers.FactoredDense`.
        loss: loss with `from_statistics` and `statistics_gradient`, and with a reduction, as
            `keras_zoo.losses.ZLoss` and `keras_zoo.losses.TaylorSoftmaxLoss` are. None for
            `ZLoss()`.
        output_learning_rate: float > 0, or a `keras.optimizers.schedules.LearningRateSchedule` over
            the steps made. The kernel has no other optimizer. With the mean over the batch good
            rates are large, and grow with the batch and with `D`: look for one from 0.1 upwards by
            factors of 3.
        stabilize_period: int; every so many steps `fit` calls `output_layer.stabilize()`. None for
            never. Steps of `train_on_batch` are counted, too, but only `fit` stabilizes.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Inputs: `fit(x, y)` with class ids `y`, integers `(N,)` or `(N, 1)` in `[0, D)`. `sample_weight`
    `(N,)` weighs the examples in the loss, and so in both updates.

    Output: logits `(N, D)`; `h` `(N, d)` where `training=True`.

    The compiled metrics need logits, so that they are worked out in evaluation alone, and `fit`
    reports them for the validation data only. Regularizers and other losses that the encoder adds
    count. The output layer takes its step before the optimizer does: under gradient accumulation in
    each batch, and where loss scaling skips a step of the optimizer as well. Under mixed precision
    it works in float32. A class id outside of `[0, D)` or a NaN in `h` gives NaN, and leaves the
    layer in it; `fit` refuses arrays with such ids. Train on one device: under
    data parallelism the replicas of the layer would part.

    Compile it with an optimizer and metrics, without a loss. Saved as `.keras` it holds the number
    of steps made and the factors as they are, and goes on from there to the bit.

    Raises:
        ValueError: an argument is out of its range or of another kind; `compile` is given a loss;
            `fit` is given no class ids, or such as are no classes.

    Example:
    >>> encoder = keras.Sequential([keras.layers.Embedding(1000, 16), keras.layers.Flatten()])
    >>> output_layer = keras_zoo.layers.FactoredDense(100_000)
    >>> model = keras_zoo.trainers.FactoredOutputTrainer(encoder, output_layer)
    >>> model.compile("adam", metrics=["sparse_top_k_categorical_accuracy"])
    >>> x, y = np.random.randint(0, 1000, (64, 4)), np.random.randint(0, 100_000, 64)
    >>> history = model.fit(x, y, validation_data=(x, y), verbose=0)

    Reference: arXiv:1412.7091, section 3, with the loss of arXiv:1604.08859. Differs from the
    official code: as `keras_zoo.layers.FactoredDense`, and the mean over the batch where that sums.
    """

    def __init__(
        self,
        encoder,
        output_layer,
        loss=None,
        output_learning_rate=0.01,
        stabilize_period=100,
        **kwargs,
    ):
        check_layer("encoder", encoder)
        if not isinstance(output_layer, FactoredDense):
            raise ValueError(
                "`output_layer` must be a `keras_zoo.layers.FactoredDense`. "
                f"Received: output_layer={output_layer!r}"
            )
        loss = ZLoss() if loss is None else loss
        protocol = ("from_statistics", "statistics_gradient")
        if not isinstance(loss, keras.losses.Loss) or not all(hasattr(loss, m) for m in protocol):
            raise ValueError(
                "`loss` must be a loss with `from_statistics` and `statistics_gradient`, as "
                f"`keras_zoo.losses.ZLoss` is. Received: loss={loss!r}"
            )
        if loss.reduction not in REDUCTIONS:
            raise ValueError(
                f"`loss` must have one of the reductions {REDUCTIONS}. "
                f"Received: loss.reduction={loss.reduction!r}"
            )
        schedules = keras.optimizers.schedules.LearningRateSchedule
        if not isinstance(output_learning_rate, schedules):
            check_number("output_learning_rate", output_learning_rate, positive=True)
        if stabilize_period is not None:
            check_count("stabilize_period", stabilize_period)
        super().__init__(seed=None, **kwargs)
        self.encoder = encoder
        self.output_layer = output_layer
        self.loss_fn = loss
        self._output_learning_rate = output_learning_rate
        self.stabilize_period = stabilize_period
        self.output_steps = self.add_weight(
            name="output_steps", shape=(), initializer="zeros", dtype="int32", trainable=False
        )
        self._features_only = False

    @property
    def output_learning_rate(self):
        """Learning rate of the output layer. Compiled steps have it built in, so it stays."""
        return self._output_learning_rate

    def call(self, x, training=None):
        """Logits `(N, D)`, or, in training, what they are made from."""
        features = self.encoder(x, training=training)
        if not self.output_layer.built:
            self.output_layer.build(features.shape)
        return features if training else self.output_layer(features)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss; in training also the step of the output layer."""
        if y is None:
            raise ValueError("`y` must hold the class of each example. Received: y=None")
        self._features_only = bool(training)
        y_pred = ops.cast(y_pred, "float32")
        if not training:
            return self._total(self.loss_fn(y, y_pred, sample_weight))
        frozen = ops.stop_gradient(y_pred)
        value, gradient = self._step(y, frozen, sample_weight)
        # No value, but the gradient of the loss for what the encoder gave.
        surrogate = ops.sum(y_pred * constant(gradient))
        return self._total(value + (surrogate - ops.stop_gradient(surrogate)))

    def _step(self, y, features, sample_weight):
        """The reduced loss, and its gradient for the features; the kernel takes its step."""
        labels = ops.reshape(ops.cast(y, "int32"), (-1, 1))
        weights = self._weights(features, sample_weight)

        def gradient(selected, *sums):
            slopes = self.loss_fn.statistics_gradient(selected[:, 0], *sums, classes)
            to_selected, *to_sums = (ops.cast(weights, s.dtype) * s for s in slopes)
            return to_selected[:, None], *to_sums

        classes = self.output_layer.units
        (selected, *sums), to_features = self.output_layer.sgd_step(
            features, labels, gradient, self._rate()
        )
        self.output_steps.assign(self.output_steps + 1)
        losses = self.loss_fn.from_statistics(selected[:, 0], *sums, classes)
        losses = ops.cast(losses, weights.dtype)
        return ops.sum(weights * losses), ops.cast(to_features, features.dtype)

    def _weights(self, features, sample_weight):
        """How much each example's loss counts in the loss of the batch, `(N,)`."""
        weights = ops.ones_like(features[:, 0])
        if sample_weight is not None:
            weights = weights * ops.reshape(ops.cast(sample_weight, weights.dtype), (-1,))
        if self.loss_fn.reduction == "sum":
            return weights
        if self.loss_fn.reduction == "mean_with_sample_weight":
            return ops.divide_no_nan(weights, ops.sum(weights))
        return weights / ops.cast(ops.shape(features)[0], weights.dtype)

    def _rate(self):
        rate = self.output_learning_rate
        return rate(self.output_steps) if callable(rate) else rate

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics, but in training, where there are no logits."""
        if not self._features_only:
            return super().compute_metrics(x, y, y_pred, sample_weight)
        self._features_only = False
        compiled = self._compile_metrics
        if compiled is None:
            return self.get_metrics_result()
        if not compiled.built:
            logits = ops.zeros((1, self.output_layer.units))
            compiled.build(y, logits)
        hidden = set(compiled.result())
        return {k: v for k, v in self.get_metrics_result().items() if k not in hidden}

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`; stabilizes the output layer every `stabilize_period` steps."""
        if isinstance(y, np.ndarray) and y.size:
            classes = self.output_layer.units
            if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= classes:
                raise ValueError(
                    f"`y` must hold integers in [0, {classes}). "
                    f"Received: {y.dtype} from {y.min()} to {y.max()}"
                )
        return super().fit(x, y, *args, **kwargs)

    def _own_callbacks(self):
        return [] if self.stabilize_period is None else [_Stabilizer(self.stabilize_period)]

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        del config["seed"]
        rate = self.output_learning_rate
        own = {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "output_layer": keras.saving.serialize_keras_object(self.output_layer),
            "loss": keras.saving.serialize_keras_object(self.loss_fn),
            "output_learning_rate": (
                keras.saving.serialize_keras_object(rate) if callable(rate) else rate
            ),
            "stabilize_period": self.stabilize_period,
        }
        return {**config, **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        names = ("encoder", "output_layer", "loss", "output_learning_rate")
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in names
        }
        return cls(**{**config, **parts})


class _Stabilizer(keras.callbacks.Callback):
    """Stabilizes the output layer of the model, counted from its very first step."""

    def __init__(self, period):
        super().__init__()
        self.period = period

    def on_train_begin(self, logs=None):
        self.steps = int(ops.convert_to_numpy(self.model.output_steps))

    def on_train_batch_begin(self, batch, logs=None):
        self.first = batch

    def on_train_batch_end(self, batch, logs=None):
        # Several steps may have been made in one execution, of which an epoch's last one has less.
        before, steps = self.steps, self.params.get("steps")
        batch = min(batch, steps - 1) if steps else batch
        self.steps += batch - self.first + 1
        if self.steps // self.period > before // self.period:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            self.model.output_layer.stabilize()
