"""Settings that a run could only fail with, or take the machine down with, are refused before its work begins."""

from __future__ import annotations

import math

from delit_models.errors import DelitError

MOST_SEED = 2**31 - 1
"""The seeds of steps and rows are products with a run's own, and have to fit into 64 bits."""

MOST_WORKERS = 256
MOST_BATCH = 65_536
LEAST_RATE, MOST_RATE = 1e-9, 10.0
# Whatever has no natural end: steps are counted in 64 bits, and a progress bar shows them.
MOST_COUNT = 1_000_000_000


def refuse_outside(least: float, most: float, **settings: float) -> None:
    """Raise DelitError for the first of some settings, by their options' names, that is below `least`, above `most`, or
    no number."""
    for name, value in settings.items():
        if not least <= value <= most:
            bound = "or more" if math.isinf(most) else f"to {most:,}"
            raise DelitError(f"--{name} is {value}; give {least:,} {bound}.")
