"""Continuously weighted contrastive loss (Srinivasa et al., 2023)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_flag, check_not_negative, check_number
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._views import check_rows, prepare_views, query_logits
from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.pairs import l2_normalize


@component(paper="cwcl")
class CWCLLoss(ZooLoss):
    """Aligns a modality with a frozen one, every pair as positive as the frozen one finds it.

    With `p_i` `(D,)` the trained embedding of example `i`, `q_i` the frozen one of its partner,
    both l2-normalised, and `s_i` the l2-normalised features of the partner (`q_i` itself unless
    others are given):

        w_ij = (<s_i, s_j> + 1) / 2                 in [0, 1], a constant to the gradient
        Z_ij = <p_i, q_j> / temperature             (N, N)
        r_i  = - sum_j w_ij / sum_k w_ik  log softmax_j(Z_i:)
        c_i  = log( sum_k exp(Z_ki) ) - Z_ii
        l_i  = r_i + reverse_weight c_i

    `j = i` is in all sums. If all other weights were 0, this would be twice the symmetric
    `InfoNCELoss`; as they are not, the least value is the entropy of the weights, not 0.

    Args:
        temperature: float > 0. For one that is learned see `keras_zoo.layers.LogitScale`.
        reverse_weight: float >= 0. Weight of the ordinary contrastive term in the other
            direction. Where the frozen features are spread around 0, the weights are nearly
            uniform, and that term carries much of the training.
        weights_from: "embedding" takes the weights from `q`; "target" from features in `y_true`.
        normalize: bool. Whether `p` and `q` are l2-normalised first. The weights always are
            those of normalised features.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_pred` `(N, 2, D)`: view 0 is `p`, view 1 `q`. `y_true` `(N, E)`, features of the
    frozen modality, for `weights_from="target"`; otherwise it says nothing and may be anything of
    `N` rows.

    Output before reduction: `(N,)`. One example alone gives 0. A row of zeros keeps cosine 0 and
    weight 1/2 with all, itself included. NaN in an embedding reaches all that meet it.

    `q` gets no gradient through the weights, yet one through `Z`: freezing its tower is the model's
    business. Under `keras.distribution` on JAX a step that is spread over devices sees the whole
    batch; the replicas of TensorFlow's `tf.distribute` and of torch's process groups each see their
    own part, unless `keras_zoo.ops.all_gather` brings the parts together first.

    Raises:
        ValueError: an argument is out of its range; `y_pred` is no batch of two views; `y_true`
            holds no features where the weights shall come from them.

    Example:
    >>> audio, text_embedding = keras.Input((64,)), keras.Input((32,))
    >>> pairs = keras.ops.stack([keras.layers.Dense(32)(audio), text_embedding], axis=1)
    >>> model = keras.Model([audio, text_embedding], pairs)
    >>> model.compile("adam", loss=keras_zoo.losses.CWCLLoss(temperature=0.1))

    Reference: arXiv:2309.14580. No official code was found. Both directions are added, as one
    re-implementation does; another averages them, which halves the gradient.
    """

    def __init__(
        self,
        temperature=0.07,
        reverse_weight=1.0,
        weights_from="embedding",
        normalize=True,
        name="cwcl_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.reverse_weight = check_not_negative("reverse_weight", reverse_weight)
        self.weights_from = check_choice("weights_from", weights_from, ("embedding", "target"))
        self.normalize = check_flag("normalize", normalize)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        views = prepare_views(y_pred, self.normalize, count=2)
        features = views[:, 1]
        if self.weights_from == "target":
            features = full_precision(y_true)
            check_rows(features, views, 2, "(N, E)")
        if views.shape[0] == 0:
            return ops.zeros((0,), dtype=views.dtype)
        if self.weights_from == "target" or not self.normalize:
            features = l2_normalize(features)
        W = _weights(ops.cast(ops.stop_gradient(features), views.dtype))
        Z = query_logits(views, self.temperature)
        row = ops.logsumexp(Z, axis=1) - ops.sum(W * Z, axis=1)
        column = ops.logsumexp(Z, axis=0) - ops.diagonal(Z)
        return row + self.reverse_weight * column

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "temperature": self.temperature,
            "reverse_weight": self.reverse_weight,
            "weights_from": self.weights_from,
            "normalize": self.normalize,
        }
        return {**super().get_config(), **own}


def _weights(s):
    """`(cosine + 1) / 2` of all pairs of unit vectors `(N, E)`, each row divided by its sum."""
    W = ops.matmul(s, ops.transpose(s)) + 1.0
    return W / ops.sum(W, axis=1, keepdims=True)
