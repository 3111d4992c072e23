"""One-class classification in hyperbolic space (Narayan and Patel, 2024)."""

import keras
from keras import ops

from keras_zoo._backend import constant
from keras_zoo._catalog import component
from keras_zoo._checks import (
    check_choice,
    check_count,
    check_layer,
    check_not_negative,
    check_share,
    is_vector,
    sizes_agree,
)
from keras_zoo.layers import HyperbolicMLR, ToPoincareBall
from keras_zoo.losses import HyperbolicPairwiseConfusionLoss
from keras_zoo.losses._base import Reduction
from keras_zoo.trainers._base import ZooTrainer

HIDDEN_UNITS = (8192, 1000, 512, 128)
RUNNING_MEANS = ("previous_batch", "running")


@component(paper="hyp-oc")
class HypOC(ZooTrainer):
    """Learns what is genuine from genuine examples alone, against others drawn around their mean.

    With features `f` `(N, D)` of a batch, `m` their mean, `m'` what `feature_mean` holds, `alpha =
    mean_momentum`, a training step draws `N` pseudo-negatives, sends all `2N` through one network
    into the Poincare ball, and classifies them by hyperplanes of it:

        f   = encoder(x)                                                                 (N, D)
        mu  = alpha m' + (1 - alpha) m,   m' <- m                                        (D,)
        g_j ~ Normal(mu, variance I)                                                     (N, D)
        z   = to_ball(embedding([f; g]))                                                 (2N, d)
        ce  = cross-entropy of classifier(z), class 0 for f, class 1 for g               (2N,)
        loss = mean ce + confusion_weight mean HyperbolicPairwiseConfusionLoss(z of f)

    `mu` and the draws are constants for the gradient. `to_ball` is a
    `keras_zoo.layers.ToPoincareBall`, `classifier` a `keras_zoo.layers.HyperbolicMLR(2)`.

    Args:
        encoder: layer or model, from inputs to features `(N, D)`.
        embedding: layer or model, from `(N, D)` to `(N, d)`. None for dense layers of
            `hidden_units`, each with a ReLU, the last one as well.
        hidden_units: positive ints, the last of them `d`; of no use with an `embedding`. The
            default is for features of several thousand numbers.
        curvature: float > 0. `c` of the ball.
        clip_radius: float > 0, or None; see `ToPoincareBall`.
        mean_momentum: float in [0, 1]. `alpha`.
        variance: float >= 0. At 0 every pseudo-negative is `mu`.
        running_mean: "previous_batch", as above, with which the results of the paper were made; or
            "running", which keeps `mu` itself: `m' <- mu`.
        confusion_distance: "arctan" or "geodesic"; see `HyperbolicPairwiseConfusionLoss`.
        confusion_weight: float >= 0.
        seed: int >= 0, or None for a new one each time.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Attributes:
        to_ball, classifier: the layers above.
        feature_mean: non-trainable float32 variable `(D,)`, the `m'` above, 0 at first.

    Inputs: `fit(x)` or `fit(x, y)` with genuine examples only; `y` is not looked at. The rows of a
    batch make pairs by their order, so keep it shuffled. `sample_weight` `(N,)` weighs, for each
    row, the mean of its cross-entropy and of that of the pseudo-negative in its place, and its part
    of the confusion; not the mean `m`. In `evaluate(x, y)`, `y` `(N,)` or `(N, 1)` tells genuine
    (0) from others (1); without it all are genuine.

    Output: logits `(N, 2)`, of genuine and of other. `predict_score(x)` gives the probability of
    the latter. In training a dict of `features` `(N, D)`, `points` `(N, d)`, and `logits` `(2N, 2)`
    with those of the pseudo-negatives behind.

    Evaluation draws nothing and moves nothing; its loss is the mean cross-entropy of the logits.
    The compiled metrics, such as `keras_zoo.metrics.EqualErrorRate`, get probabilities `(N, 2)`, in
    evaluation with a `y` alone: `fit` reports them for validation data that hold one. A batch of
    one row has no pair. NaN in a feature gives NaN, and leaves `feature_mean` in it. Ball, mean and
    losses are float32 under every policy. Regularizers and what layers add count. Under
    `keras.distribution` on JAX the batch is the whole one; replicas of `tf.distribute` and of
    torch's process groups take their own part.

    Compile it with an optimizer and metrics, without a loss. Saved as `.keras` it holds
    `feature_mean` and the state of its random numbers, and goes on from there to the bit.

    Raises:
        ValueError: an argument is out of its range or of another kind; `compile` is given a loss;
            the features are not `(N, D)`; there is not one label for each row.

    Example:
    >>> encoder = keras.Sequential([keras.layers.Conv2D(8, 3), keras.layers.Flatten()])
    >>> model = keras_zoo.trainers.HypOC(encoder, hidden_units=(64, 16), seed=0)
    >>> model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=3.0))
    >>> history = model.fit(np.random.rand(32, 8, 8, 1), batch_size=8, verbose=0)
    >>> model.predict_score(np.random.rand(5, 8, 8, 1)).shape
    (5,)

    Reference: arXiv:2404.14406, section 3; github.com/Kartik-3004/hyp-oc. Differs from the official
    code, which sets the mean to 0 before every epoch, where this does it once; and clips the norm
    of the gradients of all but the encoder, where `global_clipnorm` of an optimizer clips that of
    all.
    """

    def __init__(
        self,
        encoder,
        embedding=None,
        hidden_units=HIDDEN_UNITS,
        curvature=0.1,
        clip_radius=2.0,
        mean_momentum=0.8,
        variance=1.0,
        running_mean="previous_batch",
        confusion_distance="arctan",
        confusion_weight=1.0,
        seed=None,
        **kwargs,
    ):
        check_layer("encoder", encoder)
        if embedding is not None:
            check_layer("embedding", embedding)
        hidden_units = check_hidden_units(hidden_units, embedding)
        check_share("mean_momentum", mean_momentum)
        check_not_negative("variance", variance)
        check_not_negative("confusion_weight", confusion_weight)
        check_choice("running_mean", running_mean, RUNNING_MEANS)
        to_ball = ToPoincareBall(curvature, clip_radius, dtype=kwargs.get("dtype"), name="to_ball")
        confusion = HyperbolicPairwiseConfusionLoss(curvature, confusion_distance, reduction=None)
        super().__init__(seed=seed, **kwargs)
        policy = self.dtype_policy
        self.encoder = encoder
        self.embedding = dense_embedding(hidden_units, policy) if embedding is None else embedding
        self.to_ball = to_ball
        self.classifier = HyperbolicMLR(2, curvature, dtype=policy, name="classifier")
        self.hidden_units = hidden_units
        self.curvature = curvature
        self.clip_radius = clip_radius
        self.mean_momentum = mean_momentum
        self.variance = variance
        self.running_mean = running_mean
        self.confusion_distance = confusion_distance
        self.confusion_weight = confusion_weight
        self._own_embedding = embedding is None
        self._confusion = confusion
        self._reduction = Reduction("hyp_oc")

    def build(self, input_shape):
        """Makes the parts, and the mean of the features."""
        inputs = keras.tree.map_shape_structure(keras.KerasTensor, input_shape)
        features = self.encoder(inputs)
        if len(features.shape) != 2 or features.shape[1] is None:
            raise ValueError(
                "`encoder` must give features `(N, D)`, D known. "
                f"Received: features of shape {tuple(features.shape)}"
            )
        self.classifier(self.to_ball(self.embedding(features)))
        self.feature_mean = self.add_weight(
            name="feature_mean",
            shape=(features.shape[1],),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def call(self, x, training=None):
        """Logits; in training also what they were made of."""
        features = self.encoder(x, training=training)
        if not training:
            return self._logits(features)[1]
        rows = ops.shape(features)[0]
        negatives = ops.cast(self._pseudo_negatives(features), features.dtype)
        points, logits = self._logits(ops.concatenate([features, negatives], axis=0), training=True)
        return {"features": features, "points": points[:rows], "logits": logits}

    def _logits(self, features, training=None):
        """Points of the ball and logits."""
        points = self.to_ball(self.embedding(features, training=training))
        return points, self.classifier(points)

    def _pseudo_negatives(self, features):
        """Draws `(N, D)` around the mean of the features, which moves."""
        features = ops.cast(ops.stop_gradient(features), "float32")
        batch_mean = ops.mean(features, axis=0)
        alpha = self.mean_momentum
        mean = constant(alpha * self.feature_mean + (1 - alpha) * batch_mean)
        self.feature_mean.assign(batch_mean if self.running_mean == "previous_batch" else mean)
        if not self.variance:
            return mean + ops.zeros_like(features)
        noise = keras.random.normal(ops.shape(features), dtype="float32", seed=self.seed_generator)
        return mean + self.variance**0.5 * noise

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Cross-entropy, and pairwise confusion in training."""
        if not isinstance(y_pred, dict):
            losses = _cross_entropy(y, ops.cast(y_pred, "float32"))
            return self._total(self._reduction(losses, losses, sample_weight))
        logits = ops.cast(y_pred["logits"], "float32")
        points = ops.cast(y_pred["points"], "float32")
        rows = ops.shape(points)[0]
        labels = ops.cast(ops.arange(2 * rows) >= rows, "float32")
        genuine, negative = ops.split(_cross_entropy(labels, logits), 2)
        losses = (genuine + negative) / 2
        losses = losses + self.confusion_weight * self._confusion(losses, points)
        return self._total(self._reduction(losses, losses, sample_weight))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics, of probabilities, but in training and without labels."""
        training = isinstance(y_pred, dict)
        if not training and y is not None:
            probabilities = ops.softmax(ops.cast(y_pred, "float32"), axis=-1)
            return super().compute_metrics(x, y, probabilities, sample_weight)
        compiled = self._compile_metrics
        if compiled is None:
            return self.get_metrics_result()
        if not compiled.built:
            compiled.build(ops.zeros((1,)), ops.zeros((1, 2)))
        hidden = set(compiled.result())
        return {k: v for k, v in self.get_metrics_result().items() if k not in hidden}

    def predict_score(self, x, batch_size=None):
        """The probability that each input is not genuine, `(N,)` in [0, 1], as numpy.

        Args:
            x: what `predict` takes.
            batch_size: int, or None for 32.
        """
        logits = self.predict(x, batch_size=batch_size, verbose=0)
        return ops.convert_to_numpy(ops.softmax(ops.cast(logits, "float32"), axis=-1))[:, 1]

    def get_config(self):
        """The constructor's arguments."""
        parts = {"encoder": self.encoder}
        parts["embedding"] = None if self._own_embedding else self.embedding
        own = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        own["hidden_units"] = list(self.hidden_units)
        own["curvature"] = self.curvature
        own["clip_radius"] = self.clip_radius
        own["mean_momentum"] = self.mean_momentum
        own["variance"] = self.variance
        own["running_mean"] = self.running_mean
        own["confusion_distance"] = self.confusion_distance
        own["confusion_weight"] = self.confusion_weight
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("encoder", "embedding")
        }
        return cls(**{**config, **parts})


