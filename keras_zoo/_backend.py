"""The only file that knows which framework runs: what `keras.ops` does not offer.

Each function exists once per framework under one name; the set of the active one is chosen when
the file is imported. Framework code stays in here, so that the rest of the package is written once.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

# Keras has no public way to ask for the current scope.
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope

BACKENDS = ("jax", "tensorflow", "torch")

Tensor = Any
VJP = Callable[[Any], Any]
Function = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def _frozen_state() -> Iterator[None]:
    """Inside, variables keep the value that they have here, and no write reaches them.

    A pass made for a gradient reads batch statistics and seeds as the surrounding training step
    sees them, and what it would write to them is dropped. Under JAX anything else would leak
    tracers or read stale values; elsewhere it would count the batch twice.
    """
    scope = keras.StatelessScope(initialize_variables=False)
    if in_stateless_scope():
        scope.state_mapping.update(get_stateless_scope().state_mapping)
    with scope:
        yield


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def value_and_vjp(fn: Function, x: Tensor, create_graph: bool) -> tuple[Tensor, VJP]:
        """`fn(x)`, and the function that maps a cotangent of it to one of `x`."""
        x = tf.convert_to_tensor(x)
        with (
            _frozen_state(),
            tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
        ):
            tape.watch(x)
            value = fn(x)
        return value, lambda cotangent: tape.gradient(
            value, x, cotangent, unconnected_gradients="zero"
        )

    def custom_gradient(fn: Callable[..., Any]) -> Function:
        """`fn` with a gradient of its own: `fn(*xs)` gives `(value, grad)`.

        `grad(upstream)` gives the gradient of each `x`. It may use what `fn` has worked out, and
        second derivatives are those of `grad`.
        """
        return tf.custom_gradient(fn)

    def constant(x: Tensor) -> Tensor:
        """`x` without a gradient, which the backward pass has as it was when it was computed."""
        return tf.stop_gradient(x)

    def gather_rows(variable: keras.Variable, indices: Tensor) -> Tensor:
        """Rows of a variable."""
        if in_stateless_scope():
            return tf.gather(tf.convert_to_tensor(variable.value), indices)
        # Reading a variable whose rows are written to would copy it whole.
        return variable._value.sparse_read(indices)

    def write_rows(variable: keras.Variable, start: int, rows: Tensor) -> None:
        """Puts rows in the place of those from `start` on, in place."""
        where = tf.range(start, start + rows.shape[0])
        variable._value.scatter_update(tf.IndexedSlices(rows, where))

    def scatter_add_rows(variable: keras.Variable, indices: Tensor, updates: Tensor) -> None:
        """Adds `updates[i]` to row `indices[i]` of a variable, in place."""
        updates = tf.cast(updates, variable.dtype)
        if in_stateless_scope():
            value = tf.convert_to_tensor(variable.value)
            variable.assign(tf.tensor_scatter_nd_add(value, indices[:, None], updates))
        else:
            variable._value.scatter_add(tf.IndexedSlices(updates, indices))

    def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` of nested tensors as one graph; what its first argument held may be gone after."""
        return tf.function(fn)

    def all_gather(x: Tensor) -> Tensor:
        """The `x` of every replica, one after the other along the first axis."""
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return x
        return context.all_gather(x, axis=0)

