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
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Of more threads TensorFlow's runs differ in the last bit, and the workers share the cores.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import keras  # noqa: E402
import pytest  # noqa: E402
from keras.src.trainers.data_adapters.data_adapter_utils import (  # noqa: E402
    unpack_x_y_sample_weight,
)

from keras_zoo import losses  # noqa: E402

BACKEND = keras.backend.backend()

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


# What Keras does around a model and its loss.
BOOK_KEEPING = [
    keras.Model.train_step,
    keras.Model._compute_loss,
    keras.Model.zero_grad,
    keras.Model.weights.fget,
    keras.Model.trainable_weights.fget,
    unpack_x_y_sample_weight,
] if BACKEND == "torch" else []


@pytest.fixture(autouse=True)
def torch_compiles_without_codegen(request, monkeypatch):
    """`torch.compile` traces both passes as ever, but runs them without generating C++.

    Tracing is what our code can break; the C++ compiler takes a minute for each training step.
    Tests marked `codegen` go the whole way.
    """
    if BACKEND == "torch" and not request.node.get_closest_marker("codegen"):
        import torch

        compiled, dynamo = torch.compile, torch._dynamo

        def quick(step, backend="aot_eager", **kwargs):
            if getattr(step, "__name__", None) == "one_step_on_data":
                # Torch traces this up to `backward`, gives up, traces the step that it calls twice,
                # and that again once there are gradients. What a step calls is traced once.
                dynamo.eval_frame.skip_code(step.__code__)
            return compiled(step, backend=backend, **kwargs)

        # Batch normalization hands over its axes as a list of Keras's own, which cuts a graph.
        nn = keras.src.backend.torch.nn
        moments = nn.moments
        monkeypatch.setattr(
            nn, "moments", lambda x, axes, *args, **kwargs: moments(x, tuple(axes), *args, **kwargs)
        )
        for book_keeping in BOOK_KEEPING:
            dynamo.eval_frame.skip_code(book_keeping.__code__)
        optimizer = keras.optimizers.Optimizer
        monkeypatch.setattr(optimizer, "apply", dynamo.disable(optimizer.apply))
        trainer = keras.Model
        monkeypatch.setattr(trainer, "compute_metrics", dynamo.disable(trainer.compute_metrics))
        monkeypatch.setattr(torch, "compile", quick)


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
