"""InfoNCE: the contrastive loss of CLIP and of dual encoders."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_flag, check_number
from keras_zoo.losses._base import ZooLoss
from keras_zoo.losses._views import prepare_views, query_logits


@component(paper="cwcl")
class InfoNCELoss(ZooLoss):
    """Finds each query's own positive among all candidates of the batch.

    With `a_i` `(D,)` the query and `b_j` the positive of example `j`, l2-normalised, `h_k` all
    `N H` hard negatives of the batch, and `Z_ij = <a_i, b_j> / temperature`:

        row_i = log( sum_j exp(Z_ij) + sum_k exp(<a_i, h_k> / temperature) ) - Z_ii
        col_i = log( sum_j exp(Z_ji) ) - Z_ii
        l_i   = (row_i + col_i) / 2,   or row_i alone

    The hard negatives of every example are negatives to every query; the columns run over the
    queries alone.

    Args:
        temperature: float > 0.
        symmetric: bool. Whether positives also look for their queries, `col`, as CLIP and LiT
            have it. False for retrieval with a dual encoder.
        normalize: bool. Whether views are l2-normalised first.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_pred` `(N, 2 + H, D)`: view 0 the query, 1 its positive, 2 and up its hard
    negatives. `y_true` says nothing here and may be anything of `N` rows, such as zeros.

    Output before reduction: `(N,)`. One example without hard negatives gives 0. A row of zeros
    keeps product 0 with all. NaN in an embedding reaches all that meet it.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_pred` is no batch of views.

    Example:
    >>> loss = keras_zoo.losses.InfoNCELoss(temperature=0.1)
    >>> pairs = keras.ops.stack([keras.ops.eye(4), keras.ops.eye(4)], axis=1)
    >>> round(float(loss(keras.ops.zeros(4), pairs)), 6)  # log(1 + 3 e^-10)
    0.000136

    Reference: arXiv:2309.14580, the baseline (CLIP, LiT); arXiv:2510.00137, equation 4, for
    `symmetric=False`.
    """

    def __init__(
        self, temperature=0.07, symmetric=True, normalize=True, name="info_nce_loss", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.symmetric = check_flag("symmetric", symmetric)
        self.normalize = check_flag("normalize", normalize)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        views = prepare_views(y_pred, self.normalize)
        if views.shape[0] == 0:
            return ops.zeros((0,), dtype=views.dtype)
        Z = query_logits(views, self.temperature)
        own = ops.diagonal(Z)
        row = ops.logsumexp(Z, axis=1) - own
        if not self.symmetric:
            return row
        column = ops.logsumexp(Z[:, : ops.shape(views)[0]], axis=0) - own
        return (row + column) / 2

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "temperature": self.temperature,
            "symmetric": self.symmetric,
            "normalize": self.normalize,
        }
        return {**super().get_config(), **own}
