"""How far a long run is."""

import sys
import time

import keras

PATIENCE = 2.0  # Seconds after which `verbose="auto"` begins to show a bar.


class Progress:
    """A bar over `total` steps.

    Args:
        total: int > 0.
        verbose: 0 for silence, 1 for a bar, `"auto"` for a bar if the run is longer than two
            seconds and somebody looks at a terminal.
        unit: what a step is called.

    Raises:
        ValueError: `verbose` is something else.
    """

    def __init__(self, total, verbose, unit="step"):
        if isinstance(verbose, bool) or verbose not in (0, 1, "auto"):
            raise ValueError(f'`verbose` must be 0, 1 or "auto". Received: verbose={verbose!r}')
        automatic = verbose == "auto"
        shown = sys.stdout.isatty() if automatic else verbose == 1
        self._bar = keras.utils.Progbar(total, unit_name=unit) if shown else None
        self._begin = time.monotonic() + PATIENCE * automatic

    def update(self, done):
        """Shows that so many steps are done."""
        if self._bar is not None and time.monotonic() >= self._begin:
            self._bar.update(done)
