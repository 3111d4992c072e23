"""Mixup for deep metric learning (Venkataramanan et al., 2022)."""

import math

import keras
from keras import ops

from keras_zoo._backend import custom_gradient
from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_layer, check_not_negative, check_number
from keras_zoo.losses import MultiSimilarityLoss
from keras_zoo.losses._base import Reduction
from keras_zoo.losses.metrix_embedding_loss import (
    PAIRINGS,
    check_soft_pair_loss,
    metrix_embedding_loss,
)
from keras_zoo.ops import input_gradient
from keras_zoo.ops.masked import LOWEST
from keras_zoo.ops.pairs import l2_normalize, pair_masks
from keras_zoo.trainers._base import ZooTrainer

LEVELS = ("embedding", "feature", "input")


@component(paper="metrix")
class Metrix(ZooTrainer):
    """Trains an embedding with a pair loss, on clean examples and on mixed ones.

    With `f` the embeddings of a batch of `N`, `lambda ~ Beta(alpha, alpha)` drawn once a step,

        loss = mean_a l_clean(a) + mix_weight * mean_a l_mixed(a)

    `l_clean` is the pair loss. `l_mixed` is its form for interpolated labels, `soft_pair_loss`,
    towards examples that are `lambda` positive and `1 - lambda` negative. They are mixed from

    * "embedding": the embeddings, all positives with all negatives of each anchor, in closed form:
      see `keras_zoo.losses.metrix_embedding_loss`. No further pass.
    * "feature": `h = encoder(x)`, before `head`; one further pass through `head`. Without a head,
      the embeddings themselves.
    * "input": `h = x`; one further pass through `encoder` and `head`.

    At the last two levels row `j` becomes `v_j`, the embedding of
    `lambda h_{p_j} + (1 - lambda) h_{q_j}`, with `p_j` another row of its class, drawn anew each
    step, and `q_j` the row of another class that is most similar to it. Every anchor of the batch
    meets every `v_j` of which exactly one part has the anchor's class, with label `lambda` if that
    is `p_j`, `1 - lambda` if it is `q_j`.

    Evaluation and prediction mix nothing: the evaluated loss is that of the clean examples.

    Args:
        encoder: layer or model.
        head: layer or model, on top of `encoder`; None for none. `call(x)` is `head(encoder(x))`,
            and must give embeddings `(N, D)`.
        pair_loss: pair loss with `soft_pair_loss` (`MultiSimilarityLoss`, `ContrastiveLoss`,
            `BinomialDevianceLoss`, `LiftedStructureLoss`, or your own), and with a reduction, which
            the mixed losses share. None for `MultiSimilarityLoss()`.
        level: "embedding", "feature" or "input".
        mix_weight: float >= 0.
        alpha: float > 0. Near 0 hardly anything is mixed; large values mix halves.
        pairing: "positive_negative"; or "anchor_negative", where each example is its own positive:
            `p_j = j`; or "random", which tosses a coin each step.
        seed: int >= 0, or None for a new one each time.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Inputs: `fit(x, y)` with labels `y` `(N,)` or `(N, 1)`, and batches that hold several examples
    of each class, as `keras_zoo.samplers.ClassBalancedSampler` draws them. `sample_weight` `(N,)`
    weighs anchors. At level "input" `x` must be of floats, or a structure of such.

    Output: `(N, D)`, embeddings, not normalised.

    An anchor without mixed examples adds 0: all of them in a batch of one class. A row without
    another one of its class is its own partner. NaN in an embedding gives NaN. Similarities and
    losses are computed in float32 under every policy. Memory beyond that of the passes is `O(N^2)`;
    `pair_loss.chunk_size` bounds that of the clean losses, and of "anchor_negative" at the level of
    embeddings.

    Compile it with an optimizer and metrics, without a loss. Saved as `.keras` it holds the state
    of its random numbers, and goes on from there.

    Raises:
        ValueError: an argument is out of its range or of another kind; `compile` is given a loss;
            `fit` is given no labels, or inputs that cannot be mixed.

    Example:
    >>> encoder = keras.Sequential([keras.layers.Conv2D(32, 3), keras.layers.Flatten()])
    >>> model = keras_zoo.trainers.Metrix(encoder, keras.layers.Dense(64), level="feature")
    >>> model.compile("adam", metrics=[keras_zoo.metrics.RecallAtK(1)])
    >>> x, y = np.random.rand(12, 8, 8, 1), np.arange(12) // 3
    >>> history = model.fit(x, y, batch_size=12, verbose=0)

    Reference: arXiv:2106.04990, sections 3 and 4. The official code mixes, at the level of inputs,
    by an index into another array than the one it found the hardest negative in; lets anchors with
    positives go without "anchor_negative"; and weighs it by 0.3 at the level of embeddings.
    """

    def __init__(
        self,
        encoder,
        head=None,
        pair_loss=None,
        level="embedding",
        mix_weight=0.4,
        alpha=2.0,
        pairing="random",
        seed=None,
        **kwargs,
    ):
        check_layer("encoder", encoder)
        if head is not None:
            check_layer("head", head)
        pair_loss = MultiSimilarityLoss() if pair_loss is None else pair_loss
        check_soft_pair_loss("pair_loss", pair_loss)
        if pair_loss.reduction in (None, "none"):
            raise ValueError(
                "`pair_loss` must reduce the losses of a batch to one number. "
                f"Received: pair_loss.reduction={pair_loss.reduction!r}"
            )
        check_not_negative("mix_weight", mix_weight)
        check_number("alpha", alpha, positive=True)
        check_choice("level", level, LEVELS)
        check_choice("pairing", pairing, ("random", *PAIRINGS))
        super().__init__(seed=seed, **kwargs)
        self.encoder = encoder
        self.head = head
        self.pair_loss = pair_loss
        self.level = level
        self.mix_weight = float(mix_weight)
        self.alpha = float(alpha)
        self.pairing = pairing
        self._reduction = Reduction("mixed_loss", pair_loss.reduction)
        self._pass = _Pass()

    def call(self, x, training=None):
        """Embeddings, `(N, D)`."""
        features = self.encoder(x, training=training)
        embeddings = features if self.head is None else self.head(features, training=training)
        if training and self.level == "feature":
            self._pass.keep(features, embeddings)
        return embeddings

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The clean loss, plus that of mixed examples in training."""
        if y is None:
            raise ValueError("`y` must hold the class of each example. Received: y=None")
        features = self._pass.take(y_pred)
        embeddings = ops.cast(y_pred, "float32")
        loss = ops.cast(self.pair_loss(y, embeddings, sample_weight), "float32")
        # Before a further pass replaces what this one added.
        loss = self._total(loss)
        if not training or self.mix_weight == 0:
            return loss
        labels = ops.reshape(ops.cast(y, "float32"), (-1,))
        # One draw a step: four numbers for lambda, one for the coin, one for each row.
        shape = (ops.shape(labels)[0] + 5,)
        draws = keras.random.uniform(shape, minval=1e-7, maxval=1.0, seed=self.seed_generator)
        lam = symmetric_beta(draws[:4], self.alpha)
        with_positives = self._toss(draws[4])
        if self.level == "embedding":
            mixed = self._mixed_embeddings(labels, embeddings, lam, with_positives)
        else:
            anchors = l2_normalize(embeddings)
            p, q, whole = choose_partners(labels, anchors, draws[5:], with_positives)
            v = ops.cast(self._embed_mixed(x, features, p, q, lam), "float32")
            S = ops.matmul(anchors, ops.transpose(l2_normalize(v)))
            soft = soft_labels(labels, p, q, whole, lam)
            mixed = self.pair_loss.soft_pair_loss(S, *soft)
        return loss + self.mix_weight * self._reduction(mixed, mixed, sample_weight)

    def _toss(self, u):
        """Whether this step pairs positives with negatives; a tensor where a coin decides."""
        return u < 0.5 if self.pairing == "random" else self.pairing == "positive_negative"

    def _mixed_embeddings(self, labels, embeddings, lam, with_positives):
        losses = [
            lambda x, pairing=pairing: metrix_embedding_loss(
                labels, x, self.pair_loss, lam, pairing
            )
            for pairing in PAIRINGS
        ]
        if isinstance(with_positives, bool):
            return losses[0 if with_positives else 1](embeddings)
        return _either(with_positives, *losses, embeddings)

    def _embed_mixed(self, x, features, p, q, lam):
        """Embeddings of `lam h_p + (1 - lam) h_q`, at the level of inputs or of features."""
        if self.level == "input":
            return self(mix_rows(x, p, q, lam), training=True)
        if features is None:  # The embeddings came from elsewhere than from the latest pass.
            features = self.encoder(x, training=True)
        mixed = mix_rows(features, p, q, lam)
        return mixed if self.head is None else self.head(mixed, training=True)

    def get_config(self):
        """The constructor's arguments."""
        parts = {"encoder": self.encoder, "head": self.head, "pair_loss": self.pair_loss}
        own = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        own["level"] = self.level
        own["mix_weight"] = self.mix_weight
        own["alpha"] = self.alpha
        own["pairing"] = self.pairing
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("encoder", "head", "pair_loss")
        }
        return cls(**{**config, **parts})


