"""Filling a latent cache: variants are drawn, encoded, and written chunk by chunk, by one process or by many."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from delit_models.atomic_write import remove_unfinished
from delit_models.images import VAE_STRIDE
from delit_models.presence import is_file
from delit_models.wan_vae import WanVAE
from training.augment.rows import VariantRows
from training.augment.variants import Variant
from training.data.pairs import check_size

from .batches import as_bytes, made_ahead
from .latent_cache import LatentCache
from .latent_chunks import chunk_file, write_chunk


def encode_missing(
    cache: LatentCache, vae: WanVAE, rows: VariantRows, rank: int = 0, world: int = 1, workers: int = 0
) -> None:
    """Encode what the cache lacks; when this returns, nothing is missing.

    Of several processes each begins with a stretch of its own, and then helps wherever a chunk is still missing, so
    that none waits for one that is slow or has come to an end. Where two make the same chunk, they make it equal.

    Args:
        rows: what the cache was opened for.
        workers: processes that draw the variants ahead of the VAE.

    Raises:
        DelitError: for pictures of different sizes, or a chunk that cannot be written.
    """
    chunks = cache.layout.chunks
    own = range(rank * chunks // world, (rank + 1) * chunks // world)
    remove_unfinished(chunk_file(cache.folder, chunk) for chunk in own)
    _encode_chunks(cache, vae, rows, [chunk for chunk in cache.missing() if chunk in own], workers)
    choice = random.Random(rank)
    while missing := cache.missing():
        _encode_chunks(cache, vae, rows, [choice.choice(missing)], workers)


def _encode_chunks(
    cache: LatentCache, vae: WanVAE, rows: VariantRows, chunks: Sequence[int], workers: int
) -> None:
    """Encode and write these chunks in their order."""
    numbers = [row for chunk in chunks for row in cache.layout.rows_of(chunk)]
    if not numbers:
        return
    size = rows.dataset[0].relit.shape[-2:]
    variants: Iterator[Variant] = made_ahead(Subset(rows, numbers), workers)
    with tqdm(total=len(numbers), desc="encoding", unit="variant", mininterval=5) as progress:
        for chunk in chunks:
            file = chunk_file(cache.folder, chunk)
            encoded = []
            for row in cache.layout.rows_of(chunk):
                variant = next(variants)
                progress.update()
                # Another process may have been quicker.
                if not is_file(file):
                    # When it comes up, not when all have been encoded.
                    check_size(rows.name(row), variant.relit, size)
                    target = {"target": as_bytes(variant.target)} if cache.with_target else {}
                    encoded.append(encode_variant(vae, variant) | target)
            if not is_file(file):
                shining = {int(light) for row in encoded for light in row["lights"]}
                write_chunk(file, encoded, {pair: rows.dataset.light(pair) for pair in shining})


def encode_variant(vae: WanVAE, variant: Variant) -> dict[str, Tensor]:
    """A row of the cache, but for its environments."""
    device = next(vae.parameters()).device
    pictures = torch.stack((variant.relit, variant.target)) * 2 - 1
    with torch.inference_mode():
        z, z_flat = vae.encode(pictures.to(device)).half().cpu()
    return {
        "z": z,
        "z_flat": z_flat,
        "mask": F.avg_pool2d(variant.mask, VAE_STRIDE).half(),
        "lights": variant.lights,
        "gains": variant.gains,
        "mirrored": torch.tensor(variant.mirrored),
    }
