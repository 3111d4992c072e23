"""Pair losses on mixed embeddings (Venkataramanan et al., 2022)."""

import numbers

import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice, check_count, check_flag, check_number
from keras_zoo.losses._pairs import losses_in_chunks, row_losses_in_chunks
from keras_zoo.losses.pair_based_loss import PairBasedLoss
from keras_zoo.ops.pairs import l2_normalize, nan_if_nan

PAIRINGS = ("positive_negative", "anchor_negative")

# Mixed examples of one block, if nobody says otherwise: 4 MiB in float32.
BLOCK = 2**20


def check_soft_pair_loss(name, loss):
    """`loss`, if it is a pair loss that knows examples which are positive to a degree."""
    knows = isinstance(loss, PairBasedLoss) and (
        type(loss).soft_pair_loss is not PairBasedLoss.soft_pair_loss
    )
    if not knows:
        raise ValueError(
            f"`{name}` must be a pair loss with `soft_pair_loss`, such as MultiSimilarityLoss, "
            "ContrastiveLoss, BinomialDevianceLoss or LiftedStructureLoss. "
            f"Received: {name}={loss!r}"
        )
    return loss


@component(paper="metrix")
def metrix_embedding_loss(
    y_true,
    y_pred,
    loss,
    lam,
    pairing="positive_negative",
    renormalize=True,
    *,
    chunk_size=None,
):
    """A pair loss towards examples that are mixed from a batch's own embeddings.

    With `f` `(N, D)` the embeddings, l2-normalised, `S = f f^T`, `P_a` and `N_a` the pairs of
    anchor `a` that `loss.select_pairs` keeps, and `lambda` in [0, 1], each anchor meets

        positive_negative:  v_pn = lambda f_p + (1 - lambda) f_n,  p in P_a, n in N_a
        anchor_negative:    v_an = lambda f_a + (1 - lambda) f_n,  n in N_a

    as examples that are positive to the degree `lambda`: `l_a = soft_pair_loss` over their
    similarities `f_a^T v / |v|`. All of these follow from `S`, since
    `|v_pn|^2 = lambda^2 + (1 - lambda)^2 + 2 lambda (1 - lambda) S_pn`; no vector is mixed, and the
    network makes no further pass. Nothing is drawn in here: `lambda` comes from outside, as
    `keras_zoo.trainers.Metrix` draws it.

    Time is `O(N^3)` for "positive_negative", which has `N^2` mixed examples an anchor (of which the
    mask keeps `|P_a| |N_a|`), and `O(N^2)` for "anchor_negative". Memory is `O(N^2 + 2^20)` all
    the same: where the mixed examples of all anchors are more than 2^20, anchors are worked on in
    blocks, at least one at a time, and each block is worked out again for its gradient.

    Args:
        y_true: labels `(N,)` or `(N, 1)`, compared by equality.
        y_pred: embeddings `(N, D)`; l2-normalised in here, whatever `loss.normalize` says.
        loss: pair loss with `soft_pair_loss`: `MultiSimilarityLoss`, `ContrastiveLoss`,
            `BinomialDevianceLoss`, `LiftedStructureLoss`, or a subclass of `PairBasedLoss` that
            defines it.
        lam: float, or scalar tensor, in [0, 1]: the part of the positive. A constant to the
            gradient.
        pairing: "positive_negative" or "anchor_negative".
        renormalize: bool. Whether mixed vectors are brought to unit length, `|v|` above; else
            `|v|` is replaced by 1.
        chunk_size: int > 0, anchors worked on at a time. None for as many as make 2^20 mixed
            examples, or `loss.chunk_size` for "anchor_negative". Value and gradient stay the same.

    Returns:
        `(N,)`, float32, or float64 for such embeddings; one loss per anchor.

    An anchor without a mixed example gives 0, and passes no gradient. A row of zeros counts as a
    unit vector that is orthogonal to all others. Where a mixed vector vanishes (opposite embeddings
    at `lambda = 1/2`) its similarity is 0. NaN in an embedding gives NaN for all anchors. An empty
    batch gives an empty vector.

    Raises:
        ValueError: the loss has no `soft_pair_loss`, `lam` is no number in [0, 1] (a tensor is held
            to its shape alone), another argument is out of its range, or `y_true` and `y_pred` do
            not fit together.

    Example:
    >>> loss = keras_zoo.losses.MultiSimilarityLoss()
    >>> x = keras.random.normal((6, 4), seed=0)
    >>> keras_zoo.losses.metrix_embedding_loss([0, 0, 1, 1, 2, 2], x, loss, lam=0.3).shape
    (6,)

    Reference: arXiv:2106.04990, section 3. The official code's contrastive loss works on distances,
    takes each anchor's first positive alone, and lets "anchor_negative" to anchors without any
    positive; here all positives and all anchors take part.
    """
    check_soft_pair_loss("loss", loss)
    check_choice("pairing", pairing, PAIRINGS)
    check_flag("renormalize", renormalize)
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    lam = _check_lam(lam)
    labels, features = loss._prepare(y_true, y_pred)
    n = features.shape[0]
    if n == 0:
        return ops.zeros((0,), dtype=features.dtype)
    if not loss.normalize:
        features = l2_normalize(features)
    lam = ops.stop_gradient(ops.cast(lam, features.dtype))
    mixtures = _Mixtures(loss, lam, renormalize)
    if pairing == "anchor_negative":
        chunk_size = chunk_size or loss.chunk_size
        if chunk_size is None or (n is not None and n <= chunk_size):
            losses = mixtures.with_anchors(*loss._all_pairs(labels, features))
        else:
            losses = row_losses_in_chunks(mixtures.with_anchors, features, labels, chunk_size)
    else:
        losses = mixtures.with_positives(*loss._all_pairs(labels, features), chunk_size)
    return losses + nan_if_nan(features)


