"""What holds for every test."""

import functools
import gc
import os
import pathlib

# What most of the time is spent on is compiling small programs. Read when frameworks are imported.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true --xla_disable_hlo_passes=constant_folding",
)
CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Of more threads TensorFlow's runs differ in the last bit, and the workers share the cores.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import keras  # noqa: E402
import pytest  # noqa: E402

from keras_zoo import losses  # noqa: E402

BACKEND = keras.backend.backend()

if BACKEND == "jax":
    from jax._src.interpreters import mlir

    # JAX makes one for each program, which takes longer than all else about a small program.
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)

# Where tests are of whole networks, or of what trains by definition.
SLOW = ("tests/models/", "tests/trainers/", "tests/test_presets.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks the tests of those places as slow."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


# Frameworks make so many objects that Python's looking through them all takes a tenth of the time.
gc.set_threshold(100_000, 20, 50)


@pytest.fixture(autouse=True)
def fresh_session():
    """Layers get the names that they have in a test that runs alone.

    TensorFlow adds up in the order of names, where "dense_10" comes before "dense_9". Torch gives
    up, and runs as it is, what it has compiled eight times, though for other models.
    """
    keras.backend.clear_session(free_memory=False)
    with keras.name_scope("any"):  # The first one changes what torch compiles after it.
        pass


@pytest.fixture(autouse=True)
def torch_compiles_without_codegen(request, monkeypatch):
    """`torch.compile` traces both passes as ever, but runs them without generating C++.

    Tracing is what our code can break; the C++ compiler takes a minute for each training step.
    Tests marked `codegen` go the whole way.
    """
    if BACKEND != "torch" or request.node.get_closest_marker("codegen"):
        return
    import torch

    compiled = torch.compile

    def quick(step, backend="aot_eager", **kwargs):
        if getattr(step, "__name__", None) == "one_step_on_data":
            torch._dynamo.eval_frame.skip_code(step.__code__)
        return compiled(step, backend=backend, **kwargs)

    monkeypatch.setattr(torch, "compile", quick)
    _compile_less_of_keras(monkeypatch)


def _compile_less_of_keras(monkeypatch):
    """Torch traces a model and its loss, and not what Keras does around them.

    It would trace a step up to `backward`, give up, trace what the step calls, and all of that
    again once there are gradients.
    """
    from torch import _dynamo as dynamo

    around = (
        keras.Model.train_step,
        keras.Model._compute_loss,
        keras.Model.zero_grad,
        keras.Model.weights.fget,
        keras.Model.trainable_weights.fget,
        keras.utils.unpack_x_y_sample_weight,
    )
    for function in around:
        dynamo.eval_frame.skip_code(function.__code__)
    for cls, name in ((keras.optimizers.Optimizer, "apply"), (keras.Model, "compute_metrics")):
        monkeypatch.setattr(cls, name, dynamo.disable(getattr(cls, name)))
    # Two things cut a graph, and every one around it: asking for flash attention, and the axes of
    # batch normalization, which are a list of Keras's own.
    nn = keras.src.backend.torch.nn
    moments = nn.moments
    monkeypatch.setattr(nn, "_can_use_flash_attention", lambda *args, **kwargs: False)
    monkeypatch.setattr(
        nn, "moments", lambda x, axes, *args, **kwargs: moments(x, tuple(axes), *args, **kwargs)
    )


@pytest.fixture(autouse=True)
def jax_runs_a_loss_as_one_program(monkeypatch):
    """JAX compiles each operation apart where nothing is jitted; what can be jitted runs so too."""
    if BACKEND == "jax":
        for cls in vars(losses).values():
            if isinstance(cls, type) and issubclass(cls, keras.losses.Loss):
                monkeypatch.setattr(cls, "call", _jitted(cls.call))


# By class and arguments: tests of the same loss share its programs.
PROGRAMS = {}


def _jitted(call):
    """A loss's `call` jitted, unless it is inside of another program, or given no arrays."""
    import jax

    @functools.wraps(call)
    def quick(loss, *given, **named):
        arrays = jax.tree.leaves((given, named))
        if any(isinstance(x, jax.core.Tracer) or not hasattr(x, "dtype") for x in arrays):
            return call(loss, *given, **named)
        arguments = {**loss.get_config(), "name": None, "reduction": None}
        key = call, type(loss), repr(arguments)
        if key not in PROGRAMS:
            PROGRAMS[key] = jax.jit(functools.partial(call, loss))
        return PROGRAMS[key](*given, **named)

    return quick