def check_hidden_units(hidden_units, embedding):
    """`hidden_units` as a tuple of ints; the default where there is an embedding already."""
    listed = isinstance(hidden_units, (list, tuple)) and len(hidden_units) > 0
    if not listed:
        raise ValueError(
            "`hidden_units` must be one or more positive integers. "
            f"Received: hidden_units={hidden_units!r}"
        )
    units = tuple(check_count("hidden_units", n) for n in hidden_units)
    if embedding is not None and units != HIDDEN_UNITS:
        raise ValueError(
            "`hidden_units` must be left out where there is an `embedding`. "
            f"Received: hidden_units={hidden_units!r}"
        )
    return units


def dense_embedding(hidden_units, dtype):
    """Dense layers, each with a ReLU."""
    return keras.Sequential(
        [
            keras.layers.Dense(units, "relu", dtype=dtype, name=f"dense_{i}")
            for i, units in enumerate(hidden_units, start=1)
        ],
        name="embedding",
    )


def _cross_entropy(labels, logits):
    """`log(1 + exp(-margin))` for labels 0 and 1, `(N,)`; NaN for others. None is all 0."""
    margin = logits[:, 0] - logits[:, 1]
    if labels is None:
        return ops.softplus(-margin)
    shape, rows = tuple(labels.shape), logits.shape[0]
    if not is_vector(shape) or not sizes_agree(shape[:1], (rows,)):
        raise ValueError(
            "`y` must hold one label for each row, 0 for genuine and 1 for others. "
            f"Received: y of shape {shape} for {rows} rows"
        )
    labels = ops.reshape(ops.cast(labels, "float32"), (-1,))
    known = ops.logical_or(ops.equal(labels, 0.0), ops.equal(labels, 1.0))
    return ops.softplus(ops.where(known, 2.0 * labels - 1.0, float("nan")) * margin)
