"""Inter- and intra-class nearest-neighbour loss (Mendez-Ruiz et al., 2023)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops.icnn import check_neighbors, icnn_score


@component(paper="susana-distancia")
class ICNNLoss(ZooLoss):
    """Makes neighbours in a batch be of one class, near, and far from the other classes.

        L = -log icnn_score(y_true, y_pred)

    one number for the batch, repeated on each of its `N` rows; see `keras_zoo.ops.icnn_score` for
    the score of labels `(N,)` and embeddings `(N, D)`. All rows take part, support and queries.

    Args:
        k: int > 0. Neighbours that are scored; fewer if the batch has fewer than `k + 3` rows.
        num_neighbors: int >= k. Neighbours among which the nearest of another class is sought. None
            for `k + 1`; better the number of rows of a class, with which there always is one.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (any integers, as float32: beyond 2**24 they may
    collide); `y_pred` `(N, D)` embeddings; `N >= 4`.

    Output before reduction: `(N,)`. If all neighbours are of one's own class it is 0, with a
    gradient of 0. NaN in a row gives NaN for all.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together;
            fewer than 4 rows, so mind the last batch of an epoch.

    Example:
    >>> episodes = keras_zoo.samplers.EpisodeSampler(x, y, ways=10, shots=5, queries=10)
    >>> model.compile("adam", loss=keras_zoo.losses.ICNNLoss(num_neighbors=15))
    >>> model.fit(episodes, epochs=10)

    Reference: arXiv:2305.09062, section 3.2; github.com/maumruiz/FSL-Loss (the variant on all rows,
    that of its final scripts).
    """

    def __init__(self, k=4, num_neighbors=None, name="icnn_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.k, self.num_neighbors = check_neighbors(k, num_neighbors)

    def call(self, y_true, y_pred):
        """The loss of the batch, on each row, `(N,)`."""
        loss = -ops.log(icnn_score(y_true, y_pred, self.k, self.num_neighbors))
        return ops.broadcast_to(loss, (ops.shape(y_pred)[0],))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "k": self.k, "num_neighbors": self.num_neighbors}
