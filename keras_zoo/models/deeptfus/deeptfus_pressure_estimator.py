"""Pressure fields of focused ultrasound with DeepTFUS."""

import keras
import numpy as np
from keras import ops
from keras_hub.models import Task

from keras_zoo._catalog import component
from keras_zoo.losses import PressureFieldLoss
from keras_zoo.metrics import FocalPositionError, MaxPressureError, RelativeL2Error
from keras_zoo.models._presets import TaskMixin
from keras_zoo.models.deeptfus.deeptfus_backbone import DeepTFUSBackbone, check_sides
from keras_zoo.models.deeptfus.deeptfus_pressure_estimator_preprocessor import (
    DeepTFUSPressureEstimatorPreprocessor,
)


@component(paper="deeptfus")
class DeepTFUSPressureEstimator(TaskMixin, Task):
    """Estimates the steady pressure field of a transducer in a head, from CT and its position.

        log(1 + p / max p) = conv1x1x1(backbone(images, transducer_points))        (D, H, W, 1)

    Args:
        backbone: a `DeepTFUSBackbone`.
        preprocessor: None, a `DeepTFUSPressureEstimatorPreprocessor`, or a layer or function that
            `fit`, `predict`, `evaluate` and `predict_pressure` apply to the inputs first. With the
            former they take Hounsfield units, voxel indices and pressure as they come.
        **kwargs: `name`, and `compile=False` to leave the model uncompiled.

    Inputs: those of the backbone.
    Output: `(B, D, H, W, 1)`, float32 whatever the policy (float64 under that one).

    Compiled by default with Adam (learning rate 1e-3), `PressureFieldLoss`, and relative L2, focal
    position (in voxels) and peak pressure errors.

    Raises:
        ValueError: `backbone` is not a `DeepTFUSBackbone`.

    Example:
    >>> backbone = keras_zoo.models.DeepTFUSBackbone(
    ...     (16, 16, 16, 1), filters=(8, 16), units=32, attention_levels=(1,))
    >>> preprocessor = keras_zoo.models.DeepTFUSPressureEstimatorPreprocessor()
    >>> estimator = keras_zoo.models.DeepTFUSPressureEstimator(backbone, preprocessor)
    >>> points = np.random.randint(0, 16, (2, 128, 3))
    >>> x = {"images": np.zeros((2, 16, 16, 16)), "transducer_points": points}
    >>> estimator.predict_pressure(x).shape
    (2, 16, 16, 16)

    Reference: arXiv:2505.12998. No official code of the network is public.
    """

    backbone_cls = DeepTFUSBackbone
    preprocessor_cls = DeepTFUSPressureEstimatorPreprocessor

    def __init__(self, backbone, preprocessor=None, **kwargs):
        if not isinstance(backbone, DeepTFUSBackbone):
            raise ValueError(
                f"`backbone` must be a DeepTFUSBackbone. Received: backbone={backbone!r}"
            )

        # === Functional model ===
        double = backbone.dtype_policy.compute_dtype == "float64"
        head = keras.layers.Conv3D(
            1,
            1,
            data_format="channels_last",
            dtype="float64" if double else "float32",
            name="pressure",
        )
        inputs = backbone.input
        super().__init__(inputs, head(backbone(inputs)), **kwargs)

        # === Config ===
        self.backbone = backbone
        self.preprocessor = preprocessor

    def preprocess_samples(self, x, y=None, sample_weight=None):
        """What the preprocessor makes of a batch; sides that do not fit are refused."""
        # Here and not in the network alone: JAX leaves a model that fails amid `fit` unusable.
        if isinstance(x, dict) and "images" in x:
            check_sides("images", x["images"].shape[1:4], self.backbone.stride)
        return super().preprocess_samples(x, y, sample_weight)

    def predict_pressure(self, x, batch_size=None):
        """The pressure of each voxel as a share of the field's peak, `(B, D, H, W)`, as numpy.

        What `predict` gives, without the logarithm; an estimate's own peak need not be 1.

        Args:
            x: what `predict` takes.
            batch_size: int, or None for 32.
        """
        logs = self.predict(x, batch_size=batch_size, verbose=0)
        return np.expm1(ops.convert_to_numpy(logs)[..., 0])

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configures the model for training.

        Args:
            optimizer: `"auto"` for Adam with a learning rate of 1e-3, or what Keras takes.
            loss: `"auto"` for `PressureFieldLoss`, or what Keras takes.
            metrics: `"auto"` for `RelativeL2Error`, `FocalPositionError(1.0)` and
                `MaxPressureError`, or what Keras takes.
            **kwargs: see `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(1e-3)
        if isinstance(loss, str) and loss == "auto":
            loss = PressureFieldLoss()
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [RelativeL2Error(), FocalPositionError(1.0), MaxPressureError()]
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
