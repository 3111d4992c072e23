"""Turns the cases of the papers into models under test."""

import dataclasses
import importlib
import itertools
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tests.generic._cases import LayerCase, LossCase, MetricCase, ModelCase, PlainCase

CASES = [
    case
    for path in sorted((pathlib.Path(__file__).parent / "cases").glob("[a-z]*.py"))
    for case in importlib.import_module(f"tests.generic.cases.{path.stem}").CASES
]


def of_type(kind):
    return [case for case in CASES if isinstance(case, kind)]


LOSSES, LAYERS, METRICS, MODELS, PLAIN = map(
    of_type, (LossCase, LayerCase, MetricCase, ModelCase, PlainCase)
)


def name(case):
    return case.cls.__name__


@dataclasses.dataclass
class Subject:
    """A model to be trained: `build()` gives a fresh, uncompiled one, always the same."""

    name: str
    build: Callable[[], keras.Model]
    compile: Callable[[], dict[str, Any]]
    x: Any
    y: Any
    batch_size: int = 4
    random: bool = False


def subjects():
    """One subject for the losses of a paper, one for its layers, one for each model."""
    found = []
    by_paper = lambda case: case.paper  # noqa: E731
    for paper, cases in itertools.groupby(sorted(LOSSES, key=by_paper), by_paper):
        found.append(_loss_subject(f"{paper}-losses", list(cases)))
    for paper, cases in itertools.groupby(sorted(LAYERS, key=by_paper), by_paper):
        found.append(_layer_subject(f"{paper}-layers", list(cases)))
    for case in MODELS:
        if case.compile is not None:
            build = _seeded(lambda c=case: c.build(None))
            found.append(
                Subject(name(case), build, case.compile, case.x, case.y, random=case.random)
            )
    return found


def _seeded(build):
    def fresh():
        keras.utils.set_random_seed(0)
        return build()

    return fresh


def _loss_subject(label, cases):
    """A linear head for each loss, on shared inputs, all in one compilation."""
    n = min(len(case.y_true) for case in cases)
    x = np.random.default_rng(0).normal(size=(n, 6)).astype("float32")

    def build():
        inputs = keras.Input((6,))
        outputs = {}
        for case in cases:
            shape = case.y_pred.shape[1:]
            head = keras.layers.Dense(int(np.prod(shape)), name=f"dense_{name(case)}")(inputs)
            # Losses want their predictions in float32, whatever the policy of the network.
            reshape = keras.layers.Reshape(shape, dtype="float32", name=name(case))
            outputs[name(case)] = reshape(head)
        return keras.Model(inputs, outputs)

    def settings():
        return {"loss": {name(case): case.cls(**case.kwargs) for case in cases}}

    y = {name(case): case.y_true[:n] for case in cases}
    batch_size = max(case.batch_size for case in cases)
    return Subject(label, _seeded(build), settings, x, y, batch_size)


def _layer_subject(label, cases):
    """Each layer on its own input, added up, all in one compilation."""
    first = [case.x[0] if isinstance(case.x, list) else case.x for case in cases]
    n = min(len(x) for x in first)
    x = {}
    for case in cases:
        parts = case.x if isinstance(case.x, list) else [case.x]
        x.update({f"{name(case)}_{i}": part[:n] for i, part in enumerate(parts)})

    def build():
        inputs = {key: keras.Input(part.shape[1:], name=key) for key, part in x.items()}
        outputs = []
        for case in cases:
            mine = [tensor for key, tensor in inputs.items() if key.startswith(f"{name(case)}_")]
            output = case.cls(**case.kwargs)(mine if isinstance(case.x, list) else mine[0])
            outputs.append(keras.layers.Dense(1)(keras.layers.Flatten()(output)))
        total = keras.layers.Add()(outputs) if len(outputs) > 1 else outputs[0]
        return keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(total))

    y = np.linspace(-1, 1, n, dtype="float32")[:, None]
    return Subject(label, _seeded(build), lambda: {"loss": "mse"}, x, y)


def fill(weights):
    """Gives weights values that are the same on each backend."""
    for i, weight in enumerate(weights):
        values = np.random.default_rng(i).normal(0, 0.3, weight.shape)
        if weight.path.endswith(("variance", "count")):
            values = 0.5 + np.abs(values)
        if weight.dtype not in ("uint32", "int32", "int64"):
            weight.assign(values.astype("float32"))


def outputs(case):
    """What a component gives on its case's input, as float32 arrays, the same on each backend."""
    if isinstance(case, LossCase):
        result = [case.cls(**case.kwargs, reduction=None)(case.y_true, case.y_pred)]
    elif isinstance(case, LayerCase):
        layer = case.cls(**case.kwargs)
        layer(case.x)
        fill(layer.weights)
        result = [layer(case.x)]
    elif isinstance(case, MetricCase):
        metric = case.cls(**case.kwargs)
        metric.update_state(case.y_true, case.y_pred)
        result = [metric.result()]
    else:
        model = case.build(None)
        model(case.x)
        fill(model.weights)
        result = keras.tree.flatten(model(case.x))
    return [np.asarray(keras.ops.convert_to_numpy(r), "float32") for r in result]
