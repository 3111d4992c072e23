"""What DWFF-Net does to images and masks before it sees them."""

from keras_hub.models import ImageSegmenterPreprocessor

from keras_zoo._catalog import component
from keras_zoo.models.dwffnet.dwffnet_backbone import DWFFNetBackbone
from keras_zoo.models.dwffnet.dwffnet_image_converter import DWFFNetImageConverter


@component(paper="dwff-net")
class DWFFNetImageSegmenterPreprocessor(ImageSegmenterPreprocessor):
    """Converts images, and hands masks on, or resizes them with the images.

    Args:
        **kwargs: `image_converter`, a `DWFFNetImageConverter`; `resize_output_mask`, whether masks
            are resized like the images; and the others of
            `keras_hub.models.ImageSegmenterPreprocessor`.

    Example:
    >>> converter = keras_zoo.models.DWFFNetImageConverter(scale=1 / 255)
    >>> preprocessor = keras_zoo.models.DWFFNetImageSegmenterPreprocessor(converter)
    >>> float(np.max(preprocessor(np.full((1, 32, 32, 3), 255.0))))
    1.0

    Reference: arXiv:2511.11659.
    """

    backbone_cls = DWFFNetBackbone
    image_converter_cls = DWFFNetImageConverter
