"""The contract that every component of the catalogue keeps."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_zoo import list_components
from keras_zoo.ops import input_gradient
from tests.generic import parity, subjects
from tests.generic.subjects import LAYERS, LOSSES, METRICS, MODELS, name
from tests.harness import BACKEND, assert_close, golden, gradient, gradients, to_numpy

SUBJECTS = subjects.subjects()
by_name = {"ids": name}
each_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)


def test_every_component_has_a_case():
    cased = {subjects.name(case) for case in subjects.CASES}
    listed = {component.name for component in list_components()}
    assert listed == cased


def test_every_component_is_exported_and_registered_once():
    import importlib

    for component in list_components():
        room, attribute = component.path.rsplit(".", 1)
        assert getattr(importlib.import_module(room), attribute) is component.object
        assert attribute in importlib.import_module(room).__all__
        if hasattr(component.object, "get_config"):
            registered = keras.saving.get_registered_name(component.object)
            assert registered == f"keras_zoo>{component.name}"


def test_every_docstring_is_whole():
    for component in list_components():
        doc = component.object.__doc__
        for part in ("Args:", "Example", "Reference: "):
            assert part in doc, f"{component.name}: no {part!r}"


# Configs


@pytest.mark.parametrize("case", [*LOSSES, *LAYERS, *METRICS], **by_name)
def test_config_round_trip(case):
    """A config survives JSON, holds every argument, and makes an equal object."""
    thing = case.cls(**case.kwargs)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is case.cls
    assert again.get_config() == thing.get_config()
    for argument in case.kwargs:
        assert argument in thing.get_config()


@pytest.mark.parametrize("case", LOSSES, **by_name)
def test_loss_config_holds_the_base_arguments(case):
    loss = case.cls(**case.kwargs, name="mine", reduction="sum", dtype="float16")
    config = case.cls.from_config(loss.get_config()).get_config()
    assert (config["name"], config["reduction"], config["dtype"]) == ("mine", "sum", "float16")


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS, **by_name)
def test_model_config_round_trip(case):
    model = case.build(None)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    again = keras.saving.deserialize_keras_object(config)
    if not again.built:
        again(case.x)
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


@pytest.mark.skipif(BACKEND != "torch", reason="the others do not look at Python's state")
@pytest.mark.parametrize("case", [*LOSSES, *(c for c in METRICS if c.one_graph)], **by_name)
def test_torch_compiles_whole_and_once(case):
    """A loss, or a metric's update, is one graph for `torch.compile` for inputs of the same shapes.

    NumPy's arrays would cut it, and some of Keras's operations count their calls (`ops.pad`), and
    so look new to it each time.
    """
    import torch
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    thing = case.cls(**case.kwargs)
    fn = torch.compile(getattr(thing, "update_state", thing), backend=counter)
    y_true, y_pred = ops.convert_to_tensor(case.y_true), ops.convert_to_tensor(case.y_pred)
    for _ in range(3):
        fn(y_true, y_pred)
    assert counter.frame_count == 1


# Values


@pytest.mark.parity
@pytest.mark.parametrize("case", parity.CASES, **by_name)
def test_same_output_on_every_backend(case):
    stored = golden("parity", case.paper)
    for i, output in enumerate(subjects.outputs(case)):
        assert_close(output, stored[f"{name(case)}_{i}"])


@pytest.mark.parametrize("case", [c for c in LOSSES if c.twice_differentiable], **by_name)
def test_second_derivatives(case):
    """What a penalty on the gradient needs: a slope of the loss changes as differences say."""
    loss = case.cls(**case.kwargs)
    rng = np.random.default_rng(0)
    shift, u, v = rng.normal(size=(3, *case.y_pred.shape)).astype("float32")

    def slope(x):
        whole = lambda x: ops.reshape(loss(case.y_true, x), (1,))  # noqa: E731
        return ops.sum(ops.multiply(u, input_gradient(whole, x, create_graph=True)))

    # Some cases lie on an edge of a hinge.
    x, step = case.y_pred + 0.01 * shift, 5e-4
    (value, curvature), (after, _), (before, _) = gradients(slope, [x, x + step * v, x - step * v])
    size = np.linalg.norm(curvature) * np.linalg.norm(v) / np.sqrt(v.size)
    rounding = 1e-3 * (1 + np.abs(value))
    change = (after - before) / (2 * step)
    assert_close(np.sum(curvature * v), change, rtol=0, atol=0.02 * size + rounding)


@pytest.mark.parametrize("case", LOSSES, **by_name)
def test_reductions_and_sample_weight(case):
    """Each reduction is that of the unreduced losses, weighted."""

    def reduced(reduction, weight=None):
        loss = case.cls(**case.kwargs, reduction=reduction)
        return to_numpy(loss(case.y_true, case.y_pred, sample_weight=weight))

    losses = reduced(None)
    n = len(case.y_true)
    assert losses.shape == (n,)
    assert_close(reduced("sum"), losses.sum(), atol=1e-4)
    assert_close(reduced("mean"), losses.mean())
    weight = given = np.linspace(0.0, 2.0, n, dtype="float32")
    if case.weights_inside:
        losses, weight = reduced(None, given), np.ones(n, "float32")
    assert_close(reduced("none", given), losses * weight)
    assert_close(reduced("sum", given), (losses * weight).sum(), atol=1e-4)
    assert_close(reduced("sum_over_batch_size", given), (losses * weight).mean())
    mean = (losses * weight).sum() / weight.sum()
    assert_close(reduced("mean_with_sample_weight", given), mean)


TWICE = [c for c in LOSSES if c.separable or c.weights_inside]


@pytest.mark.parametrize("case", TWICE, **by_name)
def test_a_weight_of_two_is_the_example_twice(case):
    weight = np.ones(len(case.y_true), "float32")
    weight[1] = 2
    loss = case.cls(**case.kwargs, reduction="mean" if case.weights_inside else "sum")
    twice = loss(
        np.concatenate([case.y_true, case.y_true[1:2]]),
        np.concatenate([case.y_pred, case.y_pred[1:2]]),
    )
    assert_close(loss(case.y_true, case.y_pred, sample_weight=weight), twice, atol=1e-4)


@pytest.mark.parametrize("case", LOSSES, **by_name)
def test_batch_order_does_not_matter(case):
    order = np.random.default_rng(0).permutation(len(case.y_true))
    if case.ordered_within_classes:
        for label in np.unique(case.y_true):
            places = case.y_true[order] == label
            order[places] = np.sort(order[places])
    loss = case.cls(**case.kwargs, reduction=None)
    assert_close(
        loss(case.y_true[order], case.y_pred[order]),
        to_numpy(loss(case.y_true, case.y_pred))[order],
    )


@pytest.mark.parametrize("case", LOSSES, **by_name)
def test_gradient_is_finite_and_not_nothing(case):
    loss = case.cls(**case.kwargs)
    value, grad = gradient(lambda p: loss(case.y_true, p), case.y_pred)
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))
    assert np.any(grad != 0)


@pytest.mark.parametrize("case", LOSSES, **by_name)
def test_nan_stays_nan(case):
    y_pred = case.y_pred.copy()
    y_pred[0, ..., 0] = np.nan
    losses = to_numpy(case.cls(**case.kwargs, reduction=None)(case.y_true, y_pred))
    assert np.isnan(losses[0])


@pytest.mark.parametrize("case", LOSSES, **by_name)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_predictions(case, dtype):
    """Half-precision predictions give what the same numbers give in float32."""
    rounded = ops.cast(ops.cast(case.y_pred, dtype), "float32")
    loss = case.cls(**case.kwargs, reduction=None)
    assert_close(loss(case.y_true, ops.cast(case.y_pred, dtype)), loss(case.y_true, rounded))


@pytest.mark.slow
@pytest.mark.parametrize("case", LOSSES, **by_name)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_loss(case, dtype):
    """A loss of half precision is finite and near the float32 one."""
    low = case.cls(**case.kwargs, reduction=None, dtype=dtype)(case.y_true, case.y_pred)
    full = to_numpy(case.cls(**case.kwargs, reduction=None)(case.y_true, case.y_pred))
    low = to_numpy(ops.cast(low, "float32"))
    assert np.all(np.isfinite(low))
    np.testing.assert_allclose(low, full, rtol=0.1, atol=0.1 * np.abs(full).max())


@pytest.mark.parametrize("case", LAYERS, **by_name)
def test_symbolic_and_eager_shapes_agree(case):
    layer = case.cls(**case.kwargs)
    parts = case.x if isinstance(case.x, list) else [case.x]
    inputs = [keras.Input(part.shape[1:]) for part in parts]
    symbolic = layer(inputs if isinstance(case.x, list) else inputs[0])
    eager = layer(case.x)
    assert symbolic.shape[1:] == eager.shape[1:]
    assert symbolic.dtype == keras.backend.standardize_dtype(eager.dtype)


@pytest.mark.parametrize("case", METRICS, **by_name)
def test_metric_streams_and_resets(case):
    metric = case.cls(**case.kwargs)
    metric.update_state(case.y_true, case.y_pred)
    once = to_numpy(metric.result())
    metric.update_state(case.y_true, case.y_pred)
    assert_close(metric.result(), once)
    metric.reset_state()
    metric.update_state(case.y_true, case.y_pred)
    assert_close(metric.result(), once)


# Training


def adam():
    """With an epsilon above rounding, or a gradient of 0 makes steps of any direction."""
    return keras.optimizers.Adam(1e-2, epsilon=1e-4)


# How models are compiled where compiling is not the point: TensorFlow takes seconds to trace each.
UNTRACED = {"run_eagerly": BACKEND == "tensorflow"}


def fresh(subject, **how):
    model = subject.build()
    model.compile(optimizer=adam(), **subject.compile(), **how)
    return model


def fit(model, subject, batch_size=None, **how):
    """An epoch in the order of the data, in one batch unless told otherwise; gives the last loss.

    Each size of a batch is compiled apart, which is what these tests spend their time on.
    """
    batches = {"batch_size": batch_size or rows(subject), "shuffle": False, "verbose": 0}
    losses = model.fit(subject.x, subject.y, **batches, **how).history["loss"]
    assert np.all(np.isfinite(losses))
    return losses[-1]


def rows(subject):
    """How many examples there are."""
    return len(keras.tree.flatten(subject.x)[0])


def weights(model):
    return [to_numpy(w) for w in model.weights]


def assert_equal_weights(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "jax", reason="each operation of an eager step is compiled apart")
@each_subject
def test_trains_compiled_as_eagerly(subject):
    """`jit_compile=True` gives what `run_eagerly` gives, up to rounding."""
    compiled, eager = fresh(subject, jit_compile=True), fresh(subject, run_eagerly=True)
    for model in (compiled, eager):
        fit(model, subject)
    if BACKEND == "tensorflow" and subject.random:
        return  # Under XLA others are drawn.
    for a, b in zip(weights(compiled), weights(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="the others train both ways")
@each_subject
def test_evaluates_compiled_as_eagerly(subject):
    """As above; that JAX trains when compiled is in `test_stopped_and_resumed_exactly`."""
    compiled, eager = (
        fresh(subject, **how).evaluate(subject.x, subject.y, rows(subject), verbose=0)
        for how in ({"jit_compile": True}, {"run_eagerly": True})
    )
    np.testing.assert_allclose(compiled, eager, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@each_subject
def test_stopped_and_resumed_exactly(subject, tmp_path):
    """From a checkpoint of the first epoch the second is what it was, to the bit.

    With a partial last batch. Nothing is lost in the file.
    """
    model, batches = fresh(subject, **UNTRACED), {"batch_size": subject.batch_size, "epochs": 2}
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    loss = fit(model, subject, **batches, callbacks=[checkpoint])
    first, last = (keras.saving.load_model(tmp_path / f"{epoch}.keras") for epoch in (1, 2))
    assert_equal_weights(last, model)
    evaluated = {"batch_size": rows(subject), "verbose": 0, "return_dict": True}
    assert last.evaluate(subject.x, subject.y, **evaluated) == model.evaluate(
        subject.x, subject.y, **evaluated
    )
    assert fit(first, subject, **batches, initial_epoch=1) == loss
    assert_equal_weights(first, model)


@pytest.mark.slow
@each_subject
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(subject, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = fresh(subject, **UNTRACED)
        fit(model, subject)
    finally:
        keras.config.set_dtype_policy(before)
    assert all(np.all(np.isfinite(w)) for w in weights(model))
    assert all(w.dtype in ("float32", "uint32", "int32", "int64") for w in model.trainable_weights)
