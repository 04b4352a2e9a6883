"""A fixed number of variants of every pair, for VAEs that are too slow to encode new ones for every step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.utils.data import Dataset

from training.data.pairs import Pairs

from .variants import AugmentConfig, Variant, companions_of, unchanged, vary


@dataclass(frozen=True)
class VariantRows(Dataset[Variant]):
    """Pair 0's variants, pair 1's, …: the first of each is the pair as it is, the others are decided by the seed and
    their number alone.

    Attributes:
        variants: how many of each pair.
    """

    dataset: Pairs
    variants: int
    config: AugmentConfig
    seed: int

    def __len__(self) -> int:
        return len(self.dataset) * self.variants

    def __getitem__(self, row: int) -> Variant:
        index, variant = divmod(row, self.variants)
        if not variant:
            return unchanged(self.dataset, index)
        among = self._companions[self.dataset.records[index].subject]
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + index) * 1009 + variant)
        return vary(self.dataset, index, among, self.config, generator)

    def name(self, row: int) -> str:
        """What a row is called in messages."""
        index, variant = divmod(row, self.variants)
        return self.dataset.name(index) + (f" (variant {variant})" if variant else "")

    @cached_property
    def _companions(self) -> dict[str, list[int]]:
        return companions_of(self.dataset)
