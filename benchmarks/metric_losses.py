"""Metric learning losses, forward and backward: against their peers and a floor.

The floor is what the loss cannot do without: its matrix products, and the gradient back through
them. The peer is pytorch-metric-learning's loss of the same kind, on torch, uncompiled as it is
used. `multi_similarity.py` does the same for the multi-similarity loss.

    KERAS_BACKEND=torch python benchmarks/metric_losses.py
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from _passes import BACKEND, MODES, make_pass
from _runner import rows_against, time_in_turns, write_csv
from keras import ops

from keras_zoo import losses

D, CLASSES, SHOTS = 128, 1000, 5
RNG = np.random.default_rng(0)


@dataclasses.dataclass
class Rivals:
    """A loss, its floor and its peer, and what they are given: inputs, then constants."""

    loss: Callable
    floor: Callable
    inputs: Callable
    constants: Callable
    # Name of pytorch-metric-learning's loss.
    peer: str | None = None


def normal(*shape):
    """Gaussian numbers, float32."""
    return RNG.normal(size=shape).astype("float32")


def points(n, rows):
    """`(N, D)` in overlapping classes of so many rows, one after the other."""
    return 0.5 * normal(-(-n // rows), D).repeat(rows, 0)[:n] + 0.5 * normal(n, D)


def all_pairs(x, *_: Any):
    """Inner products of all rows."""
    return ops.matmul(x, ops.transpose(x))


def over_pairs(loss, rows=5, peer=None):
    """A loss on `(N, D)` embeddings and labels, `rows` of each class."""
    return Rivals(
        lambda x, y: loss(y, x),
        all_pairs,
        lambda n: [points(n, rows)],
        lambda n: [np.arange(n) // rows],
        peer,
    )


def over_views(loss, peer=None):
    """A loss on two views `(N, 2, D)`."""
    return Rivals(
        lambda x, y: loss(y, x),
        lambda x, y: ops.matmul(x[:, 0], ops.transpose(x[:, 1])),
        lambda n: [normal(n, 2, D)],
        lambda n: [np.zeros(n, "float32")],
        peer,
    )


def over_classes(loss, with_pairs=False, peer=None):
    """A loss on cosines to one learnt vector a class, and on those of the batch's own pairs."""

    def cosines(x, kernel):
        return ops.matmul(ops.normalize(x), ops.normalize(kernel, axis=0))

    def zoo(x, kernel, y):
        out = cosines(x, kernel)
        return loss(y, ops.concatenate([out, x], axis=1) if with_pairs else out)

    def floor(x, kernel, y):
        out = ops.matmul(x, kernel)
        return ops.concatenate([out, all_pairs(x)], axis=1) if with_pairs else out

    return Rivals(
        zoo,
        floor,
        lambda n: [normal(n, D), normal(D, CLASSES)],
        lambda n: [RNG.integers(0, CLASSES, n)],
        peer,
    )


def peers():
    """pytorch-metric-learning's losses by name, as functions of what ours are given."""
    from pytorch_metric_learning import distances
    from pytorch_metric_learning import losses as theirs

    cosine = distances.CosineSimilarity()

    def plain(loss):
        return lambda x, y: loss(x, y)

    return {
        "ContrastiveLoss": plain(theirs.ContrastiveLoss(1, 0.5, distance=cosine)),
        "TripletMarginLoss": plain(theirs.TripletMarginLoss(0.1, distance=cosine)),
        "GeneralizedLiftedStructureLoss": plain(
            theirs.GeneralizedLiftedStructureLoss(1, 0, distance=cosine)
        ),
        "NTXentLoss": lambda x, y: theirs.SelfSupervisedLoss(
            theirs.NTXentLoss(0.07), symmetric=False
        )(x[:, 0], x[:, 1]),
        "ArcFaceLoss": _arc_face(theirs.ArcFaceLoss(CLASSES, D, 28.6, 64)),
    }


def _arc_face(loss):
    def run(x, kernel, y):
        loss.W.grad = None  # The peer has a kernel of its own, of the same shape.
        return loss(x, y)

    return run


def mixed(y, x):
    """Metrix at the level of embeddings, towards mixtures of each anchor with its negatives."""
    loss = losses.MultiSimilarityLoss()
    return ops.mean(losses.metrix_embedding_loss(y, x, loss, 0.6, "anchor_negative"))


RIVALS = {
    "ContrastiveLoss": over_pairs(losses.ContrastiveLoss(), peer="ContrastiveLoss"),
    "TripletLoss": over_pairs(losses.TripletLoss(), peer="TripletMarginLoss"),
    "LiftedStructureLoss": over_pairs(
        losses.LiftedStructureLoss(), peer="GeneralizedLiftedStructureLoss"
    ),
    "BinomialDevianceLoss": over_pairs(losses.BinomialDevianceLoss()),
    "NPairLoss": over_pairs(losses.NPairLoss()),
    "ICNNLoss": over_pairs(losses.ICNNLoss(num_neighbors=16), rows=16),
    "PrototypicalLoss": over_pairs(losses.PrototypicalLoss(SHOTS), rows=16),
    "ProtoTripletLoss": over_pairs(losses.ProtoTripletLoss(SHOTS), rows=16),
    "InfoNCELoss": over_views(losses.InfoNCELoss(symmetric=False), peer="NTXentLoss"),
    "InfoNCELoss, symmetric": over_views(losses.InfoNCELoss()),
    "CWCLLoss": over_views(losses.CWCLLoss()),
    "MannWhitneyRetrievalLoss within queries": over_views(
        losses.MannWhitneyRetrievalLoss(scope="query")
    ),
    "MarginSoftmaxLoss": over_classes(losses.MarginSoftmaxLoss(), peer="ArcFaceLoss"),
    "UNPGLoss": over_classes(losses.UNPGLoss(CLASSES), with_pairs=True),
    "metrix_embedding_loss": over_pairs(mixed),
}
KEYS = ("backend", "mode", "loss", "n", "reference")


def measured(name, n, mode, budget):
    """Rows of the table for one loss."""
    rivals = RIVALS[name]
    inputs, constants = rivals.inputs(n), rivals.constants(n)
    shape = ops.shape(rivals.floor(*map(ops.convert_to_tensor, [*inputs, *constants])))
    sides = {
        "keras_zoo": make_pass(rivals.loss, inputs, constants, mode),
        "floor": make_pass(rivals.floor, inputs, constants, mode, normal(*shape)),
    }
    if BACKEND == "torch" and rivals.peer:
        sides[rivals.peer] = make_pass(peers()[rivals.peer], inputs, constants, "eager")
    times = time_in_turns(sides, repeats=30, budget_s=budget)
    rows = []
    for reference in list(sides)[1:]:
        two = {side: times[side] for side in ("keras_zoo", reference)}
        rows += rows_against(two, reference, backend=BACKEND, mode=mode, loss=name, n=n)
    return [row for row in rows if row["side"] == "keras_zoo"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--losses", nargs="+", default=list(RIVALS), choices=list(RIVALS))
    parser.add_argument("--modes", nargs="+", default=MODES)
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for each loss")
    parser.add_argument("--dry", action="store_true", help="print without writing the CSV")
    args = parser.parse_args()
    for mode in args.modes:
        for name in args.losses:
            for n in args.n:
                rows = measured(name, n, mode, args.budget)
                for row in rows:
                    print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
                if not args.dry:
                    write_csv("metric_losses", rows, KEYS)


if __name__ == "__main__":
    main()
