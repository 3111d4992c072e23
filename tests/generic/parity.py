"""Writes the outputs that every backend must give: `python -m tests.generic.parity [SLUG ...]`.

Run it on one backend when a case is new or changed; the tests hold each backend against the file.
"""

import sys

import numpy as np

from tests.generic import subjects
from tests.harness import GOLDEN

CASES = [*subjects.LOSSES, *subjects.LAYERS, *subjects.METRICS, *subjects.MODELS]


def main():
    """Writes tests/golden/parity/<paper>.npz."""
    papers = {}
    for case in (case for case in CASES if case.paper in (sys.argv[1:] or [case.paper])):
        for i, output in enumerate(subjects.outputs(case)):
            papers.setdefault(case.paper, {})[f"{subjects.name(case)}_{i}"] = output
    (GOLDEN / "parity").mkdir(exist_ok=True)
    for paper, arrays in papers.items():
        np.savez_compressed(GOLDEN / "parity" / f"{paper}.npz", **arrays)
        print(paper, {name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
