"""Proto-triplet loss of a few-shot episode (Mendez-Ruiz et al., 2023)."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses._episodes import EpisodeLoss
from keras_zoo.ops.episodes import nearness, smooth_distances
from keras_zoo.ops.masked import LOWEST


@component(paper="susana-distancia")
class ProtoTripletLoss(EpisodeLoss):
    """Asks a query to be nearer to its own prototype than to any other, by a margin.

    In each class the first `shots` rows, in the order of the batch, are support; `c_w` `(D,)` is
    their mean, the prototype of class `w`. All other rows are queries. With
    `d(a, b) = sqrt(|a - b|^2 + 1e-6)`, for a query of class `y`:

        l_q = max(0, d(x_q, c_y) - min_{w != y} d(x_q, c_w) + margin)

    A row's loss is `l_q N / number of queries` for a query and 0 for support, so that the default
    reduction gives the mean over queries.

    Args:
        shots: int > 0. Support rows of a class.
        margin: float. In units of the distance, not of its square.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (any integers, as float32: beyond 2**24 they may
    collide); `y_pred` `(N, D)` embeddings. Rows may stand in any order that keeps that within the
    classes; batches come from `keras_zoo.samplers.EpisodeSampler`.

    Output before reduction: `(N,)`. A class of no more than `shots` rows has a prototype and no
    query. Without a query, or with one class alone, all is 0. Of two prototypes equally near, one
    gets the gradient. A query on its prototype has a finite gradient. NaN in a row gives NaN for
    all.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together.

    Example:
    >>> episodes = keras_zoo.samplers.EpisodeSampler(x, y, ways=10, shots=5, queries=10)
    >>> model.compile("adam", loss=keras_zoo.losses.ProtoTripletLoss(shots=5))
    >>> model.fit(episodes, epochs=10)

    Reference: arXiv:2305.09062, section 3.1; github.com/maumruiz/FSL-Loss. Differs from the
    official code: labels are the classes' own, and rows are assigned by their order within them.
    """

    def __init__(self, shots, margin=0.5, name="proto_triplet_loss", **kwargs):
        super().__init__(shots, name=name, **kwargs)
        self.margin = check_number("margin", margin)

    def row_losses(self, rows):
        """Loss of each row as if it were a query, `(N,)`."""
        others = ops.logical_and(rows.first[None, :], ops.logical_not(rows.same))
        scores = nearness(*map(ops.stop_gradient, (rows.features, rows.prototypes)))
        nearest = ops.argmax(ops.where(others, scores, LOWEST), axis=-1)
        # Distances by differences, which are exact also where two points meet.
        to_own = smooth_distances(rows.features, rows.prototypes)
        to_other = smooth_distances(rows.features, ops.take(rows.prototypes, nearest, axis=0))
        losses = ops.relu(to_own - to_other + self.margin)
        return ops.where(ops.any(others, axis=-1), losses, ops.zeros_like(losses))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}
