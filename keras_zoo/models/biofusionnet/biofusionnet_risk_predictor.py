"""Survival risk with BioFusionNet."""

import keras
from keras_hub.models import Task

from keras_zoo._catalog import component
from keras_zoo.losses import WeightedCoxLoss
from keras_zoo.metrics import ConcordanceIndex
from keras_zoo.models._presets import TaskMixin
from keras_zoo.models.biofusionnet.biofusionnet_backbone import BioFusionNetBackbone


@component(paper="biofusionnet")
class BioFusionNetRiskPredictor(TaskMixin, Task):
    """Log-hazard of each patient: the higher, the earlier the event is expected.

        r = kernel . backbone(x)                       one number, without a bias

    Args:
        backbone: a `BioFusionNetBackbone`.
        preprocessor: None, or a layer or function that `fit`, `predict` and `evaluate` apply to
            the inputs first.
        **kwargs: `name`, and `compile=False` to leave the model uncompiled.

    Inputs: those of the backbone.
    Output: `(B, 1)`, in the backbone's variable dtype.

    Compiled by default with AdamW (learning rate 1e-4, weight decay 0.01), `WeightedCoxLoss` and
    `ConcordanceIndex`; fit it with times and events `(B, 2)` as `y`, in large batches.

    Raises:
        ValueError: `backbone` is not a `BioFusionNetBackbone`.

    Example:
    >>> predictor = keras_zoo.models.BioFusionNetRiskPredictor(
    ...     keras_zoo.models.BioFusionNetBackbone(image_dim=8, num_genes=20, units=16)
    ... )
    >>> patients = {
    ...     "image_features": np.zeros((2, 5, 8)),
    ...     "image_mask": np.ones((2, 5), bool),
    ...     "gene_expression": np.zeros((2, 20)),
    ...     "clinical": np.zeros((2, 4)),
    ... }
    >>> predictor.predict(patients, verbose=0).shape
    (2, 1)

    Reference: arXiv:2402.10717; github.com/raktim-mondol/BioFusionNet, `train_risk_model.py`.
    Differs from the official code, which orders the batch by score: see `WeightedCoxLoss`.
    """

    backbone_cls = BioFusionNetBackbone

    def __init__(self, backbone, preprocessor=None, **kwargs):
        if not isinstance(backbone, BioFusionNetBackbone):
            raise ValueError(
                f"`backbone` must be a BioFusionNetBackbone. Received: backbone={backbone!r}"
            )

        # === Functional model ===
        risk = keras.layers.Dense(
            1, use_bias=False, dtype=backbone.dtype_policy.variable_dtype, name="risk"
        )
        inputs = backbone.input
        super().__init__(inputs, risk(backbone(inputs)), **kwargs)

        # === Config ===
        self.backbone = backbone
        self.preprocessor = preprocessor

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configures the model for training.

        Args:
            optimizer: `"auto"` for AdamW with a learning rate of 1e-4 and a weight decay of 0.01,
                or what Keras takes.
            loss: `"auto"` for `WeightedCoxLoss()`, or what Keras takes.
            metrics: `"auto"` for `ConcordanceIndex()`, or what Keras takes.
            **kwargs: see `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.AdamW(1e-4, weight_decay=0.01)
        if isinstance(loss, str) and loss == "auto":
            loss = WeightedCoxLoss()
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [ConcordanceIndex()]
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
