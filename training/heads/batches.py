"""What the trainer is fed with: batches that are functions of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.loop.stopping import leave_stopping_to_the_main_process

Item = TypeVar("Item")


@dataclass(frozen=True)
class LatentPair:
    """A training example, or a batch of them, as the heads see it.

    Attributes:
        z: latent of the relit picture, [..., 16, h, w].
        z_flat: latent of the target: the flat-lit subject in front of the background as it was.
        mask: how much of each latent cell is subject, [..., 1, h, w] in [0, 1].
        env_code: [..., 4, 128, 256].
        target: the target itself, sRGB-coded bytes [..., 3, 8h, 8w]; None where only the heads are trained.
    """

    z: Tensor
    z_flat: Tensor
    mask: Tensor
    env_code: Tensor
    target: Tensor | None = None

    @staticmethod
    def stacked(rows: Sequence[LatentPair]) -> LatentPair:
        """Examples → a batch of them."""
        parts = ([getattr(row, field.name) for row in rows] for field in fields(LatentPair))
        return LatentPair(*(None if part[0] is None else torch.stack(part) for part in parts))

    def to(self, device: torch.device) -> LatentPair:
        return self._each(lambda part: part.to(device))

    def half(self) -> LatentPair:
        """In half precision, to be kept; the target's bytes as they are."""
        return self._each(lambda part: part.half() if part.is_floating_point() else part)

    def float(self) -> LatentPair:
        """In full precision, to be learned from."""
        return self._each(lambda part: part.float() if part.is_floating_point() else part)

    def rows(self, first: int, end: int) -> LatentPair:
        """Some examples of a batch."""
        return self._each(lambda part: part[first:end])

    def _each(self, change: Callable[[Tensor], Tensor]) -> LatentPair:
        parts = (getattr(self, field.name) for field in fields(self))
        return LatentPair(*(None if part is None else change(part) for part in parts))


def as_bytes(picture: Tensor) -> Tensor:
    """A picture in [0, 1] as it is kept in `LatentPair.target`."""
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


class BatchSource(Protocol):
    """Batch number `step` is the same whenever and by whomever it is asked for: a resumed run sees what an unbroken
    one does, and many processes together what one sees."""

    batch_size: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> LatentPair:
        """The rows rank, rank + world, … of a step's batch."""

    def names(self, step: int) -> list[str]:
        """Which pairs a step's batch is made of, for a person to read."""


@dataclass(frozen=True)
class StepsAhead(Dataset[LatentPair]):
    """The steps `first` to `steps` - 1 of a source as a data set, whose items worker processes make in order."""

    source: BatchSource
    first: int
    steps: int
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return max(0, self.steps - self.first)

    def __getitem__(self, number: int) -> LatentPair:
        return self.source.batch(self.first + number, self.rank, self.world)

    def stream(self, workers: int) -> Iterator[LatentPair]:
        """All of them in order, made ahead by so many other processes."""
        return made_ahead(self, workers)


def made_ahead(items: Dataset[Item], workers: int) -> Iterator[Item]:
    """The items of a data set in order, made ahead by so many other processes.

    The processes are started afresh: a forked one would hold the locks that OpenImageIO's threads held in this one at
    that moment, and wait for ever for the first file.
    """
    ahead = {
        "multiprocessing_context": "spawn",
        "prefetch_factor": 4,
        "worker_init_fn": _start_worker,
    }
    return iter(DataLoader(items, batch_size=None, num_workers=workers, **(ahead if workers else {})))


def _start_worker(number: int) -> None:
    torch.set_num_threads(1)
    leave_stopping_to_the_main_process(number)
