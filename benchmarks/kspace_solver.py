"""What a time step of KSpaceSolver costs in 3-D, against scipy's FFT on the same grid.

A lossless step transforms 10 real fields; the solver computes half of each spectrum. One process
on one core runs, in turns:

* step: one of 16 steps of `simulate`, in a medium that varies.
* scipy fftn: 10 complex transforms, complex64: what a step would take at the least if it did not
  know that its fields are real.
* scipy rfftn: 5 real transforms there and 5 back, float32: what a step takes at the least.

`ratio` is the time over that of scipy fftn. `mflop` counts 2.5 N log2 N for a real transform and 60
for the other operations at a voxel; for the complex ones, 5 N log2 N.

    KERAS_BACKEND=jax python benchmarks/kspace_solver.py
"""

import argparse
import math
import os

import keras
import numpy as np
import scipy.fft
from _runner import rows_against, time_in_turns, write_csv

from keras_zoo.simulators import KSpaceSolver

KEYS = ("backend", "n", "side")
STEP, COMPLEX, REAL = "step", "scipy fftn", "scipy rfftn"
TRANSFORMS, STEPS = 10, 16


def stepper(n):
    """A function that takes 16 steps."""
    rng = np.random.default_rng(0)
    fields = {
        "sound_speed": rng.uniform(1500, 3100, (n, n, n)),
        "density": rng.uniform(1000, 1900, (n, n, n)),
    }
    solver = KSpaceSolver((n, n, n), 1e-3, 0.3e-3 / 3100, pml_size=6, **fields)
    mask = np.zeros((n, n, n), bool)
    mask[8, 8:-8, 8:-8] = True
    signal = np.sin(0.3 * np.arange(STEPS))
    return lambda: solver.simulate(mask, signal, verbose=0)


def sides(n):
    """The rivals, by name."""
    x = np.random.default_rng(0).normal(size=(n, n, n)).astype("float32")
    z = x.astype("complex64")
    half = scipy.fft.rfftn(x)

    def complex_transforms():
        for _ in range(TRANSFORMS):
            scipy.fft.fftn(z)

    def real_transforms():
        for _ in range(TRANSFORMS // 2):
            scipy.fft.rfftn(x)
            scipy.fft.irfftn(half, x.shape)

    return {STEP: stepper(n), COMPLEX: complex_transforms, REAL: real_transforms}


def mflop(n, side):
    """Floating-point operations, in millions."""
    voxels = n**3
    transform = (5.0 if side == COMPLEX else 2.5) * voxels * math.log2(voxels)
    return round((TRANSFORMS * transform + 60 * voxels * (side == STEP)) / 1e6, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[36, 48, 64, 96])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each size")
    parser.add_argument("--dry", action="store_true", help="print without writing the CSV")
    args = parser.parse_args()
    # Threads that frameworks and scipy start from here on stay on this core.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for n in args.n:
        times = time_in_turns(sides(n), repeats=args.turns, warmup=1, budget_s=args.budget)
        times[STEP] = [t / STEPS for t in times[STEP]]
        rows = rows_against(times, COMPLEX, backend=keras.backend.backend(), n=n)
        for row in rows:
            row["mflop"] = mflop(n, row["side"])
            print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
        if not args.dry:
            write_csv("kspace_solver", rows, KEYS)


if __name__ == "__main__":
    main()
