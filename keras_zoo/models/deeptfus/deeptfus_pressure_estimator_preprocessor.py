"""What DeepTFUS does to CT volumes, transducers and pressure fields before it sees them."""

from keras import ops
from keras import utils as keras_utils
from keras_hub.models import Preprocessor

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.models.deeptfus.deeptfus_backbone import DeepTFUSBackbone


@component(paper="deeptfus")
class DeepTFUSPressureEstimatorPreprocessor(Preprocessor):
    """Scales CT volumes, a transducer's voxels and pressure fields as the network takes them.

        images             HU / hu_max, kept within [0, 1]                (D, H, W, 1)
        transducer_points  2 index / (side - 1) - 1 along each axis       (N, 3)
        pressure           log(1 + p / max p), with log 2 at the peak     (D, H, W)

    Args:
        hu_max: positive float, the Hounsfield units that become 1.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`. All is worked out in float32.

    Inputs: `x`, a dict of `images` `(B, D, H, W)` or `(B, D, H, W, 1)` in Hounsfield units and
    `transducer_points` `(B, N, 3)`, voxel indices that need not be whole; `y`, pressure
    `(B, D, H, W)` or `(B, D, H, W, 1)`, or None; `sample_weight`, handed on.
    Output: `x`, `(x, y)` or `(x, y, sample_weight)`. A field of zeros stays one.

    Raises:
        ValueError: `hu_max` is not positive; `x` or `y` is not such.

    Example:
    >>> preprocessor = keras_zoo.models.DeepTFUSPressureEstimatorPreprocessor()
    >>> points = np.array([[[0, 0, 0], [7, 7, 7]]])
    >>> x = preprocessor({"images": np.zeros((1, 8, 8, 8)), "transducer_points": points})
    >>> np.asarray(x["transducer_points"])[0, 1].tolist()
    [1.0, 1.0, 1.0]

    Reference: arXiv:2505.12998, section 4.
    """

    backbone_cls = DeepTFUSBackbone

    def __init__(self, hu_max=2000.0, **kwargs):
        hu_max = check_number("hu_max", hu_max, positive=True)
        super().__init__(**kwargs)
        self.hu_max = hu_max

    def call(self, x, y=None, sample_weight=None):
        """The scaled arrays."""
        images, points = _checked_inputs(x)
        sides = ops.cast(ops.stack(ops.shape(images)[1:4]), "float32")
        x = {
            "images": ops.clip(images / self.hu_max, 0.0, 1.0),
            "transducer_points": 2 * points / ops.maximum(sides - 1, 1) - 1,
        }
        if y is not None:
            y = ops.cast(y, "float32")
            if len(y.shape) not in (4, 5):
                raise ValueError(
                    "`y` must be pressure `(B, D, H, W)` or `(B, D, H, W, 1)`. "
                    f"Received: y of shape {tuple(y.shape)}"
                )
            peak = ops.amax(y, axis=tuple(range(1, len(y.shape))), keepdims=True)
            y = ops.log1p(ops.divide_no_nan(y, peak))
        return keras_utils.pack_x_y_sample_weight(x, y, sample_weight)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "hu_max": self.hu_max}


def _checked_inputs(x):
    """Images `(B, D, H, W, 1)` and points `(B, N, 3)`, in float32."""
    named = isinstance(x, dict) and set(x) == {"images", "transducer_points"}
    if not named:
        received = sorted(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(
            f"`x` must be a dict of `images` and `transducer_points`. Received: {received}"
        )
    images, points = (ops.cast(x[name], "float32") for name in ("images", "transducer_points"))
    if len(images.shape) not in (4, 5) or len(points.shape) != 3 or points.shape[-1] != 3:
        raise ValueError(
            "`images` must be `(B, D, H, W)` or `(B, D, H, W, 1)`, and `transducer_points` "
            f"`(B, N, 3)`. Received: images of shape {tuple(images.shape)}, transducer_points of "
            f"shape {tuple(points.shape)}"
        )
    return images[..., None] if len(images.shape) == 4 else images, points
