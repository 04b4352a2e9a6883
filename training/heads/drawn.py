"""Batches whose variants are drawn anew for every step, for VAEs whose encoder is cheap (`linear_code`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F

from delit_models.env_codec import MAX_RADIANCE, encode_env
from delit_models.images import VAE_STRIDE
from training.augment.variants import AugmentConfig, Variant, companions_of, unchanged, vary
from training.data.pairs import Pairs

from .batches import LatentPair, as_bytes
from .linear_code import LinearCode

# Share of the examples that are pairs as they are: what is measured on is not augmented either.
_UNCHANGED = 0.1


@dataclass(frozen=True)
class DrawnBatches:
    """A `batches.BatchSource` that draws variants of pairs and encodes them by a line.

    Attributes:
        indices: the pairs to draw from (those of the training subjects).
        batch_size: pairs a step, of all processes together.
        with_target: whether the batches have the target's picture, too.
    """

    dataset: Pairs
    indices: Sequence[int]
    code: LinearCode
    config: AugmentConfig
    batch_size: int
    seed: int
    with_target: bool = False

    def batch(self, step: int, rank: int = 0, world: int = 1) -> LatentPair:
        """The rows rank, rank + world, … of a step's batch."""
        return LatentPair.stacked([self._row(step, row) for row in range(rank, self.batch_size, world)])

    def names(self, step: int) -> list[str]:
        """Which pairs a step's batch is made of."""
        return [self.dataset.name(self._draw(step, row)[0]) for row in range(self.batch_size)]

    def _draw(self, step: int, row: int) -> tuple[int, torch.Generator]:
        """A row's pair, and the random numbers for all else about it."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 4099 + row)
        return self.indices[int(torch.randint(len(self.indices), (), generator=generator))], generator

    def _row(self, step: int, row: int) -> LatentPair:
        index, generator = self._draw(step, row)
        if float(torch.rand((), generator=generator)) < _UNCHANGED:
            variant = unchanged(self.dataset, index)
        else:
            among = self.companions[self.dataset.records[index].subject]
            variant = vary(self.dataset, index, among, self.config, generator)
        example = encoded(variant, self.dataset, self.code)
        return replace(example, target=as_bytes(variant.target)) if self.with_target else example

    @cached_property
    def companions(self) -> dict[str, list[int]]:
        """The numbers of the pairs of every subject that is drawn from."""
        drawn = set(self.indices)
        return {
            subject: [number for number in numbers if number in drawn]
            for subject, numbers in companions_of(self.dataset).items()
        }


def encoded(variant: Variant, dataset: Pairs, code: LinearCode) -> LatentPair:
    """A variant as a training example, without the target's picture."""
    z, z_flat = code.encode(torch.stack((variant.relit, variant.target)) * 2 - 1)
    env = variant.env(dataset).clamp(max=MAX_RADIANCE)
    return LatentPair(z, z_flat, F.avg_pool2d(variant.mask, VAE_STRIDE), encode_env(env[None])[0])
