"""From raw images to what DWFF-Net's encoder takes."""

from keras_hub.layers import ImageConverter

from keras_zoo._catalog import component
from keras_zoo.models.dwffnet.dwffnet_backbone import DWFFNetBackbone


@component(paper="dwff-net")
class DWFFNetImageConverter(ImageConverter):
    """Scales images to what the encoder was trained on, and resizes them if a size is given.

        converted = scale * image + offset

    Args:
        **kwargs: `scale`, `offset` (numbers, or one a channel), `image_size` and the others of
            `keras_hub.layers.ImageConverter`. With a channel's mean `m` and deviation `s` for
            values in [0, 1], images of bytes take `scale = 1 / (255 s)`, `offset = -m / s`. The
            paper's are m = (.430, .411, .296), s = (.213, .156, .143).

    Example:
    >>> converter = keras_zoo.models.DWFFNetImageConverter(scale=1 / 127.5, offset=-1.0)
    >>> float(np.max(converter(np.full((1, 32, 32, 3), 255.0))))
    1.0

    Reference: arXiv:2511.11659.
    """

    backbone_cls = DWFFNetBackbone
