"""The Cox loss, forward and backward: against torchsurv, pycox, and the sort as the floor.

Every side gets times and events in no order, as a batch of `fit` has them, and gives the mean over
the events of the partial likelihood of Breslow, with the gradient for the log-hazards. The floor is
one argsort of the times, and a product that keeps it from being left out. The peers run on torch,
uncompiled, as they are used; pycox's sorts by itself, and does not treat ties.

    KERAS_BACKEND=torch python benchmarks/cox_loss.py
"""

import argparse

import numpy as np
from _passes import BACKEND, MODES, make_pass
from _runner import rows_against, time_in_turns, write_csv
from keras import ops

from keras_zoo.losses import WeightedCoxLoss

KEYS = ("backend", "mode", "n", "side", "reference")
OURS, FLOOR = "keras_zoo", "sort"
LOSSES = {
    OURS: WeightedCoxLoss(1.0, 1.0),
    f"{OURS}, efron": WeightedCoxLoss(1.0, 1.0, ties="efron"),
}


def floor(risk, y):
    """An argsort of the times."""
    order = ops.cast(ops.argsort(-y[:, 0]), risk.dtype)
    return ops.sum(risk * order)


def peers():
    """The losses of torchsurv and pycox that are installed, as functions of what ours takes."""
    found = {}
    try:
        from torchsurv.loss.cox import neg_partial_log_likelihood

        found["torchsurv"] = lambda risk, y: neg_partial_log_likelihood(
            risk, y[:, 1] > 0.5, y[:, 0], ties_method="breslow"
        )
    except ImportError as error:
        print(f"without torchsurv: {error}")
    try:
        from pycox.models.loss import cox_ph_loss

        found["pycox"] = lambda risk, y: cox_ph_loss(risk, y[:, 0], y[:, 1])
    except ImportError as error:
        print(f"without pycox: {error}")
    return found


def measured(n, mode, budget):
    """Rows of the table for batches of one size."""
    rng = np.random.default_rng(0)
    risk = rng.normal(size=n).astype("float32")
    y = np.stack([rng.exponential(size=n), rng.random(n) < 0.3], axis=1).astype("float32")
    sides = {
        name: make_pass(lambda r, y, loss=loss: loss(y, r), [risk], [y], mode)
        for name, loss in LOSSES.items()
    }
    sides[FLOOR] = make_pass(floor, [risk], [y], mode)
    if BACKEND == "torch":
        sides |= {name: make_pass(fn, [risk], [y], "eager") for name, fn in peers().items()}
    times = time_in_turns(sides, repeats=500, budget_s=budget)
    shared = {"backend": BACKEND, "mode": mode, "n": n}
    return rows_against(times, FLOOR, **shared)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--modes", nargs="+", default=MODES)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for each size")
    parser.add_argument("--dry", action="store_true", help="print without writing the CSV")
    args = parser.parse_args()
    for mode in args.modes:
        for n in args.n:
            rows = measured(n, mode, args.budget)
            for row in rows:
                print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
            if not args.dry:
                write_csv("cox_loss", rows, KEYS)


if __name__ == "__main__":
    main()