elif keras.backend.backend() == "torch":
    import torch

    # A compiled graph has no second derivative and may free what a later vjp needs.
    @torch.compiler.disable
    def value_and_vjp(fn: Function, x: Tensor, create_graph: bool) -> tuple[Tensor, VJP]:
        """`fn(x)`, and the function that maps a cotangent of it to one of `x`."""
        x = keras.ops.convert_to_tensor(x)
        with _frozen_state(), torch.enable_grad():
            # A view keeps the way back to what x was computed from, for second derivatives.
            keep = create_graph and x.requires_grad
            x = x.view_as(x) if keep else x.detach().requires_grad_()
            value = fn(x)

        @torch.compiler.disable
        def vjp(cotangent: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(
                value,
                x,
                cotangent,
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
            return gradient

        return value, vjp

    class _CustomGradient(torch.autograd.Function):
        # The compiler drops `ctx` where `forward` has as many parameters as there are other
        # arguments: with `x` apart, that is for three tensors, and not for one or two.
        @staticmethod
        def forward(ctx: Any, fn: Callable[..., Any], x: Tensor, *xs: Tensor) -> Tensor:
            ctx.fn = fn
            ctx.save_for_backward(x, *xs)
            value, ctx.grad = fn(x, *xs)
            return value

        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
            grad = ctx.grad
            # What the forward pass has worked out knows no way back to the inputs.
            if torch.is_grad_enabled() and not torch.compiler.is_compiling():
                _, grad = ctx.fn(*ctx.saved_tensors)
            gradients = grad(upstream)
            return None, *(gradients if isinstance(gradients, tuple) else (gradients,))

    def custom_gradient(fn: Callable[..., Any]) -> Function:
        """`fn` with a gradient of its own: `fn(*xs)` gives `(value, grad)`.

        `grad(upstream)` gives the gradient of each `x`. It may use what `fn` has worked out, and
        second derivatives are those of `grad`. (With Keras's, what it uses of that is constant to
        them.)
        """
        return functools.partial(_CustomGradient.apply, fn)

    # For the backward pass the compiler computes again what costs little, from variables that the
    # step has changed by then. What passes from one graph to the next it keeps.
    @torch.compiler.disable
    def constant(x: Tensor) -> Tensor:
        """`x` without a gradient, which the backward pass has as it was when it was computed."""
        return x.detach()

    def gather_rows(variable: keras.Variable, indices: Tensor) -> Tensor:
        """Rows of a variable."""
        return torch.index_select(variable.value, 0, indices.to(torch.int64))

    def write_rows(variable: keras.Variable, start: int, rows: Tensor) -> None:
        """Puts rows in the place of those from `start` on, in place."""
        with torch.no_grad():
            variable.value[start : start + len(rows)] = rows

    def scatter_add_rows(variable: keras.Variable, indices: Tensor, updates: Tensor) -> None:
        """Adds `updates[i]` to row `indices[i]` of a variable, in place."""
        value, indices = variable.value, indices.to(torch.int64)
        with torch.no_grad():
            if in_stateless_scope():
                variable.assign(value.index_add(0, indices, updates.to(value.dtype)))
            else:
                value.index_add_(0, indices, updates.to(value.dtype))

    def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` of nested tensors, without gradients; each of its operations is compiled already."""
        return torch.no_grad()(fn)

    def all_gather(x: Tensor) -> Tensor:
        """The `x` of every replica, one after the other along the first axis."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return x
        from torch.distributed.nn.functional import all_gather as gather

        return torch.cat(gather(x), dim=0)

else:
    import jax

    def value_and_vjp(fn: Function, x: Tensor, create_graph: bool) -> tuple[Tensor, VJP]:
        """`fn(x)`, and the function that maps a cotangent of it to one of `x`."""

        def frozen(x: Tensor) -> Tensor:
            with _frozen_state():
                return fn(x)

        value, pullback = jax.vjp(frozen, keras.ops.convert_to_tensor(x))
        return value, lambda cotangent: pullback(cotangent)[0]

    def custom_gradient(fn: Callable[..., Any]) -> Function:
        """`fn` with a gradient of its own: `fn(*xs)` gives `(value, grad)`.

        `grad(upstream)` gives the gradient of each `x`. It may use what `fn` has worked out, and
        second derivatives are those of `grad`.
        """
        return jax.custom_gradient(fn)

    def constant(x: Tensor) -> Tensor:
        """`x` without a gradient, which the backward pass has as it was when it was computed."""
        return jax.lax.stop_gradient(x)

    def gather_rows(variable: keras.Variable, indices: Tensor) -> Tensor:
        """Rows of a variable."""
        return jax.numpy.asarray(variable.value)[indices]

    @functools.partial(jax.jit, donate_argnums=0)
    def _with_rows(value: Tensor, start: Tensor, rows: Tensor) -> Tensor:
        return jax.lax.dynamic_update_slice_in_dim(value, rows, start, axis=0)

    def write_rows(variable: keras.Variable, start: int, rows: Tensor) -> None:
        """Puts rows in the place of those from `start` on, in place."""
        variable.assign(_with_rows(variable.value, start, rows))

    def scatter_add_rows(variable: keras.Variable, indices: Tensor, updates: Tensor) -> None:
        """Adds `updates[i]` to row `indices[i]` of a variable, in place once jitted."""
        updates = jax.numpy.asarray(updates, variable.dtype)
        variable.assign(jax.numpy.asarray(variable.value).at[indices].add(updates))

    def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` of nested tensors as one program; what its first argument held is gone after."""
        return jax.jit(fn, donate_argnums=0)

    def all_gather(x: Tensor) -> Tensor:
        """`x` itself: a jitted JAX program sees the batches of all devices as one."""
        return x
