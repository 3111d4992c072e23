"""Mixing the quantiles that several models predict (Fakoor et al., 2023)."""

import keras
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_flag, check_number, check_rate
from keras_zoo.layers._composite import CompositeLayer
from keras_zoo.ops.monotone_quantiles import METHODS, monotone_quantiles

RESOLUTIONS = ("coarse", "medium", "fine")


@component(paper="quantile-aggregation")
class QuantileAggregation(CompositeLayer):
    """Learnt weights for the predictions of `M` models at `Q` levels, in six forms.

    With the models' predictions `z` `(M, Q)` of an example, features `x` `(F,)` of it:

        resolution   weights w   out_q
        coarse       (M, 1)      sum_m w_m z_mq              one weight a model
        medium       (M, Q)      sum_m w_mq z_mq             one weight a model and level
        fine         (M Q, Q)    sum_{m, r} w_{(m r), q} z_mr   every level made from all others

        w = softmax(logits) over the first axis of w          (w = logits if normalize is False)
        logits are weights of the layer, or network(x) where local is True

    The row `(m r)` of fine weights is `m * Q + r`. The network is `num_layers` dense layers of
    `hidden_units`, with dropout between them, and a last one without activation. Local and fine
    with a penalty for crossing (see `keras_zoo.losses.QuantileLoss`) and a sort is the paper's deep
    quantile aggregation.

    Args:
        resolution: "coarse", "medium" or "fine".
        local: bool. Whether weights depend on features.
        normalize: bool. Whether weights are positive and sum to 1 for each level; else they are
            free.
        hidden_units: int, for local weights alone, as the next three.
        num_layers: int. Hidden layers.
        dropout: float in [0, 1). Rate between hidden layers.
        activation: what `keras.activations.get` takes, of the hidden layers.
        monotone: None, or a method of `keras_zoo.ops.monotone_quantiles` by which the output is put
            in order. Sorting can only lower the loss.
        monotone_in_training: bool. Whether that happens in training too: a penalty for crossing has
            nothing to see then.
        monotone_strength: float > 0, of the soft sort alone.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`. The softmax is computed in
            float32 at least.

    Inputs: predictions `(N, M, Q)`; for local weights the list `[predictions, features]`, with
    features `(N, F)`, which should be of a similar scale. Output: `(N, Q)`.

    Weights: `logits` of the shape above, 0 at the start, which gives plain averages (over models
    and levels for fine weights; 0 without normalization). For local weights `hidden_i/kernel` and
    `hidden_i/bias` for each layer, then `logits/kernel` and `logits/bias`. Fine local weights are
    `M Q Q` outputs: 58,806 for six models of 99 levels.

    NaN in an example gives NaN for it alone.

    Raises:
        ValueError: an argument is out of its range; the inputs have other shapes.

    Example:
    >>> predictions, features = np.random.rand(8, 3, 5), np.random.rand(8, 4)
    >>> layer = keras_zoo.layers.QuantileAggregation("fine", local=True, monotone="sort")
    >>> tuple(layer([predictions, features]).shape)
    (8, 5)

    Reference: arXiv:2103.00083, sections 3 and 4; github.com/amazon-research/quantile-aggregation.
    Differs from the official code, whose sort is a soft one.
    """

    def __init__(
        self,
        resolution="medium",
        local=False,
        normalize=True,
        hidden_units=64,
        num_layers=3,
        dropout=0.0,
        activation="elu",
        monotone=None,
        monotone_in_training=False,
        monotone_strength=0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.resolution = check_choice("resolution", resolution, RESOLUTIONS)
        self.local = check_flag("local", local)
        self.normalize = check_flag("normalize", normalize)
        self.hidden_units = check_count("hidden_units", hidden_units)
        self.num_layers = check_count("num_layers", num_layers)
        self.dropout = check_rate("dropout", dropout)
        self.activation = keras.activations.get(activation)
        self.monotone = None if monotone is None else check_choice("monotone", monotone, METHODS)
        self.monotone_in_training = check_flag("monotone_in_training", monotone_in_training)
        self.monotone_strength = check_number("monotone_strength", monotone_strength, positive=True)

    def build(self, input_shape):
        """Makes the logits, or the network that they come from."""
        predictions, features = _checked_shapes(input_shape, self.local)
        models, levels = predictions[1:]
        shapes = {
            "coarse": (models, 1),
            "medium": (models, levels),
            "fine": (models * levels, levels),
        }
        self.weight_shape = shapes[self.resolution]
        if not self.local:
            self.logits = self.add_weight(self.weight_shape, "zeros", name="logits")
            return
        policy = {"dtype": self.sublayer_dtype}
        size = features[1]
        self._network = []
        for i in range(self.num_layers):
            if i and self.dropout:
                drop = keras.layers.Dropout(self.dropout, name=f"dropout_{i}", **policy)
                self._network.append(drop)
            dense = keras.layers.Dense(
                self.hidden_units, self.activation, name=f"hidden_{i}", **policy
            )
            dense.build((None, size))
            self._network.append(dense)
            size = self.hidden_units
        last = keras.layers.Dense(
            self.weight_shape[0] * self.weight_shape[1], name="logits", **policy
        )
        last.build((None, size))
        self._network.append(last)

    def call(self, inputs, training=None):
        """The mixture."""
        weights = ops.cast(self._mixing_weights(inputs, training), self.compute_dtype)
        z = inputs[0] if self.local else inputs
        if self.resolution == "fine":
            z = ops.reshape(z, (-1, self.weight_shape[0]))
            # Each level of each model in each example: a product of matrices does not hold them.
            equation = "nk,nkq->nq" if self.local else "nk,kq->nq"
            mixed = ops.einsum(equation, z, weights if self.local else weights[0])
        else:
            mixed = ops.sum(weights * z, axis=1)
        if self.monotone is None or (training and not self.monotone_in_training):
            return mixed
        return monotone_quantiles(mixed, self.monotone, self.monotone_strength)

    def aggregation_weights(self, inputs):
        """The weights that models and levels have, as at inference.

        Args:
            inputs: as of the layer.

        Returns:
            `(N, *w)` for local weights, else `(1, *w)`, with `w` the shape above.
        """
        if not self.built:
            self(inputs)
        return self._mixing_weights(inputs, training=False)

    def _mixing_weights(self, inputs, training):
        """`w` of the docstring with a first axis of examples, or of 1, in full precision."""
        if self.local:
            x = inputs[1]
            for layer in self._network:
                is_dropout = isinstance(layer, keras.layers.Dropout)
                x = layer(x, training=training) if is_dropout else layer(x)
            logits = ops.reshape(x, (-1, *self.weight_shape))
        else:
            logits = ops.convert_to_tensor(self.logits)[None]
        if self.compute_dtype != "float64":
            logits = ops.cast(logits, "float32")
        return ops.softmax(logits, axis=1) if self.normalize else logits

    def compute_output_shape(self, input_shape):
        """`(N, Q)`."""
        predictions, _ = _checked_shapes(input_shape, self.local)
        return (predictions[0], predictions[2])

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "resolution": self.resolution,
            "local": self.local,
            "normalize": self.normalize,
            "hidden_units": self.hidden_units,
            "num_layers": self.num_layers,
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
            "monotone": self.monotone,
            "monotone_in_training": self.monotone_in_training,
            "monotone_strength": self.monotone_strength,
        }
        return {**super().get_config(), **own}


def _checked_shapes(input_shape, local):
    """Shapes of predictions and features, the latter None if weights are not local."""
    is_list = bool(input_shape) and isinstance(input_shape[0], (list, tuple))
    shapes = list(input_shape) if is_list else [input_shape]
    fits = is_list == local and len(shapes) == 1 + local
    fits = fits and len(shapes[0]) == 3 and None not in shapes[0][1:]
    if local:
        fits = fits and len(shapes[1]) == 2 and shapes[1][1] is not None
    if not fits:
        wanted = "[predictions `(N, M, Q)`, features `(N, F)`]" if local else "`(N, M, Q)`"
        raise ValueError(
            f"`inputs` must be {wanted} for local={local}, with known sizes but for N. "
            f"Received: shape {input_shape}"
        )
    return shapes[0], shapes[1] if local else None
