"""Copying a model while some of its layers are put in others' place."""

import dataclasses
import logging

import keras

# Keras has no public name for a model that is a graph of layers.
from keras.src.models.functional import Functional

logger = logging.getLogger("keras_zoo")

_LAYERS = keras.layers
PLAIN_CONVS = (_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D)
OTHER_CONVS = (
    _LAYERS.SeparableConv1D,
    _LAYERS.SeparableConv2D,
    _LAYERS.DepthwiseConv1D,
    _LAYERS.DepthwiseConv2D,
    _LAYERS.Conv1DTranspose,
    _LAYERS.Conv2DTranspose,
    _LAYERS.Conv3DTranspose,
)


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """Which convolutions of a model were put in others' place, and which were left, and why.

    Attributes:
        converted: names of the replaced layers, `"outer/inner"` inside of nested models.
        left: dict of name to the reason why this convolution was left as it is.
    """

    converted: tuple[str, ...]
    left: dict[str, str]

    def __str__(self):
        """The report in words, one line a layer."""
        lines = [f"{len(self.converted)} layers converted, {len(self.left)} left."]
        lines += [f"  converted {name}" for name in self.converted]
        lines += [f"  left {name}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def is_graph(model):
    """Whether a model is Sequential or functional, so that Keras can clone it."""
    return isinstance(model, (keras.Sequential, Functional))


def clone_with(model, replace, is_candidate):
    """Clones a functional or Sequential model, all weights and states included.

    Args:
        model: the model; it is left as it is.
        replace: function of a layer to `(new layer or None, reason why there is none)`. A new layer
            that is built already has its weights; another takes over `kernel` and `bias`.
        is_candidate: function of a layer to whether the report shall name it where it is left.

    Returns:
        The clone; its `conversion_report` tells what was done.

    Raises:
        ValueError: the model is not a graph of layers.
    """
    if not is_graph(model):
        raise ValueError(
            "`model` must be a functional or Sequential Keras model; the layers of a subclassed "
            f"one are called by code that cannot be changed. Received: model={model!r}"
        )
    paths = _paths(model, "")
    converted, left, copies = [], {}, []

    def clone_layer(layer):
        new, reason = replace(layer)
        path = paths.get(id(layer), layer.name)
        if new is not None:
            converted.append(path)
            if not new.built:
                copies.append((layer, new, True))
            return new
        if is_candidate(layer):
            left[path] = reason
        for inner in layer._flatten_layers(include_self=False):
            if is_candidate(inner):
                left[f"{path}/{inner.name}"] = f"{type(layer).__name__} makes it itself"
        new = type(layer).from_config(layer.get_config())
        copies.append((layer, new, False))
        return new

    inputs = None
    if not isinstance(model, keras.Sequential):
        # Keras names the inputs of a clone after its tensors, not after its layers.
        inputs = keras.tree.map_structure(_same_input, model.input)
    clone = keras.models.clone_model(
        model, input_tensors=inputs, clone_function=clone_layer, recursive=True
    )
    for old, new, was_replaced in copies:
        _copy_weights(old, new, was_replaced)
    clone.conversion_report = ConversionReport(tuple(converted), left)
    logger.info("%s: %s", model.name, clone.conversion_report)
    return clone


def _same_input(tensor):
    layer = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name, optional=layer.optional
    )


def _paths(model, prefix):
    """Names of all layers of a model and of the models inside of it."""
    paths = {}
    for layer in model.layers:
        paths.setdefault(id(layer), prefix + layer.name)
        if is_graph(layer):
            paths.update(_paths(layer, f"{prefix}{layer.name}/"))
    return paths


def _copy_weights(old, new, was_replaced):
    if not old.built:
        return
    if was_replaced:
        pairs = [(old.kernel, new.kernel)] + ([(old.bias, new.bias)] if old.use_bias else [])
    else:
        pairs = list(zip(old.variables, new.variables, strict=True))
    for source, target in pairs:
        target.assign(source.value)
