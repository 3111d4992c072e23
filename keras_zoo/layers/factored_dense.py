"""A dense output layer that is trained exactly without forming its outputs."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_number
from keras_zoo.ops.scatter import gather_rows, map_rows, replace_rows, scatter_add_rows

Tensor = Any


@component(paper="z-loss")
class FactoredDense(keras.layers.Layer):
    """Dense layer without bias whose exact SGD update costs nothing per output unit.

    The kernel `W` `(D, d)`, for `D = units` outputs `o = W h`, is held as

        W = V U + 1 w^T        V `(D, d)`,  U `(d, d)`,  w `(d,)`

    next to `P = U^-T`, `Q = W^T W` `(d, d)` and `r = W^T 1` `(d,)`. For inputs `h` `(N, d)` and a
    loss of the spherical family, such as `keras_zoo.losses.ZLoss`, which depends on the outputs
    through `K` of them and through

        sum_k o_k^2 = h^T Q h,        sum_k o_k = r^T h

    both the loss and a step of SGD on `W` then cost `O(N d^2 + N K d)`, whatever `D`: the dense
    part of the step changes `U` and `w`, and only the `N K` chosen rows of `V` are touched. It is
    the same step as that of a dense kernel, up to rounding; the memory is that of one `W`.
    `keras_zoo.trainers.FactoredOutputTrainer` does this in `fit`.

    Plain SGD is all that can be had that way: no momentum, no Adam, no clipping of the kernel's
    gradient. At prediction `call` forms all outputs, at the usual `O(D d)` an example.

    Args:
        units: int, `D`.
        kernel_initializer: of the kernel in Keras's layout `(d, D)`: the start is that of
            `keras.layers.Dense` with the same initializer.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. The state is in float32
            under every policy, or in float64 under that one, and so is what `statistics` and
            `sgd_update` compute; give `dtype="float32"` to get outputs in float32 as well.

    Inputs: `(N, d)`.
    Output: `(N, D)`.

    Weights, none of them trainable by an optimizer: `factor` V, `mixer` U, `inverse_mixer_t` P,
    `gram` Q, `offset` w, `row_sum` r.

    Rounding: `U` drifts from the identity, and `P` from the inverse of `U`. Call `stabilize` every
    hundred steps or so. Large steps (`2 learning_rate d_squared_sum |h|^2` near 1) make `U` nearly
    singular within one step, and lose digits however often that is done.

    Raises:
        ValueError: an argument is out of its range; inputs are not `(N, d)`; shapes do not fit
            together; a method that needs the weights is called before the layer is built.

    Example:
    >>> layer = keras_zoo.layers.FactoredDense(100_000)
    >>> h, targets = np.random.rand(8, 64), np.arange(8)[:, None]
    >>> layer.build(h.shape)
    >>> o_c, squares, total = layer.statistics(h, targets)
    >>> slopes = keras_zoo.losses.ZLoss().statistics_gradient(o_c[:, 0], squares, total, 100_000)
    >>> grad_h = layer.sgd_update(h, targets, slopes[0][:, None], *slopes[1:], learning_rate=0.1)

    Reference: arXiv:1412.7091, and arXiv:1606.08061 for the family. Differs from the official code:
    the mixer is decomposed (SVD, in float64) where that has 100 power iterations, its inverse is
    computed anew at the same time, and there is no weight decay, which there forgets `Q` and `r`.
    """

    def __init__(self, units, kernel_initializer="random_normal", **kwargs):
        super().__init__(**kwargs)
        self.units = check_count("units", units)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Makes the weights."""
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(f"`inputs` must be `(N, d)`. Received: shape {tuple(input_shape)}")
        d = input_shape[1]
        self._state_dtype = "float64" if self.variable_dtype == "float64" else "float32"
        # In this order: the later ones start from the factor.
        self.factor = self._weight("factor", (self.units, d), self._start)
        self.mixer = self._weight("mixer", (d, d), "identity")
        self.inverse_mixer_t = self._weight("inverse_mixer_t", (d, d), "identity")
        self.gram = self._weight("gram", (d, d), lambda *_, **__: self._sum_of_blocks(_square))
        self.offset = self._weight("offset", (d,), "zeros")
        self.row_sum = self._weight("row_sum", (d,), lambda *_, **__: self._sum_of_blocks(_add_up))
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: d})

    def _weight(self, name, shape, initializer):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=self._state_dtype,
            trainable=False,
            autocast=False,
        )

    def _start(self, shape, dtype=None):
        kernel = self.kernel_initializer(shape[::-1], dtype=dtype)
        # By way of a vector, since on torch a transposed tensor keeps the order of its numbers.
        return ops.reshape(ops.reshape(ops.transpose(kernel), (-1,)), shape)

    def _sum_of_blocks(self, fn):
        return sum(part for _, part in map_rows(fn, self.factor))

    def call(self, inputs):
        """All outputs, `(N, D)`."""
        h = self._cast(inputs)
        mixed = ops.matmul(h, ops.transpose(self.mixer))
        outputs = ops.matmul(mixed, ops.transpose(self.factor))
        return ops.cast(outputs + ops.matmul(h, self.offset)[:, None], self.compute_dtype)

    def statistics(self, inputs, indices):
        """What a spherical loss sees of the outputs, none of which but the chosen are formed.

        Differentiable with respect to `inputs` (on torch until `sgd_update` is called).

        Args:
            inputs: `(N, d)`.
            indices: int `(N, K)`, the chosen outputs of each example.

        Returns:
            `(selected, squared_sum, total)`: the chosen outputs `(N, K)`, the sums `(N,)` of the
            squares of all outputs and of all outputs. An index outside of `[0, D)` gives NaN.
        """
        return self._read(*self._checked(inputs, indices)).statistics

    def sgd_update(
        self, inputs, indices, grad_selected, grad_squared_sum, grad_total, learning_rate
    ):
        """One step of SGD on the kernel, in place.

            W <- W - learning_rate * sum_n (dL/do_n) h_n^T

        for a loss `L`, already reduced over the batch, of which the derivatives with respect to the
        statistics are given.

        Args:
            inputs: `(N, d)`, as given to `statistics`.
            indices: int `(N, K)`, likewise. An output that is named twice gets both parts.
            grad_selected: `(N, K)`.
            grad_squared_sum: `(N,)`.
            grad_total: `(N,)`.
            learning_rate: float or scalar tensor.

        Returns:
            `(N, d)`, the gradient of `L` for the inputs, with the kernel as it was; a constant.
            An index outside of `[0, D)` gives NaN, here and in the weights.
        """
        gradients = (grad_selected, grad_squared_sum, grad_total)
        return self.sgd_step(inputs, indices, lambda *_: gradients, learning_rate)[1]

    def sgd_step(self, inputs, indices, gradient, learning_rate):
        """`statistics` and `sgd_update` in one, which share what they read of the weights.

        Args:
            inputs: `(N, d)`.
            indices: int `(N, K)`.
            gradient: function of `(selected, squared_sum, total)` to the loss's derivatives with
                respect to the three, of the same shapes; the loss is already reduced.
            learning_rate: float or scalar tensor.

        Returns:
            `(statistics, grad_inputs)`, as those two return them; constants.
        """
        inputs, indices = self._checked(inputs, indices)
        if isinstance(learning_rate, (int, float)):
            check_number("learning_rate", learning_rate)
        reading = self._read(ops.stop_gradient(inputs), indices)
        slopes = [ops.stop_gradient(self._cast(g)) for g in gradient(*reading.statistics)]
        wanted = [tuple(x.shape) for x in reading.statistics]
        shapes = [tuple(slope.shape) for slope in slopes]
        fits = len(shapes) == 3 and all(
            len(shape) == len(want)
            and all(None in (a, b) or a == b for a, b in zip(shape, want, strict=True))
            for shape, want in zip(shapes, wanted, strict=True)
        )
        if not fits:
            raise ValueError(
                "`grad_selected` must be `(N, K)`, `grad_squared_sum` and `grad_total` `(N,)`. "
                f"Received: shapes {shapes}, with indices of shape {tuple(indices.shape)}"
            )
        return reading.statistics, self._write(reading, *slopes, self._cast(learning_rate))

    def _read(self, h, indices):
        """What a step reads of the weights, and the statistics."""
        known = ops.logical_and(indices >= 0, indices < self.units)
        chosen = ops.where(known, indices, ops.zeros_like(indices))
        rows = gather_rows(self.factor, ops.reshape(chosen, (-1,)))
        rows = ops.reshape(rows, (-1, indices.shape[1], h.shape[1]))
        mixed = ops.matmul(h, ops.transpose(self.mixer))
        images = ops.matmul(h, self.gram)
        selected = ops.sum(rows * mixed[:, None, :], axis=-1)
        selected = selected + ops.matmul(h, self.offset)[:, None]
        selected = ops.where(known, selected, ops.full_like(selected, float("nan")))
        squared_sum = ops.sum(h * images, axis=-1)
        statistics = (selected, squared_sum, ops.matmul(h, self.row_sum))
        return _Reading(h, chosen, rows, mixed, images, statistics)

    def _write(self, reading, grad_selected, grad_squared_sum, grad_total, rate):
        """The step itself, steps 1 to 10 of the algorithm; returns the gradient for the inputs."""
        h, rows, images = reading.inputs, reading.rows, reading.images
        t, sums = 2 * grad_squared_sum[:, None], ops.sum(grad_selected, axis=-1)
        scaled = t * h
        sparse = ops.sum(grad_selected[:, :, None] * rows, axis=1)
        shifts = ops.matmul(sparse, self.mixer)
        shifts = shifts + sums[:, None] * self.offset + grad_total[:, None] * self.row_sum
        grad_inputs = t * images + shifts

        # Inner products of the examples' gradients for the D outputs, from half of them: what is
        # not symmetric here is so with its transpose.
        half = ops.matmul(scaled, ops.transpose(0.5 * t * images + shifts))
        half = half + grad_total[:, None] * (0.5 * self.units * grad_total + sums)
        products = half + ops.transpose(half) + _sparse_products(reading.indices, grad_selected)
        step = rate * grad_inputs - 0.5 * rate**2 * ops.matmul(products, h)
        cross = ops.matmul(ops.transpose(h), step)

        inverse, new_rows = self._updated_inverse(h, t, rate)
        along = ops.matmul(scaled, ops.stack([self.offset, self.row_sum], axis=1))
        to_sums = along[:, 1] + self.units * grad_total + sums
        updates = -rate * grad_selected[:, :, None] * new_rows[:, None, :]
        scatter_add_rows(
            self.factor,
            ops.reshape(reading.indices, (-1,)),
            ops.reshape(updates, (-1, h.shape[1])),
        )
        self.mixer.assign(self.mixer - rate * ops.matmul(ops.transpose(reading.mixed), scaled))
        self.inverse_mixer_t.assign(inverse)
        self.gram.assign(self.gram - (cross + ops.transpose(cross)))
        self.offset.assign(self.offset - rate * ops.matmul(along[:, 0] + grad_total, h))
        self.row_sum.assign(self.row_sum - rate * ops.matmul(to_sums, h))
        return grad_inputs

    def _updated_inverse(self, h, t, rate):
        """The new P, and `P h` `(N, d)` with it, for a mixer `U (I - rate H^T diag(t) H)`."""
        old = self.inverse_mixer_t
        if h.shape[0] is not None and h.shape[0] > h.shape[1]:
            change = rate * ops.matmul(ops.transpose(h), t * h)
            inverse = ops.transpose(_solve_identity_less(change, ops.transpose(old)))
            return inverse, ops.matmul(h, ops.transpose(inverse))
        # The same by Woodbury's identity, from a system of N equations.
        images = ops.matmul(h, ops.transpose(old))
        change = rate * ops.matmul(h, ops.transpose(t * h))
        solved = _solve_identity_less(change, ops.concatenate([h, images], axis=1))
        solved_h, new_images = ops.split(solved, 2, axis=1)
        return old + rate * ops.matmul(ops.transpose(t * images), solved_h), new_images

    def stabilize(self, low=0.5, high=2.0):
        """Brings the singular values of the mixer back, without a change of the kernel.

        Those outside of `[low, high]` become 1, at `O(D d)` each; if they are more than a third,
        `refactorize` is called. The inverse of the mixer is computed anew in any case. For eager
        code, between steps; after `fit` on JAX has begun, `model.jax_state_sync()` comes first.

        Args:
            low: float in `(0, 1]`.
            high: float, at least 1.

        Returns:
            Int, how many were outside. A mixer that is not finite is beyond repair: `d`, and
            nothing is changed.
        """
        check_number("low", low, positive=True)
        check_number("high", high)
        if not low <= 1 <= high:
            raise ValueError(
                f"`low` and `high` must have 1 between them. Received: low={low}, high={high}"
            )
        self._check_built()
        mixer = ops.convert_to_numpy(self.mixer).astype("float64")
        if not np.isfinite(mixer).all():
            return len(mixer)
        vectors, values, _ = np.linalg.svd(mixer)
        outside = (values < low) | (values > high)
        count = int(outside.sum())
        if 3 * count > len(values):
            self.refactorize()
        else:
            if count:
                self._repair(mixer, vectors[:, outside], values[outside])
            self.inverse_mixer_t.assign(self._cast(np.linalg.inv(mixer).T))
        return count

    def _repair(self, mixer, vectors, values):
        """Puts singular values back to 1: in `mixer`, in its variable, and, inverted, in V."""
        mixer += (vectors * (1 / values - 1)) @ (vectors.T @ mixer)
        self.mixer.assign(self._cast(mixer))
        down, up = self._cast(vectors), self._cast((vectors * (values - 1)).T)
        replace_rows(lambda rows: rows + ops.matmul(ops.matmul(rows, down), up), self.factor)

    def refactorize(self):
        """Multiplies the factors out, at `O(D d^2)`: V becomes W, and U the identity.

        What depends on the kernel is computed anew, so that rounding is forgotten. For eager code,
        as `stabilize`; V is replaced in place, block after block.
        """
        self._check_built()
        mixer, offset = ops.convert_to_tensor(self.mixer), ops.convert_to_tensor(self.offset)
        replace_rows(lambda rows: ops.matmul(rows, mixer) + offset, self.factor)
        self._forget_factors()

    def _forget_factors(self):
        identity = np.eye(self.mixer.shape[0])
        self.mixer.assign(self._cast(identity))
        self.inverse_mixer_t.assign(self._cast(identity))
        self.offset.assign(self._cast(np.zeros(self.offset.shape)))
        self.gram.assign(self._sum_of_blocks(_square))
        self.row_sum.assign(self._sum_of_blocks(_add_up))

    def get_kernel(self):
        """The kernel in the layout of `keras.layers.Dense`, `(d, D)`: a new tensor, `W^T`."""
        self._check_built()
        kernel = ops.matmul(ops.transpose(self.mixer), ops.transpose(self.factor))
        return kernel + self.offset[:, None]

    def set_kernel(self, kernel):
        """Makes this the kernel, and refactorizes. Builds the layer where it is not built.

        Args:
            kernel: `(d, D)`, the layout of `keras.layers.Dense`.
        """
        kernel = ops.convert_to_tensor(kernel)
        shape = tuple(kernel.shape)
        fits = len(shape) == 2 and shape[1] == self.units
        if not fits or (self.built and shape[0] != self.mixer.shape[0]):
            d = self.mixer.shape[0] if self.built else "d"
            raise ValueError(f"`kernel` must be `({d}, {self.units})`. Received: shape {shape}")
        if not self.built:
            self.build((None, shape[0]))
        self.factor.assign(ops.transpose(self._cast(kernel)))
        self._forget_factors()

    def _cast(self, x):
        return ops.cast(x, self._state_dtype)

    def _check_built(self):
        if not self.built:
            raise ValueError(
                "The layer must be built: call it, `build` or `set_kernel` first. "
                f"Received: {self.name!r}, which has no weights"
            )

    def _checked(self, inputs, indices):
        """Inputs in the dtype of the state, and indices as int32."""
        self._check_built()
        inputs, indices = self._cast(inputs), ops.convert_to_tensor(indices)
        shapes = tuple(inputs.shape), tuple(indices.shape)
        d = self.mixer.shape[0]
        fits = len(shapes[0]) == len(shapes[1]) == 2 and shapes[0][1] == d
        rows = [shape[0] for shape in shapes if shape]
        if not fits or shapes[1][1] is None or (None not in rows and rows[0] != rows[1]):
            raise ValueError(
                f"`inputs` must be `(N, {d})` and `indices` `(N, K)`. Received: inputs of shape "
                f"{shapes[0]}, indices of shape {shapes[1]}"
            )
        dtype = keras.backend.standardize_dtype(indices.dtype)
        if "int" not in dtype:
            raise ValueError(f"`indices` must be integers. Received: dtype {dtype}")
        return inputs, ops.cast(indices, "int32")

    def compute_output_shape(self, input_shape):
        """`(N, D)`."""
        return (input_shape[0], self.units)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
        return {**super().get_config(), **own}


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What a step reads: `inputs` H, `indices`, `rows` of V, `mixed` H U^T, `images` H Q."""

    inputs: Tensor
    indices: Tensor
    rows: Tensor
    mixed: Tensor
    images: Tensor
    statistics: tuple[Tensor, Tensor, Tensor]


def _square(rows):
    return ops.matmul(ops.transpose(rows), rows)


def _add_up(rows):
    return ops.sum(rows, axis=0)


def _solve_identity_less(change, right):
    """`x` with `(I - change) x = right`, where TensorFlow would stop at a NaN in `change`."""
    identity = ops.eye(ops.shape(change)[0], dtype=change.dtype)
    left = identity - change
    return ops.solve(ops.where(ops.isfinite(left), left, identity), right)


def _sparse_products(indices, values):
    """Inner products `(N, N)` of sparse vectors of D numbers, whose entries may coincide."""
    n, k = ops.shape(values)[0], values.shape[1]
    indices, values = ops.reshape(indices, (-1,)), ops.reshape(values, (-1,))
    same = ops.equal(indices[:, None], indices[None, :])
    products = ops.where(same, values[:, None] * values[None, :], ops.zeros((), values.dtype))
    if k == 1:
        return products
    return ops.sum(ops.reshape(products, (n, k, n, k)), axis=(1, 3))