def _either(condition, one, other, x):
    """`one(x)` if the scalar bool tensor holds, else `other(x)`: losses `(N,)` of `x` `(N, D)`.

    Each branch works out its own gradient, from its start, since XLA on TensorFlow cannot compile
    the gradient of a branch that has loops.
    """

    @custom_gradient
    def chosen(x):
        def grad(upstream):
            def gradient_of(fn):
                return lambda: input_gradient(lambda x: upstream * fn(x), x, create_graph=True)

            return ops.cond(condition, gradient_of(one), gradient_of(other))

        frozen = ops.stop_gradient(x)
        return ops.cond(condition, lambda: one(frozen), lambda: other(frozen)), grad

    return chosen(x)


class _Pass:
    """Holds the features of a training pass until `compute_loss` takes them, in the same step."""

    features = embeddings = None

    def keep(self, features, embeddings):
        self.features, self.embeddings = features, embeddings

    def take(self, embeddings):
        """The features that these embeddings were made of, None if others are held or none."""
        features = self.features if embeddings is self.embeddings else None
        self.features = self.embeddings = None
        return features


def symmetric_beta(u, alpha):
    """A draw from `Beta(alpha, alpha)`, made of four from the uniform distribution on (0, 1).

    Keras's own draws by gamma variates, which XLA does not compile under TensorFlow.

    Args:
        u: `(4,)`.
        alpha: float > 0.

    Returns:
        Scalar.
    """
    # Ulrich's polar method draws b from Beta(alpha + 1, alpha + 1). With Gamma(alpha) as
    # Gamma(alpha + 1) times u^(1 / alpha), odds of b / (1 - b) become odds of the wanted draw.
    radius = ops.sqrt(1 - ops.power(u[0], 2 / (2 * alpha + 1)))
    b = ops.clip(0.5 + 0.5 * radius * ops.cos(2 * math.pi * u[1]), 1e-7, 1 - 1e-7)
    odds = ops.log(b) - ops.log(1 - b) + (ops.log(u[2]) - ops.log(u[3])) / alpha
    return ops.sigmoid(odds)


