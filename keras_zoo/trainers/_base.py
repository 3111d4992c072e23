"""What the trainers that wrap a user's model share."""

import keras
from keras import ops

from keras_zoo._checks import check_count


class ZooTrainer(keras.Model):
    """A model that knows its own loss: subclasses define `compute_loss`.

    It draws from `seed_generator`, an attribute of the model, since JAX's jitted step would freeze
    the state of any other. Keras leaves such states out of files; here they are saved, so that a
    run that goes on from a file draws what an unbroken one would have drawn.

    Args:
        seed: int, or None for a new one each time.
        **kwargs: `name`, `dtype` of `keras.Model`.
    """

    def __init__(self, seed=None, **kwargs):
        seed = None if seed is None else check_count("seed", seed, least=0)
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def compile(self, optimizer="rmsprop", loss=None, loss_weights=None, **kwargs):
        """As `keras.Model.compile`, without a loss: the procedure has its own."""
        if loss is not None or loss_weights is not None:
            raise ValueError(
                f"`loss` and `loss_weights` must be None, since {type(self).__name__} has a loss "
                f"of its own. Received: loss={loss!r}, loss_weights={loss_weights!r}"
            )
        super().compile(optimizer=optimizer, **kwargs)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *args,
        **kwargs,
    ):
        """As `keras.Model.fit`, with what the procedure does between steps or epochs."""
        own = self._own_callbacks()
        if own:
            given = getattr(callbacks, "callbacks", callbacks)
            given = [] if given is None else keras.tree.flatten(given)
            # First, so that a checkpoint of a step holds what they have done at it.
            callbacks = [*own, *given]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs)

    def _own_callbacks(self):
        """Callbacks that every `fit` has; none, unless a subclass gives some."""
        return []

    def compile_from_config(self, config):
        """Compiles a loaded model as the saved one was compiled."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def save_own_variables(self, store):
        """Adds the state of the random numbers to what a file holds."""
        super().save_own_variables(store)
        store["random_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        """Takes the state of the random numbers from a file, if it has one."""
        own = {key: store[key] for key in store.keys() if key != "random_state"}  # noqa: SIM118
        super().load_own_variables(own)
        if len(own) < len(store.keys()):
            self.seed_generator.state.assign(store["random_state"])

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}

    def _total(self, loss):
        """`loss` and what layers add: regularizers, `add_loss`, of their latest pass."""
        for extra in self.losses:
            loss = loss + ops.sum(ops.cast(extra, loss.dtype))
        return loss
