"""Prototypical cross-entropy of a few-shot episode."""

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_number
from keras_zoo.losses._episodes import EpisodeLoss
from keras_zoo.ops import masked_logsumexp
from keras_zoo.ops.episodes import nearness


@component(paper="susana-distancia")
class PrototypicalLoss(EpisodeLoss):
    """Cross-entropy of queries over squared distances to the prototypes of the classes.

    In each class the first `shots` rows, in the order of the batch, are support; `c_w` `(D,)` is
    their mean, the prototype of class `w`. All other rows are queries; for one of class `y`:

        l_q = -log softmax_w( -|x_q - c_w|^2 / temperature )_y

    A row's loss is `l_q N / number of queries` for a query and 0 for support, so that the default
    reduction gives the mean over queries.

    Args:
        shots: int > 0. Support rows of a class.
        temperature: float > 0.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true` `(N,)` or `(N, 1)` labels (any integers, as float32: beyond 2**24 they may
    collide); `y_pred` `(N, D)` embeddings. Rows may stand in any order that keeps that within the
    classes; batches come from `keras_zoo.samplers.EpisodeSampler`.

    Output before reduction: `(N,)`. A class of no more than `shots` rows has a prototype and no
    query. Without a query, or with one class alone, all is 0. NaN in a row gives NaN for all.

    The batch is one thing to this loss. Under `keras.distribution` on JAX a step that is spread
    over devices sees the whole of it; the replicas of TensorFlow's `tf.distribute` and of torch's
    process groups each see their own part, unless `keras_zoo.ops.all_gather` brings the parts
    together first.

    Raises:
        ValueError: an argument is out of its range; `y_true` and `y_pred` do not fit together.

    Example:
    >>> episodes = keras_zoo.samplers.EpisodeSampler(x, y, ways=10, shots=5, queries=10)
    >>> model.compile("adam", loss=keras_zoo.losses.PrototypicalLoss(shots=5))
    >>> model.fit(episodes, epochs=10)

    Reference: arXiv:1703.05175; the baseline of arXiv:2305.09062. Differs from the official code:
    labels are the classes' own, and rows are assigned by their order within the class.
    """

    def __init__(self, shots, temperature=1.0, name="prototypical_loss", **kwargs):
        super().__init__(shots, name=name, **kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)

    def row_losses(self, rows):
        """Loss of each row as if it were a query, `(N,)`."""
        scores = nearness(rows.features, rows.prototypes) / self.temperature
        own = rows.prototypes * (2 * rows.features - rows.prototypes)
        own = ops.sum(own, axis=-1, keepdims=True) / self.temperature
        others = ops.logical_and(rows.first[None, :], ops.logical_not(rows.same))
        return masked_logsumexp(scores - own, others, floor=0.0)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "temperature": self.temperature}