class _Mixtures:
    """Losses of anchors towards mixtures, from the similarities `S`."""

    def __init__(self, loss, lam, renormalize):
        self.loss, self.lam, self.renormalize = loss, lam, renormalize

    def with_anchors(self, S, pos, neg):
        """Each anchor with its own negatives: `(R,)` from `(R, N)`."""
        _, neg = self.loss.select_pairs(ops.stop_gradient(S), pos, neg)
        mixed = (self.lam + (1 - self.lam) * S) * self._inverse_length(S)
        return self.loss.soft_pair_loss(mixed, self.lam, neg)

    def with_positives(self, S, pos, neg, chunk_size):
        """Each anchor's positives with its negatives: `(N,)` from `(N, N)`."""
        pos, neg = self.loss.select_pairs(ops.stop_gradient(S), pos, neg)

        def block_size(n):
            if chunk_size is not None:
                return chunk_size
            at_least = max if isinstance(n, int) else ops.maximum
            return at_least(1, BLOCK // (n * n))

        n = S.shape[0]
        if n is not None and n <= block_size(n):
            return self._positives_of_block(S, pos, neg, S)

        def block_loss(S, rows):
            block = (ops.take(x, rows, axis=0) for x in (S, pos, neg))
            return self._positives_of_block(*block, S)

        return losses_in_chunks(block_loss, S, block_size)

    def _positives_of_block(self, rows, pos, neg, S):
        positives, negatives = self.lam * rows, (1 - self.lam) * rows
        mixed = positives[:, :, None] + negatives[:, None, :]
        mixed = mixed * self._inverse_length(S)[None]
        mask = ops.logical_and(pos[:, :, None], neg[:, None, :])
        shape = (-1, ops.shape(S)[0] * ops.shape(S)[1])
        return self.loss.soft_pair_loss(
            ops.reshape(mixed, shape), self.lam, ops.reshape(mask, shape)
        )

    def _inverse_length(self, S):
        """`1 / |lam f_i + (1 - lam) f_j|` where `S_ij = f_i^T f_j`, both of unit length."""
        if not self.renormalize:
            return ops.ones_like(S)
        rest = 1 - self.lam
        squared = self.lam**2 + rest**2 + 2 * self.lam * rest * S
        return ops.rsqrt(ops.maximum(squared, 1e-12))


def _check_lam(lam):
    if isinstance(lam, (numbers.Real, np.number)) and not isinstance(lam, bool):
        lam = check_number("lam", float(lam))
        if not 0 <= lam <= 1:
            raise ValueError(f"`lam` must be in [0, 1]. Received: lam={lam}")
        return np.asarray(lam)  # A Python float would be rounded to float32 on its way.
    if tuple(getattr(lam, "shape", (None,))) != ():
        raise ValueError(f"`lam` must be one number in [0, 1]. Received: lam={lam!r}")
    return lam
