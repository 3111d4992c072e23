"""The autoencoder that fuses the features of several encoders (Mondol et al., 2024)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_not_negative
from keras_zoo.trainers._base import ZooTrainer


@component(paper="biofusionnet")
class FusionVAE(ZooTrainer):
    """A variational autoencoder whose latent mean stands for features of several encoders.

    For features `x` `(..., D)`, side by side, with `h = relu(dense(x))`:

        mean, log_var = dense(h), dense(h)                            (..., L)
        z             = mean + exp(log_var / 2) eps,  eps ~ N(0, 1)
        x'            = dense(relu(dense(z)))                         (..., D)
        loss          = |x - x'|^2 - beta / 2 sum_k (1 + log_var - mean^2 - exp(log_var))_k

    Compile it with an optimizer alone and `fit(x)` without targets. It decodes a sample in
    training, and the mean otherwise. Targets are not used; without any, Keras drops a
    `sample_weight`: `fit(x, x, sample_weight=weight)`.

    Args:
        input_dim: int `D`.
        intermediate_dim: int, width of `h` and of the decoder's hidden layer.
        latent_dim: int `L`.
        beta: float >= 0.
        seed: int, or None.
        **kwargs: `name`, `dtype` of `keras.Model`. The loss is computed in float32.

    Inputs: `(..., D)`, standardised.
    Output: the reconstruction, `(..., D)`.

    Weights: kernel and bias of `hidden`, `mean`, `log_var`, `decoder_hidden`, `reconstruction`.

    Raises:
        ValueError: an argument is out of its range; `compile` is given a loss.

    Example:
    >>> x = np.random.normal(size=(64, 12)).astype("float32")
    >>> vae = keras_zoo.models.FusionVAE(12, intermediate_dim=16, latent_dim=4)
    >>> vae.compile(keras.optimizers.AdamW(1e-3))
    >>> history = vae.fit(x, epochs=2, verbose=0)
    >>> tuple(vae.encode(x)[0].shape)
    (64, 4)

    Reference: arXiv:2402.10717; github.com/raktim-mondol/BioFusionNet, `VAE.py`. Differs from the
    official code, which adds up the losses of a batch in place of their mean, and whose training
    script stores a sample for each patch.
    """

    def __init__(
        self,
        input_dim=1152,
        intermediate_dim=512,
        latent_dim=256,
        beta=1.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        self.input_dim = check_count("input_dim", input_dim)
        self.intermediate_dim = check_count("intermediate_dim", intermediate_dim)
        self.latent_dim = check_count("latent_dim", latent_dim)
        self.beta = check_not_negative("beta", beta)
        self._hidden = self._dense("hidden", input_dim, intermediate_dim, "relu")
        self._mean = self._dense("mean", intermediate_dim, latent_dim)
        self._log_var = self._dense("log_var", intermediate_dim, latent_dim)
        self._decoder_hidden = self._dense("decoder_hidden", latent_dim, intermediate_dim, "relu")
        self._reconstruction = self._dense("reconstruction", intermediate_dim, input_dim)
        self.built = True

    def _dense(self, name, dim, units, activation=None):
        layer = keras.layers.Dense(units, activation, name=name, dtype=self.dtype_policy)
        layer.build((None, dim))
        return layer

    def encode(self, x):
        """`(mean, log_var)` of features `(..., D)`, each `(..., L)`."""
        hidden = self._hidden(x)
        return self._mean(hidden), self._log_var(hidden)

    def decode(self, z):
        """The reconstruction `(..., D)` of latent vectors `(..., L)`."""
        return self._reconstruction(self._decoder_hidden(z))

    def call(self, x, training=None):
        """The reconstruction, from a sample in training and from the mean otherwise."""
        mean, log_var = self.encode(x)
        if training:
            noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
            mean = mean + ops.exp(log_var / 2) * noise
        return self.decode(mean)

    def vae_loss(self, x, reconstruction, mean, log_var):
        """The loss of each example, `(...,)`."""
        x, reconstruction, mean, log_var = [
            ops.cast(part, "float32") for part in (x, reconstruction, mean, log_var)
        ]
        error = ops.sum(ops.square(x - reconstruction), axis=-1)
        divergence = ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=-1)
        return error - self.beta / 2 * divergence

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The mean of `vae_loss`, weighted, and what layers add."""
        loss = self.vae_loss(x, y_pred, *self.encode(x))
        if sample_weight is not None:
            weight = ops.cast(sample_weight, loss.dtype)
            spread = tuple(weight.shape) + (1,) * (len(loss.shape) - len(weight.shape))
            loss = loss * ops.reshape(weight, (-1, *spread[1:]))
        return self._total(ops.mean(loss))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "intermediate_dim": self.intermediate_dim,
            "latent_dim": self.latent_dim,
            "beta": self.beta,
        }
