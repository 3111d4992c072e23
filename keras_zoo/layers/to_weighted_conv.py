"""Weighted convolutions in the place of the plain ones of a model that is already there."""

import numbers

import keras

from keras_zoo._catalog import component
from keras_zoo.layers._cloning import OTHER_CONVS, PLAIN_CONVS, clone_with
from keras_zoo.layers._weighted_conv import BaseWeightedConv, check_density, default_density
from keras_zoo.layers.weighted_conv import WeightedConv1D, WeightedConv2D, WeightedConv3D

_WEIGHTED = {
    keras.layers.Conv1D: WeightedConv1D,
    keras.layers.Conv2D: WeightedConv2D,
    keras.layers.Conv3D: WeightedConv3D,
}


@component(paper="weighted-conv")
def to_weighted_conv(model, density=None, density_trainable=False, kernel_sizes=(3, 5, 7)):
    """Clones a model with weighted convolutions in the place of its plain ones.

    All weights, states and names of layers are kept. With a density of ones the outputs of the
    clone equal the model's to the bit; with another one each kernel is `W * Phi`, so a *trained*
    model needs training again, and a fresh one starts smaller (see `WeightedConv2D`).

    Converted are layers of exactly the classes `Conv1D`, `Conv2D` and `Conv3D`, also where they are
    shared and inside of nested functional or Sequential models. Left as they are, and named in the
    report: kernels of other sizes, even or unequal ones, separable, depthwise and transposed
    convolutions, subclasses of the three classes, those with LoRA weights, and those that another
    layer makes itself.

    Args:
        model: a functional or Sequential Keras model, such as those of `keras.applications` or a
            keras-hub backbone. It is left as it is.
        density: None for the default of each size; a dict of kernel size to density (or None for
            the default); or one density of `r` numbers, which speaks of the size `2 r + 1`. Layers
            of a size that a dict or a single density leaves out are left plain.
        density_trainable: bool. Whether the densities are trained.
        kernel_sizes: odd ints. The sizes of kernels to convert.

    Returns:
        The clone, a `keras.Sequential` or functional model (keras-hub's own classes become plain
        functional models, since their constructors would make plain convolutions again). If the
        model was compiled, so is the clone, with a fresh optimizer. Its `conversion_report` has
        `converted`, a tuple of names, and `left`, a dict of name to reason; print it, or let the
        logger `keras_zoo` tell it at level INFO.

    Raises:
        ValueError: the model is a subclassed one, `kernel_sizes` are not odd ints, or a density
            does not fit one of them.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3, name="a")]
    ... )
    >>> weighted = keras_zoo.layers.to_weighted_conv(model, density={3: [0.7]})
    >>> print(weighted.conversion_report)
    1 layers converted, 0 left.
      converted a

    Reference: arXiv:2505.24558. The paper puts the layers in by hand.
    """
    densities = _densities(density, kernel_sizes)
    if not isinstance(density_trainable, bool):
        raise ValueError(
            f"`density_trainable` must be a bool. Received: density_trainable={density_trainable!r}"
        )

    def replace(layer):
        reason = _reason_against(layer, densities)
        if reason is not None:
            return None, reason
        config = layer.get_config()
        config["density"] = list(densities[layer.kernel_size[0]])
        config["density_trainable"] = density_trainable
        return _WEIGHTED[type(layer)].from_config(config), None

    return clone_with(model, replace, _is_conv)


def _densities(density, kernel_sizes):
    """The density of each size that is to be converted."""
    sizes = kernel_sizes if isinstance(kernel_sizes, (list, tuple, set)) else [kernel_sizes]
    if not sizes or any(
        isinstance(k, bool) or not isinstance(k, numbers.Integral) or k < 1 or k % 2 == 0
        for k in sizes
    ):
        raise ValueError(
            f"`kernel_sizes` must be odd ints. Received: kernel_sizes={kernel_sizes!r}"
        )
    if density is None:
        density = dict.fromkeys(sizes)
    elif not isinstance(density, dict):
        try:
            density = {2 * len(density) + 1: density}
        except TypeError:
            raise ValueError(
                "`density` must be None, a dict of kernel size to density, or one density. "
                f"Received: density={density!r}"
            ) from None
    foreign = [k for k in density if k not in sizes]
    if foreign:
        raise ValueError(
            f"`density` speaks of kernel sizes {foreign}, which are not in `kernel_sizes`. "
            f"Received: density={density!r}, kernel_sizes={kernel_sizes!r}"
        )
    return {k: default_density(k) if d is None else check_density(d, k) for k, d in density.items()}


def _is_conv(layer):
    return isinstance(layer, (*PLAIN_CONVS, *OTHER_CONVS, BaseWeightedConv))


def _reason_against(layer, densities):
    """Why a layer is not converted, or None if it is."""
    name = type(layer).__name__
    if type(layer) not in _WEIGHTED:
        if isinstance(layer, BaseWeightedConv):
            return "is a weighted convolution already"
        if isinstance(layer, PLAIN_CONVS):
            return f"{name} is a class of its own"
        return f"{name} is no plain convolution"
    size = layer.kernel_size
    if len(set(size)) > 1 or size[0] % 2 == 0:
        return f"kernel_size {size} is not odd and the same along every axis"
    if size[0] not in densities:
        return f"kernel_size {size[0]} was not asked for"
    if layer.lora_enabled:
        return "has LoRA weights"
    return None
