"""The learning rate over a run: up, level, and down at the end. Any moment of the level part can be finished."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from delit_models.errors import DelitError

# Where the cool-down ends: not at nothing, or its last steps would be for nothing.
LOWEST = 0.02


@dataclass
class Schedule:
    """Warm-up, constant, linear cool-down (as in Hägele et al., Scaling laws beyond fixed training durations, 2024).

    Attributes:
        steps: how many steps the run has.
        warm_up: steps until the full rate.
        cool_down: share of all steps in which the rate falls.
    """

    steps: int
    warm_up: int
    cool_down: float

    def __post_init__(self) -> None:
        check_cool_down(self.cool_down)
        if self.steps < 1 or self.warm_up < 0:
            raise DelitError(
                f"A schedule of {self.steps} steps with {self.warm_up} of warm-up cannot be: give 1 step or more, and "
                "no negative warm-up."
            )

    def rate(self, step: int) -> float:
        """What step number `step` (from 0) multiplies the full learning rate by, above 0 and at most 1."""
        warm = min(1.0, (step + 1) / max(1, self.warm_up))
        falling = self.steps * self.cool_down
        cool = 1.0 if falling == 0 else (self.steps - step) / falling
        return warm * max(LOWEST, min(1.0, cool))

    def finish_from(self, step: int) -> None:
        """Let the cool-down begin now: the run becomes as long as it would have been planned to end after it."""
        self.steps = min(self.steps, max(step + 1, math.ceil(step / (1 - self.cool_down))))


def check_cool_down(share: float) -> None:
    """Raise DelitError for what is no share of a run that its rate can fall in."""
    if not 0 <= share < 1:
        raise DelitError(f"--cool_down is {share}; give a share of the steps of at least 0 and below 1.")


class CoolDownInTime:
    """Lets a schedule's cool-down begin in time for the run to end about so many minutes from now."""

    def __init__(self, schedule: Schedule, minutes: float) -> None:
        self.schedule = schedule
        self._from = time.monotonic() + 60 * minutes * (1 - schedule.cool_down)

    def look(self, step: int) -> None:
        """To be asked now and then, with the steps that are done."""
        if time.monotonic() > self._from:
            self.schedule.finish_from(step)
            self._from = math.inf
