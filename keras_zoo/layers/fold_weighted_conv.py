"""Plain convolutions in the place of trained weighted ones."""

from keras_zoo._catalog import component
from keras_zoo.layers._cloning import clone_with
from keras_zoo.layers._weighted_conv import BaseWeightedConv


@component(paper="weighted-conv")
def fold_weighted_conv(model):
    """Clones a model with the densities multiplied into the kernels, once, for inference.

    The clone holds plain `keras.layers.Conv1D`, `Conv2D` and `Conv3D`, so it runs, exports and is
    quantized as any Keras model, and its outputs equal the model's to the bit. It is the model's
    inverse way of `to_weighted_conv`, but for training: the density has become part of the kernel.

    Args:
        model: a built functional or Sequential Keras model. It is left as it is.

    Returns:
        The clone, a `keras.Sequential` or functional model, with a `conversion_report` as that of
        `to_weighted_conv`. Methods that the model's class adds, such as
        `DnCNNDenoiser.denoise`, are not part of it.

    Raises:
        ValueError: the model is a subclassed one, or a weighted convolution of it is not built.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((32, 32, 1)), keras_zoo.layers.WeightedConv2D(8, 7)]
    ... )
    >>> keras_zoo.layers.fold_weighted_conv(model).layers
    [<Conv2D name=weighted_conv2d, built=True>]

    Reference: arXiv:2505.24558, whose second version computes the weighted kernel beforehand.
    """

    def replace(layer):
        if isinstance(layer, BaseWeightedConv):
            return layer.to_conv(), None
        return None, "was not reached"

    return clone_with(model, replace, lambda layer: isinstance(layer, BaseWeightedConv))
