"""Pairwise confusion on the Poincare ball (Narayan and Patel, 2024)."""

import math

from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_number
from keras_zoo.losses._base import ZooLoss
from keras_zoo.ops._precision import full_precision
from keras_zoo.ops.poincare import chord_length, poincare_distance

DISTANCES = ("arctan", "geodesic")


@component(paper="hyp-oc")
class HyperbolicPairwiseConfusionLoss(ZooLoss):
    """Pulls the two halves of a batch of one class together, pair by pair, on the Poincare ball.

    With points `z` `(N, d)` of the ball of curvature `c`, `h` the whole part of `N / 2`, and the
    pairs `(i, i + h)`, `i < h`:

        delta = 2 / sqrt c  arctan(sqrt c |-z_i (+) z_{i+h}|)                     "arctan"
        delta = keras_zoo.ops.poincare_distance(z_i, z_{i+h}, c)                  "geodesic"
        l_i   = l_{i+h} = delta / 2                                               (N,)

    with `(+)` that of `keras_zoo.ops.mobius_add`. The mean over the batch is `sum delta / N`.

    Args:
        curvature: float > 0. `c`.
        distance: "arctan", with which the results of the paper were made, or "geodesic". The first
            is below `pi / (2 sqrt c)`, and hardly pulls at what is far apart.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `keras.losses.Loss`. Half precisions compute in float32.

    Inputs: `y_true`, anything with a row for each example, not looked at; `y_pred` `(N, d)`, inside
    of the ball. The order of the rows makes the pairs: shuffle the data.

    Output before reduction: `(N,)`. The last of an odd number of rows, and the only one of a batch
    of one, gets 0. Equal points have the loss 0, and a finite gradient. NaN in a row gives NaN for
    it and its partner.

    Raises:
        ValueError: an argument is out of its range; `y_pred` is not `(N, d)`.

    Example:
    >>> loss = keras_zoo.losses.HyperbolicPairwiseConfusionLoss(curvature=1.0)
    >>> points = [[0.0, 0.0], [0.1, 0.0], [0.5, 0.0], [0.1, 0.0]]
    >>> round(float(loss(np.zeros(4), points)), 4)
    0.2318

    Reference: arXiv:2404.14406, section 3; github.com/Kartik-3004/hyp-oc. Differs from the official
    code: none for an even N; an odd one is an error there.
    """

    def __init__(
        self,
        curvature=0.1,
        distance="arctan",
        name="hyperbolic_pairwise_confusion_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.curvature = check_number("curvature", curvature, positive=True)
        self.distance = check_choice("distance", distance, DISTANCES)

    def call(self, y_true, y_pred):
        """Loss of each example, `(N,)`."""
        z = full_precision(y_pred)
        if len(z.shape) != 2:
            raise ValueError(
                "`y_pred` must be points of the ball, `(N, d)`. "
                f"Received: y_pred of shape {tuple(z.shape)}"
            )
        half = ops.shape(z)[0] // 2
        shares = self._distance(z[:half], z[half : 2 * half]) / 2
        # Of no partner: nothing, but for a NaN.
        rest = ops.sum(0 * z[2 * half :], axis=-1)
        return ops.concatenate([shares, shares, rest], axis=0)

    def _distance(self, x, y):
        """`delta` of the class docstring."""
        if self.distance == "geodesic":
            return poincare_distance(x, y, self.curvature)
        chord = chord_length(x, y, self.curvature)
        return 2 / math.sqrt(self.curvature) * ops.arctan(chord)

    def get_config(self):
        """The constructor's arguments."""
        own = {"curvature": self.curvature, "distance": self.distance}
        return {**super().get_config(), **own}
