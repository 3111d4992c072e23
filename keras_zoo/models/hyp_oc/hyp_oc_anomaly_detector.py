"""Scores of how little an input is like what Hyp-OC was trained on."""

import keras
from keras_hub.models import Task

from keras_zoo._catalog import component
from keras_zoo.layers import HyperbolicMLR
from keras_zoo.models._presets import TaskMixin
from keras_zoo.models.hyp_oc.hyp_oc_backbone import HypOCBackbone
from keras_zoo.trainers import HypOC


@component(paper="hyp-oc")
class HypOCAnomalyDetector(TaskMixin, Task):
    """Tells what is genuine from all else, by a hyperplane of the Poincare ball.

        logits = HyperbolicMLR(2)(backbone(x))            (N, 2), of genuine and of other
        score  = softmax(logits)[:, 1]                    (N,)

    `keras_zoo.trainers.HypOC` learns it from genuine examples alone, and `from_trainer` makes it of
    such a trainer. Its own `fit(x, y)` is a plain classifier's, for who has both kinds.

    Args:
        backbone: a `HypOCBackbone`.
        preprocessor: None, or a layer or function that `fit`, `predict`, `evaluate` and
            `predict_score` apply to the inputs first.
        **kwargs: `name`, and `compile=False` to leave the model uncompiled.

    Inputs: those of the backbone's encoder.
    Output: logits `(N, 2)`, float32 under the policies of half precision as well.

    Compiled by default with Adam (learning rate 1e-4) and the cross-entropy of labels 0 (genuine)
    and 1.

    Raises:
        ValueError: `backbone` is not a `HypOCBackbone`.

    Example:
    >>> encoder = keras.Sequential([keras.Input((25, 25)), keras.layers.Flatten()])
    >>> trainer = keras_zoo.trainers.HypOC(encoder, hidden_units=(64, 16))
    >>> trainer.compile("adam")
    >>> history = trainer.fit(np.random.rand(32, 25, 25), verbose=0)
    >>> detector = keras_zoo.models.HypOCAnomalyDetector.from_trainer(trainer)
    >>> detector.predict_score(np.random.rand(5, 25, 25)).shape
    (5,)

    Reference: arXiv:2404.14406; github.com/Kartik-3004/hyp-oc.
    """

    backbone_cls = HypOCBackbone

    def __init__(self, backbone, preprocessor=None, **kwargs):
        if not isinstance(backbone, HypOCBackbone):
            raise ValueError(f"`backbone` must be a HypOCBackbone. Received: backbone={backbone!r}")

        # === Functional model ===
        classifier = HyperbolicMLR(
            2, backbone.curvature, dtype=backbone.dtype_policy, name="classifier"
        )
        inputs = backbone.input
        super().__init__(inputs, classifier(backbone(inputs)), **kwargs)

        # === Config ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.classifier = classifier

    @classmethod
    def from_trainer(cls, trainer, **kwargs):
        """The detector that a `keras_zoo.trainers.HypOC` has learnt.

        Args:
            trainer: a built `HypOC`, whose encoder is such as `HypOCBackbone` takes. The encoder,
                and an embedding that it was given, are shared; all else is copied.
            **kwargs: as the constructor's.

        Raises:
            ValueError: `trainer` is not a built `HypOC`, or has another kind of encoder.
        """
        if not isinstance(trainer, HypOC) or not trainer.built:
            raise ValueError(f"`trainer` must be a built `HypOC`. Received: trainer={trainer!r}")
        config = trainer.get_config()
        given = {} if config["embedding"] is None else {"embedding": trainer.embedding}
        backbone = HypOCBackbone(
            trainer.encoder,
            hidden_units=trainer.hidden_units,
            curvature=trainer.curvature,
            clip_radius=trainer.clip_radius,
            dtype=trainer.dtype_policy,
            **given,
        )
        detector = cls(backbone, **kwargs)
        backbone.embedding.set_weights(trainer.embedding.get_weights())
        backbone.to_ball.set_weights(trainer.to_ball.get_weights())
        detector.classifier.set_weights(trainer.classifier.get_weights())
        return detector

    predict_score = HypOC.predict_score

    def compile(self, optimizer="auto", loss="auto", **kwargs):
        """Configures the model for training on both kinds.

        Args:
            optimizer: `"auto"` for Adam with a learning rate of 1e-4, or what Keras takes.
            loss: `"auto"` for the cross-entropy of labels 0 and 1, or what Keras takes.
            **kwargs: see `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(1e-4)
        if isinstance(loss, str) and loss == "auto":
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
