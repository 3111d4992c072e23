"""Adversarial training with smooth adversarial comp-sum losses (Mao, Mohri and Zhong, 2023)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_layer, check_number
from keras_zoo.losses import SmoothAdversarialCompSumLoss
from keras_zoo.losses._classes import check_logits, class_ids
from keras_zoo.losses._comp_sum import margin_distance
from keras_zoo.ops import projected_gradient_attack
from keras_zoo.trainers._base import ZooTrainer

# Evaluation starts its attack from one draw, so that it gives the same each time and leaves the
# random numbers of the training alone.
EVALUATION_SEED = 0


@component(paper="comp-sum")
class SmoothAdversarialTrainer(ZooTrainer):
    """Trains a classifier whose margins hardly move within a ball around each input.

    With `h` the logits of `model`, `D(x)` the margins `h_y(x) - h_k(x)`, `k != y`, a step looks for

        x' = argmax ||D(x') - D(x)||_2   over   max_j |x'_j - x_j| <= epsilon, x' in `value_range`

    by `num_steps` of `keras_zoo.ops.projected_gradient_attack` from a random point of that set,
    the model in inference mode, and descends along the gradient of

        keras_zoo.losses.SmoothAdversarialCompSumLoss(tau, rho, nu)(y, [h(x), h(x')])

    with `x'` a constant. Both passes are in training mode, so batch normalisation sees the clean
    batch, then the adversarial one. Evaluation attacks likewise, with a fixed draw, and reports the
    same loss; the compiled metrics are those of the clean logits.

    Args:
        model: layer or model, from one float tensor to logits `(N, K)`.
        tau: float >= 0.
        rho: float > 0.
        nu: float >= 0, the weight of the distance. Choose it on a validation split, by accuracy
            under attack.
        epsilon: float > 0, the radius, in units of `x`.
        step_size: float > 0, how far a step of the attack goes.
        num_steps: int > 0.
        value_range: pair `(low, high)` of floats, what inputs can be; None for no bounds.
        seed: int >= 0, or None for a new one each time.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Inputs: `fit(x, y)` with floats `x` `(N, ...)` in `value_range`, integers `y` `(N,)` or
    `(N, 1)`. `sample_weight` `(N,)` weighs the losses.

    Output: `(N, K)`, the logits of `model`.

    A training step costs `num_steps + 2` passes forward and `num_steps + 1` backward more than one
    without attack. A label that is no class gives NaN as the loss; so does NaN in an input or a
    logit. Losses are float32 under every policy. Regularizers and what layers add count, once.

    Compile it with an optimizer and metrics, without a loss. Saved as `.keras` it holds the state
    of its random numbers, and goes on from there to the bit.

    Raises:
        ValueError: an argument is out of its range or of another kind; `compile` is given a loss;
            there are no labels; inputs are not floats; the model does not give logits `(N, K)`.

    Example:
    >>> network = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(10)])
    >>> model = keras_zoo.trainers.SmoothAdversarialTrainer(network, epsilon=0.1, step_size=0.025)
    >>> model.compile("adam", metrics=["sparse_categorical_accuracy"])
    >>> x, y = np.random.rand(100, 8), np.random.randint(0, 10, 100)
    >>> history = model.fit(x, y, verbose=0)
    >>> attacked = model.perturb(x, y)

    Reference: arXiv:2304.07288, which adds weight decay: give it to the optimizer. No official
    code was found.
    """

    def __init__(
        self,
        model,
        tau=1.0,
        rho=1.0,
        nu=1.0,
        epsilon=8 / 255,
        step_size=2 / 255,
        num_steps=10,
        value_range=(0.0, 1.0),
        seed=None,
        **kwargs,
    ):
        check_layer("model", model)
        loss_fn = SmoothAdversarialCompSumLoss(tau, rho, nu, dtype="float32")
        epsilon = check_number("epsilon", epsilon, positive=True)
        step_size = check_number("step_size", step_size, positive=True)
        num_steps = check_count("num_steps", num_steps)
        value_range = _check_range(value_range)
        super().__init__(seed=seed, **kwargs)
        self.model = model
        self.loss_fn = loss_fn
        self.epsilon = epsilon
        self.step_size = step_size
        self.num_steps = num_steps
        self.value_range = value_range

    def call(self, x, training=None):
        """The logits of the wrapped model, `(N, K)`."""
        return self.model(x, training=training)

    def perturb(self, x, y):
        """Adversarial inputs for the model as it is.

        Args:
            x: float tensor `(N, ...)`.
            y: class ids, `(N,)` or `(N, 1)`.

        Returns:
            Tensor of the shape of `x`, a constant without gradient.
        """
        return self._perturb(x, y, self.seed_generator)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The smooth adversarial loss, on clean and adversarial logits."""
        # Before a further pass replaces what this one added.
        added = self._total(ops.zeros((), "float32"))
        seed = self.seed_generator if training else EVALUATION_SEED
        adversarial = self.model(self._perturb(x, y, seed), training=training)
        views = [ops.cast(logits, "float32") for logits in (y_pred, adversarial)]
        return added + self.loss_fn(y, ops.stack(views, axis=1), sample_weight)

    def _perturb(self, x, y, seed):
        """As `perturb`, from a draw by this seed or generator."""
        if y is None:
            raise ValueError("`y` must hold the class of each example. Received: y=None")
        x = ops.convert_to_tensor(x)
        dtype = keras.backend.standardize_dtype(x.dtype)
        if "float" not in dtype:
            raise ValueError(f"`x` must be a tensor of floats. Received: {dtype}")
        y, logits = check_logits(y, self.model(x, training=False))
        logits = ops.stop_gradient(logits)
        labels, _ = class_ids(y, logits.shape[1])
        # Not at `x` itself, where the distance has no gradient.
        noise = keras.random.uniform(ops.shape(x), -1.0, 1.0, dtype=dtype, seed=seed)
        start = x + self.epsilon * noise
        if self.value_range is not None:
            start = ops.clip(start, *self.value_range)

        def distance(x):
            moved = ops.cast(self.model(x, training=False), logits.dtype)
            return margin_distance(labels, logits, moved)

        return projected_gradient_attack(
            distance, x, self.epsilon, self.step_size, self.num_steps, start, self.value_range
        )

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "model": keras.saving.serialize_keras_object(self.model),
            "tau": self.loss_fn.tau,
            "rho": self.loss_fn.rho,
            "nu": self.loss_fn.nu,
            "epsilon": self.epsilon,
            "step_size": self.step_size,
            "num_steps": self.num_steps,
            "value_range": self.value_range,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})


def _check_range(value_range):
    """`value_range` as a tuple of two numbers, the lower one first, or None."""
    if value_range is None:
        return None
    is_pair = isinstance(value_range, (tuple, list)) and len(value_range) == 2
    if not is_pair or not check_number("value_range", value_range[0]) < check_number(
        "value_range", value_range[1]
    ):
        raise ValueError(
            "`value_range` must be a pair (low, high) with low < high, or None. "
            f"Received: value_range={value_range!r}"
        )
    return tuple(value_range)
