"""Classification losses, forward and backward: against Keras's cross-entropy of the same logits.

Every loss is called as a user calls it, with `(y_true, y_pred)`, and gives the mean of the batch;
the time includes the gradient for the logits. Keras's `CategoricalCrossentropy` gets one-hot
labels, ours get class ids, AnyLoss one label for each class. `SparseCategoricalCrossentropy` is
there to compare with; `SmoothAdversarialCompSumLoss`, which sees two views, gets the logits twice,
and so does the cross-entropy beside it.

    KERAS_BACKEND=jax python benchmarks/classification_losses.py
"""

import argparse

import keras
import numpy as np
from _passes import BACKEND, MODES, make_pass
from _runner import rows_against, time_in_turns, write_csv
from keras import ops

from keras_zoo import losses

REFERENCE = "CategoricalCrossentropy"
OF_TWO_VIEWS = f"{REFERENCE}, two views"
KEYS = ("backend", "mode", "classes", "batch", "side")
LOSSES = {
    REFERENCE: keras.losses.CategoricalCrossentropy(from_logits=True),
    OF_TWO_VIEWS: keras.losses.CategoricalCrossentropy(from_logits=True),
    "SparseCategoricalCrossentropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "LDRLoss": losses.LDRLoss(),
    "LDRLoss, not normalised": losses.LDRLoss(normalization=None),
    "ALDRLoss": losses.ALDRLoss(),
    "AnyLoss": losses.AnyLoss(from_logits=True),
    "CompSumLoss, tau 1": losses.CompSumLoss(),
    "CompSumLoss, tau 1.5": losses.CompSumLoss(1.5),
    "SmoothAdversarialCompSumLoss": losses.SmoothAdversarialCompSumLoss(),
    "ZLoss": losses.ZLoss(),
    "TaylorSoftmaxLoss": losses.TaylorSoftmaxLoss(),
}
ONE_HOT = (REFERENCE, OF_TWO_VIEWS, "AnyLoss")
TWO_VIEWS = (OF_TWO_VIEWS, "SmoothAdversarialCompSumLoss")


def make_side(name, labels, logits, mode):
    """A function that runs a loss and its gradient once."""
    loss = LOSSES[name]
    if name in ONE_HOT:
        one_hot = np.zeros_like(logits)
        one_hot[np.arange(len(labels)), labels] = 1
        labels = one_hot

    def of_logits(x, y):
        if name in TWO_VIEWS:
            x = ops.stack([x, 0.9 * x], axis=1)
        if name == OF_TWO_VIEWS:
            x = ops.reshape(x, (-1, logits.shape[1]))
        return loss(y, x)

    if name == OF_TWO_VIEWS:
        labels = np.repeat(labels, 2, axis=0)
    return make_pass(of_logits, [logits], [labels], mode)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1_000, 100_000])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--modes", nargs="+", default=MODES)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each size")
    parser.add_argument("--dry", action="store_true", help="print without writing the CSV")
    args = parser.parse_args()
    names = list(dict.fromkeys([REFERENCE, OF_TWO_VIEWS, *args.losses]))
    rng = np.random.default_rng(0)
    for mode in args.modes:
        for classes in args.classes:
            logits = rng.normal(size=(args.batch, classes)).astype("float32")
            labels = rng.integers(classes, size=args.batch).astype("int32")
            sides = {name: make_side(name, labels, logits, mode) for name in names}
            times = time_in_turns(sides, repeats=100, budget_s=args.budget)
            shared = {"backend": BACKEND, "mode": mode, "classes": classes, "batch": args.batch}
            rows = []
            for reference in (REFERENCE, OF_TWO_VIEWS):
                views = reference in TWO_VIEWS
                group = {name: t for name, t in times.items() if (name in TWO_VIEWS) == views}
                rows += rows_against(group, reference, **shared)
            for row in rows:
                print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
            if not args.dry:
                write_csv("classification_losses", rows, KEYS)


if __name__ == "__main__":
    main()
