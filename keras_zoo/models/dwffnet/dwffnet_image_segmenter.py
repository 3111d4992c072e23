"""Semantic segmentation of images of any size with DWFF-Net."""

import keras
import numpy as np
from keras import ops
from keras_hub.models import ImageSegmenter

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_number, check_rate
from keras_zoo.layers._group_norm import group_norm
from keras_zoo.losses import DiceFocalLoss
from keras_zoo.models._presets import TaskMixin
from keras_zoo.models._tiling import blended_rows, count_batches
from keras_zoo.models.dwffnet.dwffnet_backbone import DWFFNetBackbone
from keras_zoo.models.dwffnet.dwffnet_image_segmenter_preprocessor import (
    DWFFNetImageSegmenterPreprocessor,
)

PATCH_SIZE = 16
OUTPUTS = ("classes", "scores")


@component(paper="dwff-net")
class DWFFNetImageSegmenter(TaskMixin, ImageSegmenter):
    """A class for every pixel, from features of several depths of a frozen vision transformer.

    With `F1, F2 = decoder_filters`, `K = num_classes`, GN group normalisation:

        block(x, F, r) = relu(GN(conv3x3(dropout(relu(GN(conv3x3(x))), r))))    conv without bias
        x      = backbone(images)                                 (H / 16, W / 16, F)
        x      = up4(block(x, F1, dropout))                       (H / 4, W / 4, F1)
        x      = up4(block(x, F2, dropout / 2))                   (H, W, F2)
        scores = activation(conv1x1(x))                           (H, W, K)

    `up4` is bilinear doubling done twice; dropout drops whole channels.

    Args:
        backbone: a `DWFFNetBackbone` whose encoder has patches of 16 pixels.
        num_classes: int `K`.
        preprocessor: None, a `DWFFNetImageSegmenterPreprocessor`, or a layer or function that
            `fit`, `predict`, `evaluate` and `segment` apply to the images first.
        decoder_filters: two ints.
        dropout: float in [0, 1).
        activation: None for logits, or "softmax" for probabilities.
        **kwargs: `name`, and `compile=False` to leave the model uncompiled.

    Inputs: `(N, H, W, 3)`, or `(N, 3, H, W)` if the encoder reads such, of the encoder's image
    size; `segment` takes any.
    Output: `(N, H, W, K)`, float32 whatever the policy (float64 under that one).

    Compiled by default with AdamW (learning rate 1e-4, weight decay 0.04), `DiceFocalLoss` and
    accuracy; fit it with class ids `(N, H, W)` as `y`. Keras's own metrics measure it:

        MeanIoU(K, sparse_y_pred=False)                           mean over all classes
        IoU(K, range(1, K), sparse_y_pred=False)                  without class 0, as in the paper
        [IoU(K, [k], sparse_y_pred=False, name=f"iou_{k}") for k in range(K)]    each class

    Raises:
        ValueError: an argument is out of its range; `backbone` is not a `DWFFNetBackbone` with
            patches of 16 pixels.

    Example:
    >>> encoder = keras_hub.models.DINOV3Backbone(
    ...     patch_size=16, num_layers=4, hidden_dim=64, num_heads=4, intermediate_dim=128,
    ...     image_shape=(64, 64, 3))
    >>> backbone = keras_zoo.models.DWFFNetBackbone(encoder, (1, 3, -1), fusion_filters=32)
    >>> segmenter = keras_zoo.models.DWFFNetImageSegmenter(backbone, 5, decoder_filters=(32, 16))
    >>> segmenter.predict(np.zeros((2, 64, 64, 3)), verbose=0).shape
    (2, 64, 64, 5)
    >>> segmenter.segment(np.zeros((150, 200, 3)), verbose=0).shape
    (150, 200)

    Reference: arXiv:2511.11659; github.com/sysau/DWFF-Net. Differs from the official code: none in
    the network; training there adds a cosine schedule, crops of 1248 pixels and early stopping.
    """

    backbone_cls = DWFFNetBackbone
    preprocessor_cls = DWFFNetImageSegmenterPreprocessor

    def __init__(
        self,
        backbone,
        num_classes,
        preprocessor=None,
        decoder_filters=(256, 128),
        dropout=0.2,
        activation=None,
        **kwargs,
    ):
        if not isinstance(backbone, DWFFNetBackbone) or backbone.patch_size != PATCH_SIZE:
            raise ValueError(
                f"`backbone` must be a DWFFNetBackbone with patches of {PATCH_SIZE} pixels. "
                f"Received: backbone={backbone!r}"
            )
        num_classes = check_count("num_classes", num_classes)
        if not isinstance(decoder_filters, (list, tuple)) or len(decoder_filters) != 2:
            raise ValueError(
                "`decoder_filters` must be two positive integers. "
                f"Received: decoder_filters={decoder_filters!r}"
            )
        decoder_filters = tuple(check_count("decoder_filters", f) for f in decoder_filters)
        check_rate("dropout", dropout)
        if activation not in (None, "linear", "softmax"):
            raise ValueError(
                f'`activation` must be None or "softmax". Received: activation={activation!r}'
            )

        # === Functional model ===
        policy = backbone.dtype_policy
        x = backbone(backbone.input)
        x = _upsample(_block(x, decoder_filters[0], dropout, policy, "block_1"), policy, "up_1")
        x = _upsample(_block(x, decoder_filters[1], dropout / 2, policy, "block_2"), policy, "up_2")
        logits = keras.layers.Conv2D(
            num_classes, 1, data_format="channels_last", dtype=policy, name="logits"
        )(x)
        scores = keras.layers.Activation(
            activation,
            dtype="float64" if policy.compute_dtype == "float64" else "float32",
            name="scores",
        )(logits)
        super().__init__(backbone.input, scores, **kwargs)

        # === Config ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.num_classes = num_classes
        self.decoder_filters = decoder_filters
        self.dropout = dropout
        self.activation = activation

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configures the model for training.

        Args:
            optimizer: `"auto"` for AdamW with a learning rate of 1e-4 and a weight decay of 0.04,
                or what Keras takes.
            loss: `"auto"` for `DiceFocalLoss`, or what Keras takes.
            metrics: `"auto"` for the accuracy over pixels, or what Keras takes.
            **kwargs: see `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.AdamW(1e-4, weight_decay=0.04)
        if isinstance(loss, str) and loss == "auto":
            # From the layer: the base class compiles before `activation` is set.
            softmax = self.get_layer("scores").activation is keras.activations.softmax
            loss = DiceFocalLoss(from_logits=not softmax)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [keras.metrics.SparseCategoricalAccuracy()]
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def segment(self, image, overlap=0.5, batch_size=4, output="classes", verbose=1):
        """Segments one image of any size, in tiles of the model's size that leave no seams.

        Tiles overlap and fade into one another; at the sides the image is continued by reflection.
        An image of the model's own size is one tile, and gets what `predict` gives. Of a larger one
        only a row of tiles and the result are held, so `np.memmap` arrays are welcome.

        Args:
            image: array `(H, W, C)` of the values that `predict` takes.
            overlap: float in [0, 0.5]: what neighbouring tiles share, as a part of their side. 0
                is the fastest, with seams; at 0.5 most pixels are seen by four tiles.
            batch_size: int, tiles predicted at a time.
            output: "classes", or "scores" for what the tiles' outputs add up to.
            verbose: 0 or 1. Whether to show the progress where there are several batches of tiles.

        Returns:
            Class ids `(H, W)` in the smallest unsigned dtype that holds them, or scores
            `(H, W, K)`, float32.

        Raises:
            ValueError: an argument is out of its range; `image` is no `(H, W, C)` of numbers with
                the encoder's number of channels.
        """
        image = np.asarray(image)
        channels_first = self.backbone.data_format == "channels_first"
        shape = self.backbone.image_shape
        (*tile, channels) = (*shape[1:], shape[0]) if channels_first else shape
        if image.ndim != 3 or image.dtype.kind not in "fiub" or 0 in image.shape:
            raise ValueError(
                "`image` must be `(H, W, C)`, of numbers. "
                f"Received: image of shape {image.shape}, {image.dtype}"
            )
        if image.shape[2] != channels:
            raise ValueError(
                f"`image` must have {channels} channels. Received: image of shape {image.shape}"
            )
        if not 0 <= check_number("overlap", overlap) <= 0.5:
            raise ValueError(f"`overlap` must be in [0, 0.5]. Received: overlap={overlap}")
        batch_size = check_count("batch_size", batch_size)
        check_choice("output", output, OUTPUTS)

        batches = count_batches(image.shape[:2], tile, overlap, batch_size)
        bar = keras.utils.Progbar(batches, unit_name="batch") if verbose and batches > 1 else None

        def predict(tiles):
            scores = self.predict_on_batch(np.moveaxis(tiles, -1, 1) if channels_first else tiles)
            if bar:
                bar.add(1)
            return np.asarray(ops.convert_to_numpy(scores), "float32")

        classes = output == "classes"
        dtype = np.min_scalar_type(self.num_classes - 1) if classes else "float32"
        result = np.empty(image.shape[:2] + (() if classes else (self.num_classes,)), dtype)
        for rows, scores in blended_rows(predict, image, tile, overlap, batch_size):
            result[rows] = np.argmax(scores, axis=-1) if classes else scores
        return result

    def level_weights(self, images, batch_size=32):
        """How much each level of the encoder counts in images, `(N, L)`.

        Args:
            images: what `predict` takes.
            batch_size: int.
        """
        images = self.preprocess_samples(images)
        model = keras.Model(self.backbone.input, self.backbone.level_weights)
        weights = model.predict(images, batch_size=batch_size, verbose=0)
        return np.asarray(weights, "float32")

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "decoder_filters": list(self.decoder_filters),
            "dropout": self.dropout,
            "activation": self.activation,
        }


def _block(x, filters, dropout, dtype, name):
    """Two convolutions with norm and ReLU, dropout between them."""
    kwargs = {"dtype": dtype}
    for step in (1, 2):
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            name=f"{name}_conv_{step}",
            **kwargs,
        )(x)
        x = group_norm(filters, name=f"{name}_norm_{step}", **kwargs)(x)
        x = keras.layers.ReLU(name=f"{name}_relu_{step}", **kwargs)(x)
        if step == 1:
            x = keras.layers.SpatialDropout2D(
                dropout, data_format="channels_last", name=f"{name}_dropout", **kwargs
            )(x)
    return x


def _upsample(x, dtype, name):
    """Twice as large, twice."""
    for step in (1, 2):
        x = keras.layers.UpSampling2D(
            2,
            data_format="channels_last",
            interpolation="bilinear",
            dtype=dtype,
            name=f"{name}_{step}",
        )(x)
    return x
