"""Denoising of images of any size with DnCNN."""

import numbers

import keras
import numpy as np
from keras import ops
from keras_hub.models import Task

from keras_zoo._catalog import component
from keras_zoo.models._presets import TaskMixin
from keras_zoo.models.dncnn.dncnn_backbone import DnCNNBackbone

# No noise lifts an image of [0, 1] this far; one of [0, 255] lies beyond it.
_LARGEST_FLOAT = 16.0


@component(paper="weighted-conv")
class DnCNNDenoiser(TaskMixin, Task):
    """Removes noise from images: predicts the noise, and returns image minus noise.

        denoised = x - backbone(x)                                 (H, W, C)

    Images are floats in [0, 1], or integers from 0 to 255, which are divided by 255 on their way
    in, in `fit` also as targets. The model itself returns floats, unclipped; `denoise` returns
    what it was given.

    Args:
        backbone: a `DnCNNBackbone`.
        preprocessor: None, or a layer or function that `fit`, `predict`, `evaluate` and `denoise`
            apply to the images first.
        **kwargs: `name`, and `compile=False` to leave the model uncompiled.

    Inputs: `(batch, height, width, channels)`.
    Output: the denoised images, of the same shape, in the backbone's variable dtype.

    Compiled by default with Adam (learning rate 1e-3) and the mean squared error; fit it with
    noisy images as `x` and clean ones as `y`.

    Raises:
        ValueError: `backbone` is not a `DnCNNBackbone`.

    Example:
    >>> backbone = keras_zoo.models.DnCNNBackbone(num_layers=5, filters=16, kernel_size=7)
    >>> denoiser = keras_zoo.models.DnCNNDenoiser(backbone)
    >>> photograph = np.zeros((480, 640, 3), "uint8")
    >>> denoiser.denoise(photograph, tile=256).shape
    (480, 640, 3)

    Reference: arXiv:2505.24558; arXiv:1608.03981.
    """

    backbone_cls = DnCNNBackbone

    def __init__(self, backbone, preprocessor=None, **kwargs):
        if not isinstance(backbone, DnCNNBackbone):
            raise ValueError(f"`backbone` must be a DnCNNBackbone. Received: backbone={backbone!r}")

        # === Functional model ===
        # The difference is taken at the precision of the variables: at that of float16 it would
        # cost more than a dark pixel's own value.
        subtract = keras.layers.Subtract(
            dtype=backbone.dtype_policy.variable_dtype, name="denoised"
        )
        inputs = backbone.input
        super().__init__(inputs, subtract([inputs, backbone(inputs)]), **kwargs)

        # === Config ===
        self.backbone = backbone
        self.preprocessor = preprocessor

    def call(self, inputs, training=None, mask=None):
        """Denoises a batch; integers are read as 0 to 255."""
        return super().call(_unit_range(inputs), training=training, mask=mask)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Loss with integer targets read as 0 to 255, like the inputs."""
        return super().compute_loss(x, _unit_range(y), y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Metrics, likewise."""
        return super().compute_metrics(x, _unit_range(y), y_pred, sample_weight)

    def compile(self, optimizer="auto", loss="auto", **kwargs):
        """Configures the model for training.

        Args:
            optimizer: `"auto"` for Adam with a learning rate of 1e-3, or what Keras takes.
            loss: `"auto"` for the mean squared error, or what Keras takes.
            **kwargs: see `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(1e-3)
        if isinstance(loss, str) and loss == "auto":
            loss = keras.losses.MeanSquaredError()
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def denoise(self, image, tile=None, verbose=1):
        """Denoises one image or a stack of them, of any size.

        A model of one channel takes colour images apart and denoises each channel by itself.

        Args:
            image: array `(H, W)`, `(H, W, C)` or `(N, H, W, C)` of floats in [0, 1] or integers
                from 0 to 255.
            tile: None for whole images, or an int: the side in pixels of the squares that are
                denoised at a time, with as many pixels around them as the network looks at. Use it
                for photographs whose feature maps would not fit in memory; the result is the same.
            verbose: 0 or 1. Whether to show the progress where there are tiles.

        Returns:
            Array of the shape and dtype of `image`. Integers are rounded and kept within 0 to 255;
            floats are left as they come, so the noise in the corners of the range may leave them
            slightly outside of [0, 1].

        Raises:
            ValueError: another rank or number of channels, an empty image, a dtype that is neither
                float nor integer, values that cannot be of the stated range, or a `tile` that is
                not a positive int.
        """
        image = _checked_image(image, self.backbone.image_shape)
        if tile is not None and (
            isinstance(tile, bool) or not isinstance(tile, numbers.Integral) or tile < 1
        ):
            raise ValueError(f"`tile` must be a positive int or None. Received: tile={tile!r}")
        integers = image.dtype.kind in "iu"
        stack = image.astype("float32") / (255 if integers else 1)
        # (H, W) and (H, W, C) become (1, H, W, C).
        stack = stack[..., None] if image.ndim == 2 else stack
        stack = stack if image.ndim == 4 else stack[None]
        out = np.stack(self._denoise_each(stack, tile, verbose)).reshape(image.shape)
        if integers:
            out = np.clip(np.rint(255 * out), 0, 255)
        return out.astype(image.dtype)

    def _denoise_each(self, stack, tile, verbose):
        """The denoised images of `(N, H, W, C)`, one after the other."""
        height, width, channels = stack.shape[1:]
        radius = self.backbone.receptive_radius
        rows = list(_windows(height, tile or height, radius))
        columns = list(_windows(width, tile or width, radius))
        total = len(stack) * len(rows) * len(columns)
        bar = keras.utils.Progbar(total, unit_name="tile") if verbose and total > 1 else None
        apart = channels != self.backbone.image_shape[2]
        results = []
        for image in stack:
            batch = np.moveaxis(image, -1, 0)[..., None] if apart else image[None]
            out = np.empty_like(batch)
            for row_in, row in rows:
                for column_in, column in columns:
                    part = self.predict_on_batch(batch[:, row_in, column_in])
                    part = np.asarray(ops.convert_to_numpy(part), "float32")
                    top, left = row.start - row_in.start, column.start - column_in.start
                    out[:, row, column] = part[
                        :,
                        top : top + row.stop - row.start,
                        left : left + column.stop - column.start,
                    ]
                    if bar:
                        bar.add(1)
            results.append(np.moveaxis(out[..., 0], 0, -1) if apart else out[0])
        return results


def _unit_range(x):
    """Integers divided by 255, as floats; anything else as it is."""
    if x is None or not keras.backend.is_int_dtype(keras.backend.standardize_dtype(x.dtype)):
        return x
    return ops.cast(x, keras.config.floatx()) / 255


def _windows(length, tile, radius):
    """Pairs of slices along one axis: what is fed to the network, and what of it is kept.

    What is kept lies at least `radius` away from every side of its window that is not a side of
    the image; so the padding at that side does not reach it. All windows are of one length, since
    each new one would be compiled anew.
    """
    size = min(tile + 2 * radius, length)
    for begin in range(0, length, tile):
        start = min(max(begin - radius, 0), length - size)
        yield slice(start, start + size), slice(begin, min(begin + tile, length))


def _checked_image(image, image_shape):
    """The image as an array, if it is one that the model can denoise."""
    image = np.asarray(ops.convert_to_numpy(image) if ops.is_tensor(image) else image)
    what = f"Received: an array of shape {image.shape} and dtype {image.dtype}"
    if image.ndim not in (2, 3, 4):
        raise ValueError(f"`image` must be (H, W), (H, W, C) or (N, H, W, C). {what}")
    if image.dtype.kind not in "fiu":
        raise ValueError(f"`image` must hold floats in [0, 1] or integers from 0 to 255. {what}")
    if 0 in image.shape:
        raise ValueError(f"`image` must not be empty. {what}")
    height, width, channels = image_shape
    if channels != 1 and (image.ndim == 2 or image.shape[-1] != channels):
        raise ValueError(f"`image` must have {channels} channels, as the model has. {what}")
    sides = image.shape[:2] if image.ndim < 4 else image.shape[1:3]
    if any(want not in (None, have) for want, have in zip((height, width), sides, strict=True)):
        raise ValueError(
            f"`image` must be of {height} x {width} pixels, as the model's `image_shape`. {what}"
        )
    low, high = np.min(image), np.max(image)
    if image.dtype.kind in "iu" and (low < 0 or high > 255):
        raise ValueError(
            f"`image` of integers must lie within 0 to 255. {what}, from {low} to {high}"
        )
    if image.dtype.kind == "f" and max(-low, high) > _LARGEST_FLOAT:
        raise ValueError(
            "`image` of floats must lie in [0, 1], but for the noise; divide by 255 first. "
            f"{what}, from {low} to {high}"
        )
    return image
