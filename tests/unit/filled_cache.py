"""A latent cache opened and filled, as a training run does it, in this process or in one that is to be killed."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from tests.unit.patch_means import PatchMeans
from training.augment.rows import VariantRows
from training.augment.variants import AugmentConfig
from training.data.pairs import Pairs
from training.data.shards import open_pairs
from training.heads import latent_cache
from training.heads.encoding import encode_missing
from training.heads.latent_cache import LatentCache, open_latent_cache


def filled_cache(
    vae: object,
    dataset: Pairs,
    variants: int,
    config: AugmentConfig,
    seed: int,
    folder: Path,
    with_target: bool = False,
) -> LatentCache:
    """The cache of these settings, whole."""
    rows = VariantRows(dataset, variants, config, seed)
    cache = open_latent_cache(vae, rows, folder, with_target)
    encode_missing(cache, vae, rows)
    return cache


class SlowMeans(PatchMeans):
    """So slow that a process can be killed in the middle."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return super().encode(pictures)


def fill_slowly(data: Path, variants: int, folder: Path, rank: int, world: int) -> None:
    """What a process of its own does, in chunks of one pair."""
    torch.set_num_threads(1)
    latent_cache.CHUNK_ROWS = variants
    rows = VariantRows(open_pairs(data, "train"), variants, AugmentConfig(), 0)
    cache = open_latent_cache(SlowMeans(), rows, folder)
    encode_missing(cache, SlowMeans(), rows, rank, world)


def contents(cache: LatentCache) -> list[torch.Tensor]:
    """All that is in a cache, row by row."""
    return [part for row in range(len(cache)) for part in vars(cache[row]).values() if part is not None]
