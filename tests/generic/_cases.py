"""How a system tells the generic contract to build and feed its components.

Each file in `cases/` is one paper's and holds a list `CASES`. Components of one paper are tried
together in one compiled model where that is possible, since compilation is what costs time.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass
class LossCase:
    """A loss, tried under `compile(loss=...)` at a linear head.

    Attributes:
        cls: the class.
        kwargs: constructor arguments, none at its default.
        y_true: what the loss takes, `(N, ...)`, as numpy.
        y_pred: likewise, float32, at a point where the loss is smooth.
        separable: whether example i of the loss depends on row i alone.
        weights_inside: whether sample weights enter the loss before it is one for the batch, so
            that a weight of two is an example twice also where examples meet.
        twice_differentiable: whether its gradient is that of a function: not where it holds part
            of the loss constant.
        ordered_within_classes: whether the order of the rows of one class means something.
        batch_size: int. Rows of a training step, for losses that ask for so many; the last step
            of an epoch has fewer.
        paper: slug.
    """

    cls: type
    kwargs: dict[str, Any]
    y_true: np.ndarray
    y_pred: np.ndarray
    paper: str
    separable: bool = False
    weights_inside: bool = False
    twice_differentiable: bool = True
    ordered_within_classes: bool = False
    batch_size: int = 4


@dataclasses.dataclass
class LayerCase:
    """A layer, tried in a functional model.

    Attributes:
        cls: the class.
        kwargs: constructor arguments, none at its default.
        x: its input, `(N, ...)` float32, or a list of such.
        paper: slug.
    """

    cls: type
    kwargs: dict[str, Any]
    x: Any
    paper: str


@dataclasses.dataclass
class MetricCase:
    """A metric, tried for streaming, reset, config and use in `compile(metrics=...)`.

    Attributes:
        one_graph: whether torch's compiler makes one graph of an update: not of a loop as long as
            the batch asks for.
    """

    cls: type
    kwargs: dict[str, Any]
    y_true: np.ndarray
    y_pred: np.ndarray
    paper: str
    one_graph: bool = True


@dataclasses.dataclass
class ModelCase:
    """A trainer, backbone or task.

    Attributes:
        cls: the class.
        build: function of `(dtype)` to a fresh model; tiny, with the same weights each time
            under `keras.utils.set_random_seed`.
        x: its input.
        y: its target, or None.
        paper: slug.
        random: whether a training step draws random numbers.
        compile: arguments of `compile` but optimizer and jit_compile, such as `{"loss": "mse"}`,
            made anew by each call. None where the class is not trained itself.
    """

    cls: type
    build: Callable[[Any], Any]
    x: Any
    y: Any
    paper: str
    compile: Callable[[], dict[str, Any]] | None = None
    random: bool = False


@dataclasses.dataclass
class PlainCase:
    """A callback, sampler, function or algorithm: outside the generic contract, by name."""

    cls: Any
    paper: str
    reason: str
