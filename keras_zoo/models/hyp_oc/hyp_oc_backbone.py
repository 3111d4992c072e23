"""The network of Hyp-OC: from an input to a point of the Poincare ball."""

import keras
from keras_hub.models import Backbone

from keras_zoo._catalog import component
from keras_zoo._checks import check_layer
from keras_zoo.layers import ToPoincareBall
from keras_zoo.models._presets import PresetMixin
from keras_zoo.trainers.hyp_oc import HIDDEN_UNITS, check_hidden_units, dense_embedding


@component(paper="hyp-oc")
class HypOCBackbone(PresetMixin, Backbone):
    """Embeds inputs in the Poincare ball, as `keras_zoo.trainers.HypOC` does.

        f = encoder(x)                        (D,)
        z = to_ball(embedding(f))             (d,), |z| < 1 / sqrt(curvature)

    Args:
        encoder: model with one input, of a known shape but for the batch; from inputs to features
            `(N, D)`. It keeps its own dtype and its `trainable`.
        embedding: layer or model, from `(N, D)` to `(N, d)`. None for dense layers of
            `hidden_units`, each with a ReLU.
        hidden_units: positive ints; left out where there is an `embedding`.
        curvature: float > 0.
        clip_radius: float > 0, or None; see `keras_zoo.layers.ToPoincareBall`.
        dtype: dtype or policy of all but the encoder and a given embedding.
        **kwargs: `name`, `trainable` of `keras.Model`.

    Inputs: those of the encoder.
    Output: points of the ball, `(N, d)`, float32 under the policies of half precision as well.

    Raises:
        ValueError: an argument is out of its range; `encoder` is not such a model.

    Example:
    >>> encoder = keras.Sequential([keras.Input((25, 25)), keras.layers.Flatten()])
    >>> backbone = keras_zoo.models.HypOCBackbone(encoder, hidden_units=(64, 16))
    >>> tuple(backbone(np.zeros((2, 25, 25))).shape)
    (2, 16)

    Reference: arXiv:2404.14406; github.com/Kartik-3004/hyp-oc. Differs from the official code: any
    encoder, VGG-Face up to its layer fc6 there.
    """

    def __init__(
        self,
        encoder,
        embedding=None,
        hidden_units=HIDDEN_UNITS,
        curvature=0.1,
        clip_radius=2.0,
        dtype=None,
        **kwargs,
    ):
        inputs = encoder.inputs if isinstance(encoder, keras.Model) and encoder.built else None
        if not inputs or len(inputs) != 1 or len(encoder.outputs[0].shape) != 2:
            raise ValueError(
                "`encoder` must be a functional or sequential model of one input of a known shape, "
                f"with features `(N, D)`. Received: encoder={encoder!r}"
            )
        if embedding is not None:
            check_layer("embedding", embedding)
        hidden_units = check_hidden_units(hidden_units, embedding)
        # A model is trainable anyway; to be told so would thaw what is frozen in the encoder.
        if kwargs.get("trainable"):
            kwargs.pop("trainable")

        # === Layers ===
        to_ball = ToPoincareBall(curvature, clip_radius, dtype=dtype, name="to_ball")
        own_embedding = embedding is None
        if own_embedding:
            embedding = dense_embedding(hidden_units, dtype)

        # === Functional model ===
        x = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype, name="inputs")
        super().__init__(x, to_ball(embedding(encoder(x))), dtype=dtype, **kwargs)

        # === Config ===
        self.encoder = encoder
        self.embedding = embedding
        self.to_ball = to_ball
        self.hidden_units = hidden_units
        self.curvature = curvature
        self.clip_radius = clip_radius
        self._own_embedding = own_embedding

    def get_config(self):
        """The constructor's arguments."""
        embedding = None if self._own_embedding else self.embedding
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "embedding": keras.saving.serialize_keras_object(embedding),
            "hidden_units": list(self.hidden_units),
            "curvature": self.curvature,
            "clip_radius": self.clip_radius,
        }

    @classmethod
    def from_config(cls, config):
        """Makes the backbone from `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("encoder", "embedding")
            if isinstance(config.get(name), dict)
        }
        return super().from_config({**config, **parts})