def choose_partners(labels, features, u, with_positives):
    """For each row the two that are mixed into one.

    Args:
        labels: `(N,)`.
        features: `(N, D)`, of unit length.
        u: `(N,)` in [0, 1): which of the rows of its class each row takes.
        with_positives: bool, or scalar bool tensor. Otherwise each row takes itself.

    Returns:
        `(p, q, whole)`: int32 `(N,)`, another row of the class, or the row itself if there is none;
        int32 `(N,)`, the most similar row of another class; bool `(N,)`, whether there is one.
    """
    features = ops.stop_gradient(features)
    index = ops.arange(ops.shape(labels)[0], dtype="int32")
    pos, neg = pair_masks(labels, index, labels)
    S = ops.matmul(features, ops.transpose(features))
    q = ops.argmax(ops.where(neg, S, LOWEST), axis=-1)
    pos = ops.cast(pos, "int32")
    number = ops.cumsum(pos, axis=-1) * pos  # 1, 2, ... at the positives, else 0
    count = ops.sum(pos, axis=-1, keepdims=True)
    wanted = 1 + ops.cast(u[:, None] * ops.cast(count, u.dtype), "int32")
    chosen = ops.equal(number, ops.minimum(wanted, ops.maximum(count, 1)))
    p = ops.cast(ops.argmax(ops.cast(chosen, "int32"), axis=-1), "int32")
    takes = ops.logical_and(count[:, 0] > 0, with_positives)
    return ops.where(takes, p, index), ops.cast(q, "int32"), ops.any(neg, axis=-1)


def soft_labels(labels, p, q, whole, lam):
    """To what degree each mixed row is positive to each anchor, and which rows it looks at.

    Args:
        labels: `(N,)`.
        p: int `(N,)`.
        q: int `(N,)`.
        whole: bool `(N,)`.
        lam: scalar.

    Returns:
        `(label, mask)`: float and bool `(N, N)`; anchors are rows.
    """
    from_p = ops.equal(labels[:, None], ops.take(labels, p)[None, :])
    from_q = ops.equal(labels[:, None], ops.take(labels, q)[None, :])
    mask = ops.logical_and(ops.logical_xor(from_p, from_q), whole[None, :])
    return ops.where(from_p, lam, 1 - lam), mask


def mix_rows(h, p, q, lam):
    """`lam h_p + (1 - lam) h_q`, in the dtype of `h`, for each tensor of a structure."""

    def mix(h):
        h = ops.convert_to_tensor(h)
        dtype = keras.backend.standardize_dtype(h.dtype)
        if "float" not in dtype:
            raise ValueError(f"What is mixed must hold floats. Received: dtype {dtype}")
        part = ops.cast(lam, dtype)
        return part * ops.take(h, p, axis=0) + (1 - part) * ops.take(h, q, axis=0)

    return keras.tree.map_structure(mix, h)
