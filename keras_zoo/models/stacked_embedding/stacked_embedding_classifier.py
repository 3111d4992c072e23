"""Labels of texts from stacked embeddings."""

import keras
from keras_hub.models import Task

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_flag, check_rate
from keras_zoo.losses import HybridMultiLabelLoss
from keras_zoo.metrics import HammingLoss, JaccardAccuracy
from keras_zoo.models._presets import TaskMixin
from keras_zoo.models.stacked_embedding.stacked_embedding_backbone import StackedEmbeddingBackbone
from keras_zoo.models.stacked_embedding.stacked_embedding_preprocessor import (
    StackedEmbeddingPreprocessor,
)


@component(paper="arabic-emotion")
class StackedEmbeddingClassifier(TaskMixin, Task):
    """Says which of several labels a text has.

        f      = relu(dense(backbone(x)))                  (dense_units,)
        logits = dense(dropout(f))                         (num_labels,)

    The probability of a label is the sigmoid of its logit.

    Args:
        backbone: a `StackedEmbeddingBackbone`.
        num_labels: int.
        dense_units: int.
        dropout: float in [0, 1).
        return_embedding: bool. Whether `f` follows the logits, as `HybridMultiLabelLoss` takes it.
        preprocessor: None, a `StackedEmbeddingPreprocessor`, with which `fit`, `predict` and
            `evaluate` take texts, or a layer or function that they apply to the inputs first.
        **kwargs: `name`, and `compile=False` to leave the model uncompiled.

    Inputs: those of the backbone.
    Output: `(B, num_labels)`, or `(B, num_labels + dense_units)`, in the backbone's variable dtype.

    Compiled by default with Adam (learning rate 1e-3), `HybridMultiLabelLoss(num_labels)`,
    `JaccardAccuracy` and `HammingLoss`. For weights and correlations of your labels, compile it
    with `HybridMultiLabelLoss.from_labels(labels)`.

    Like that of all tasks of keras-hub, `fit` takes examples in their order, and calls the
    preprocessor in each epoch. To embed texts once and have them shuffled, compile and fit
    `keras.Model(classifier.input, classifier.output)` on `preprocessor(texts)`: it has the same
    weights.

    Raises:
        ValueError: an argument is out of its range; `fit`, `predict` or `evaluate` without a
            preprocessor are given another dict than the backbone's.

    Example:
    >>> vectors = np.random.normal(size=(4, 8))
    >>> words = keras_zoo.models.WordVectors(["so", "glad", "sad", "!"], vectors)
    >>> classifier = keras_zoo.models.StackedEmbeddingClassifier(
    ...     keras_zoo.models.StackedEmbeddingBackbone((8,), meta_units=4, lstm_units=5),
    ...     num_labels=3,
    ...     preprocessor=keras_zoo.models.StackedEmbeddingPreprocessor([words], 6),
    ... )
    >>> classifier.predict(["So glad!", "so sad"], verbose=0).shape
    (2, 3)

    Reference: arXiv:2410.03979. Differs from the official code: none is public.
    """

    backbone_cls = StackedEmbeddingBackbone
    preprocessor_cls = StackedEmbeddingPreprocessor

    def __init__(
        self,
        backbone,
        num_labels,
        dense_units=128,
        dropout=0.3,
        return_embedding=False,
        preprocessor=None,
        **kwargs,
    ):
        if not isinstance(backbone, StackedEmbeddingBackbone):
            raise ValueError(
                f"`backbone` must be a StackedEmbeddingBackbone. Received: backbone={backbone!r}"
            )
        check_count("num_labels", num_labels)
        check_count("dense_units", dense_units)
        check_rate("dropout", dropout)
        check_flag("return_embedding", return_embedding)
        if isinstance(preprocessor, StackedEmbeddingPreprocessor):
            dims = tuple(preprocessor.embedding_dims)
            if dims != backbone.embedding_dims:
                raise ValueError(
                    "`preprocessor` must give the embeddings that the backbone takes, of "
                    f"{backbone.embedding_dims}. Received: preprocessor with embeddings of {dims}"
                )

        # === Layers ===
        policy = {"dtype": backbone.dtype_policy.variable_dtype}
        features = keras.layers.Dense(dense_units, "relu", name="features", **policy)
        drop = keras.layers.Dropout(dropout, name="head_dropout", **policy)
        logits = keras.layers.Dense(num_labels, name="logits", **policy)
        join = keras.layers.Concatenate(name="join", **policy)

        # === Functional model ===
        inputs = backbone.input
        f = features(backbone(inputs))
        outputs = logits(drop(f))
        super().__init__(inputs, join([outputs, f]) if return_embedding else outputs, **kwargs)

        # === Config ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.num_labels = num_labels
        self.dense_units = dense_units
        self.dropout = dropout
        self.return_embedding = return_embedding

    def preprocess_samples(self, x, y=None, sample_weight=None):
        """What the preprocessor makes of a batch; embeddings that do not fit are refused."""
        # Here and not in the network alone: JAX leaves a model that fails amid `fit` unusable.
        if self.preprocessor is None:
            _check_inputs(x, self.backbone.embedding_dims)
        return super().preprocess_samples(x, y, sample_weight)

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configures the model for training.

        Args:
            optimizer: `"auto"` for Adam with a learning rate of 1e-3, or what Keras takes.
            loss: `"auto"` for `HybridMultiLabelLoss(num_labels)`, or what Keras takes.
            metrics: `"auto"` for `JaccardAccuracy` and `HammingLoss`, or what Keras takes.
            **kwargs: see `keras.Model.compile`.
        """
        # The constructor compiles before it has set the attribute.
        num_labels = self.get_layer("logits").units
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(1e-3)
        if isinstance(loss, str) and loss == "auto":
            loss = HybridMultiLabelLoss(num_labels)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [JaccardAccuracy(num_labels), HammingLoss(num_labels)]
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "dense_units": self.dense_units,
            "dropout": self.dropout,
            "return_embedding": self.return_embedding,
        }


def _check_inputs(x, dims):
    """Raises unless `x` is the backbone's dict."""
    wanted = {f"embedding_{k}": dim for k, dim in enumerate(dims)}
    received = type(x).__name__
    if isinstance(x, dict):
        received = {name: tuple(getattr(part, "shape", ())) for name, part in x.items()}
        if set(received) == {*wanted, "padding_mask"}:
            tokens = received["padding_mask"]
            if len(tokens) == 2 and all(
                received[name] == (*tokens, dim) for name, dim in wanted.items()
            ):
                return
    raise ValueError(
        f"`x` must be a dict of {', '.join(wanted)} of shape (B, T) and {list(wanted.values())}, "
        f"and padding_mask (B, T). Received: {received}"
    )
