"""What a run says of itself while it goes on: means of the loss' parts, and a stop where one is no number."""

from __future__ import annotations

import torch
from torch import Tensor

from delit_models.errors import DelitError


class LossWatch:
    """Means of the parts since the last look, without waiting for the device at every step."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._first_bad: Tensor | None = None

    def note(self, step: int, parts: dict[str, Tensor]) -> None:
        """Add a step's parts."""
        total = sum(part.detach() for part in parts.values())
        if self._first_bad is None:
            self._first_bad = torch.full_like(total, -1, dtype=torch.int64)
        bad = ~torch.isfinite(total) & (self._first_bad < 0)
        self._first_bad = torch.where(bad, torch.full_like(self._first_bad, step), self._first_bad)
        for name, part in parts.items():
            self._sums[name] = self._sums.get(name, 0) + part.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def first_bad_step(self) -> int | None:
        """The first step whose loss was no number, or None."""
        step = -1 if self._first_bad is None else int(self._first_bad.item())
        return None if step < 0 else step

    def means(self) -> dict[str, float]:
        """The parts' means since the last call, each over the steps that had it."""
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means


def refuse_bad(step: int | None, names: list[str]) -> None:
    """Raise DelitError where the loss of a step was no number; `names` are those of its pairs."""
    if step is not None:
        raise DelitError(
            f"The loss of step {step} is no finite number. Its pairs were {', '.join(names)}. Check them with "
            "python -m training.check_dataset, or go on from the last heads with a lower --learning_rate in "
            "another output folder (--start_from)."
        )
