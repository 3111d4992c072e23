"""Polarity and domain of texts."""

import keras
from keras import ops
from keras_hub.models import Task

from keras_zoo._catalog import component
from keras_zoo.losses import MarginLoss
from keras_zoo.models._presets import TaskMixin
from keras_zoo.models.weighted_capsnet.weighted_capsule_ensemble import WeightedCapsuleEnsemble
from keras_zoo.models.weighted_capsnet.weighted_capsule_text_classifier_preprocessor import (
    WeightedCapsuleTextClassifierPreprocessor,
)

LEARNING_RATE = 2e-3  # of Adam, where "auto" decides


@component(paper="weighted-capsnet")
class WeightedCapsuleTextClassifier(TaskMixin, Task):
    """Says of texts what they think of a thing, and which domain they are of.

    Args:
        backbone: a `WeightedCapsuleEnsemble` of members that take texts of any length.
        preprocessor: None, a `WeightedCapsuleTextClassifierPreprocessor`, with which `fit`,
            `predict` and `evaluate` take texts, or a layer or function that they apply to the
            inputs first.
        **kwargs: `name`, and `compile=False` to leave the model uncompiled.

    Inputs: int ids of words `(B, T)`; with the preprocessor, texts.
    Output: dict of

    - `polarity`: int `(B,)`, the class of the greatest score.
    - `scores`: float `(B, num_classes)`, those of the ensemble.
    - `domain`: int `(B,)`, the domain of the greatest weight.
    - `domain_weights`: float `(B, D)`, how much a text belongs to each domain; sum 1.

    `fit_members` is the paper's training. `fit` goes on from there with all members together; its
    loss and metrics compare `y`, int `(B,)`, with the scores. Like that of all tasks of keras-hub,
    `fit` takes examples in their order.

    Compiled by default with Adam (learning rate 2e-3), `MarginLoss` and the accuracy of polarity.

    Raises:
        ValueError: `backbone` is no ensemble, or has fewer ids than the preprocessor.

    Example:
    >>> texts = ["good phone", "bad phone", "good film", "bad film"]
    >>> prepare = keras_zoo.models.WeightedCapsuleTextClassifierPreprocessor(sequence_length=6)
    >>> prepare.adapt(texts)
    >>> members = [keras_zoo.models.CapsuleTextClassifier(prepare.vocabulary_size, 2) for _ in "ab"]
    >>> belonging = keras_zoo.layers.DomainBelongingDegree(2, prepare.vocabulary_size)
    >>> classifier = keras_zoo.models.WeightedCapsuleTextClassifier(
    ...     keras_zoo.models.WeightedCapsuleEnsemble(members, belonging), preprocessor=prepare
    ... )
    >>> histories = classifier.fit_members(texts, [1, 0, 1, 0], [0, 0, 1, 1], verbose=0)
    >>> found = classifier.predict(["A good film!"], verbose=0)
    >>> found["domain"].tolist(), found["scores"].shape, found["domain_weights"].shape
    ([1], (1, 2), (1, 2))

    Reference: arXiv:2306.17068, of which no code is public.
    """

    backbone_cls = WeightedCapsuleEnsemble
    preprocessor_cls = WeightedCapsuleTextClassifierPreprocessor

    def __init__(self, backbone, preprocessor=None, **kwargs):
        if not isinstance(backbone, WeightedCapsuleEnsemble):
            raise ValueError(
                f"`backbone` must be a WeightedCapsuleEnsemble. Received: backbone={backbone!r}"
            )
        size = backbone.belonging.vocabulary_size
        if (
            isinstance(preprocessor, WeightedCapsuleTextClassifierPreprocessor)
            and preprocessor.vocabulary_size > size
        ):
            raise ValueError(
                f"`preprocessor` must have at most the {size} ids of the backbone. "
                f"Received: preprocessor of {preprocessor.vocabulary_size} ids"
            )

        # === Functional model ===
        ids = keras.Input((None,), dtype="int32", name="token_ids")
        scores, weights = backbone(ids), backbone.belonging(ids)
        outputs = {
            "polarity": ops.argmax(scores, axis=-1),
            "scores": scores,
            "domain": ops.argmax(weights, axis=-1),
            "domain_weights": weights,
        }
        super().__init__(ids, outputs, **kwargs)

        # === Config ===
        self.backbone = backbone
        self.preprocessor = preprocessor

    def fit_members(self, x, y, domains, **fit_kwargs):
        """Fits each member of the ensemble to the texts of its domain.

        Members that are not compiled are compiled as the classifier is by default.

        Args:
            x: texts, or ids `(N, T)` without a preprocessor.
            y: int `(N,)`, polarity.
            domains: int `(N,)`, in `[0, D)`. Each must occur.
            **fit_kwargs: of the members' `fit`, which shuffles; `sample_weight` is `(N,)`.

        Returns:
            List of a dict for each member, the `history` of its `fit`.

        Raises:
            ValueError: lengths differ, or a domain is out of range or without texts. Nothing has
                changed then.
        """
        if self.preprocessor is not None:
            x = self.preprocessor(x)
        self.backbone._checked_examples(x, y, domains, fit_kwargs.get("sample_weight"))
        for member in self.backbone.members:
            if not getattr(member, "compiled", False):
                member.compile(keras.optimizers.Adam(LEARNING_RATE), MarginLoss())
        return self.backbone.fit_members(x, y, domains, **fit_kwargs)

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configures the model for training.

        Args:
            optimizer: `"auto"` for Adam with a learning rate of 2e-3, or what Keras takes.
            loss: `"auto"` for `MarginLoss`, or a loss of the scores.
            metrics: `"auto"` for the accuracy, or a list of metrics of the scores.
            **kwargs: see `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(LEARNING_RATE)
        if isinstance(loss, str) and loss == "auto":
            loss = MarginLoss()
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of the scores."""
        scores = None if y_pred is None else y_pred["scores"]
        return super().compute_loss(x, y, scores, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The metrics of the scores."""
        return super().compute_metrics(x, y, y_pred["scores"], sample_weight)
