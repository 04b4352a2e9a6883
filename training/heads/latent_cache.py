"""Pairs, augmented and encoded once and kept on the disk, so that training the heads touches neither pictures nor the
VAE.

A frozen VAE gives the same latent every time, and Wan's costs far more than the heads. So every pair is encoded a few
times over, each time as another variant (`training.augment.variants`), into `latents-…/` in the run's folder: its
`cache.json` says what they were made of, its chunks (`latent_chunks`) are written one after the other. Whatever ends
the encoding, the chunks that are there are kept, and the same command goes on with those that are missing
(`encoding`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from delit_models.atomic_write import atomic_write, remove_unfinished
from delit_models.heads_file import test_card
from delit_models.json_text import read_json
from delit_models.presence import is_file
from delit_models.wan_vae import WanVAE
from training.augment.rows import VariantRows
from training.augment.variants import VARIANTS_VERSION
from training.data.pairs import fingerprint_of

from .batches import LatentPair
from .latent_chunks import ChunkLayout, OpenChunks, chunk_file

FORMAT_VERSION = 1
DESCRIPTION_FILE = "cache.json"
CHUNK_ROWS = 256
"""Rows in a chunk: what a kill can cost. 20 to 80 MB, and a few seconds on a GPU."""

MIXED_CHUNKS = 8
"""Chunks whose rows are shuffled together: what training has open at a time."""

# Latents of the test card that are as near as this (relative L2 error) are of one VAE: other devices and numbers of
# threads round otherwise, another VAE is far off.
_SAME_VAE = 0.01


class LatentCache:
    """The rows of a cache: pair 0's variants, pair 1's, … Rows are read from the disk as they are asked for."""

    def __init__(self, folder: Path, layout: ChunkLayout, with_target: bool = False) -> None:
        self.folder, self.layout, self.with_target = folder, layout, with_target
        self._chunks = OpenChunks(folder, 2 * MIXED_CHUNKS)

    def __len__(self) -> int:
        return self.layout.rows

    def __getitem__(self, row: int) -> LatentPair:
        chunk = row // (self.layout.chunk_pairs * self.layout.variants)
        return self._chunks[chunk].row(row - self.layout.rows_of(chunk).start)

    def missing(self) -> list[int]:
        """The numbers of the chunks that are not there yet."""
        return [n for n in range(self.layout.chunks) if not is_file(chunk_file(self.folder, n))]

    def latents(self, count: int) -> Tensor:
        """Some latents of relit pictures, evenly spread, [count, 16, h, w]."""
        places = torch.linspace(0, len(self) - 1, min(count, len(self))).long().tolist()
        return torch.stack([self[place].z for place in places])

    def batch(self, rows: Sequence[int]) -> LatentPair:
        """Stack these rows."""
        return LatentPair.stacked([self[row] for row in rows])


@dataclass(frozen=True)
class CachedBatches:
    """A `batches.BatchSource` of cached latents: all of them in a new order for every pass.

    The chunks are put in a new order, a few of them at a time are opened, and their rows are shuffled together: random
    enough for training, and whatever the size of the cache, only a few files are read from at a time.

    Attributes:
        variants: what was encoded, for its names.
    """

    cache: LatentCache
    variants: VariantRows
    batch_size: int
    seed: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> LatentPair:
        """The rows rank, rank + world, … of a step's batch."""
        return self.cache.batch(self.rows(step)[rank::world])

    def names(self, step: int) -> list[str]:
        """Which pairs a step's batch is made of."""
        return [self.variants.name(row) for row in self.rows(step)]

    def rows(self, step: int) -> list[int]:
        """Rows of a step: passes follow one another without a gap, so that no row is left out of any."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self._row(*divmod(place, len(self.cache))) for place in places]

    def _row(self, number: int, place: int) -> int:
        """The row at a place of a pass."""
        for window, chunks in enumerate(self._windows(number)):
            rows = sum(len(self.cache.layout.rows_of(chunk)) for chunk in chunks)
            if place < rows:
                return self._order(number, window)[place]
            place -= rows
        raise IndexError(f"A pass has {len(self.cache)} rows.")

    def _windows(self, number: int) -> list[list[int]]:
        """The chunks of a pass in its order, in groups of about the same size that are shuffled as one."""
        latest = self._latest
        if latest.get("pass") != number:
            chunks = self._shuffled(self.cache.layout.chunks, number)
            count = -(-len(chunks) // MIXED_CHUNKS)
            ends = [len(chunks) * window // count for window in range(count + 1)]
            windows = [chunks[start:end] for start, end in zip(ends, ends[1:], strict=False)]
            latest.update({"pass": number, "windows": windows})
        return latest["windows"]

    def _order(self, number: int, window: int) -> list[int]:
        """The rows of a window in their order."""
        latest = self._latest
        if latest.get("window") != (number, window):
            rows = [
                row for chunk in self._windows(number)[window] for row in self.cache.layout.rows_of(chunk)
            ]
            order = [rows[place] for place in self._shuffled(len(rows), number, window + 1)]
            latest.update({"window": (number, window), "order": order})
        return latest["order"]

    @cached_property
    def _latest(self) -> dict[str, Any]:
        """The latest pass and window, whose orders are asked for with every row."""
        return {}

    def _shuffled(self, count: int, number: int, window: int = 0) -> list[int]:
        """0 … count - 1 in an order that the seed, the pass and the window decide."""
        seed = ((self.seed * 1_000_003 + number) * 65_537 + window) % 2**64
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def open_latent_cache(vae: WanVAE, rows: VariantRows, output: Path, with_target: bool = False) -> LatentCache:
    """The cache in `output` that was made of the same pairs, VAE and settings, whole or begun; else a new one, empty.

    Args:
        with_target: keep the targets' pictures, too, which take three times the latents' room.

    Raises:
        DelitError: if it cannot be written.
    """
    settings = _settings(rows) | {"with the targets' pictures": with_target}
    layout = ChunkLayout(len(rows.dataset), rows.variants, settings["pairs in a chunk"])
    probe = _probe(vae)
    for folder, description in _described(output).items():
        if description["settings"] == settings and _is_near(torch.tensor(description["probe"]), probe):
            return LatentCache(folder, layout, with_target)
    description = {"settings": settings, "probe": probe.tolist()}
    key = hashlib.sha256(json.dumps(description).encode()).hexdigest()[:12]
    folder = output / f"latents-{key}"
    remove_unfinished([folder / DESCRIPTION_FILE])
    with atomic_write(folder / DESCRIPTION_FILE) as temporary:
        temporary.write_text(json.dumps(description) + "\n")
    return LatentCache(folder, layout, with_target)


def unused_caches(cache: LatentCache) -> list[str]:
    """What to tell of other caches beside this one: which settings they were made with, and how large they are."""
    described = _described(cache.folder.parent)
    own = described.get(cache.folder, {"settings": {}})["settings"]
    told = []
    for folder, description in described.items():
        if folder == cache.folder:
            continue
        settings = description["settings"]
        names = sorted({*settings, *own})
        differing = [name for name in names if settings.get(name) != own.get(name)] or ["the VAE"]
        size = sum(file.stat().st_size for file in folder.iterdir())
        told.append(
            f"{folder} ({size / 1e9:.1f} GB) holds latents of another state of things ({', '.join(differing)}), which "
            "this run does not use. Remove it if no other run does."
        )
    return told


def _settings(rows: VariantRows) -> dict[str, Any]:
    """What two caches must have in common to be one, but for their VAE; by names that a person knows."""
    augmentation = asdict(rows.config)
    photography = augmentation.pop("photography")
    settings = {
        "format": FORMAT_VERSION,
        "data": fingerprint_of(rows.dataset),
        "pairs": len(rows.dataset),
        "pairs in a chunk": max(1, CHUNK_ROWS // rows.variants),
        "variants": rows.variants,
        "seed": rows.seed,
        "version of the augmentation": VARIANTS_VERSION,
        **augmentation,
        **{f"photography: {name}": value for name, value in photography.items()},
    }
    # As it is when it is read again: tuples are lists there.
    return json.loads(json.dumps(settings))


def _described(output: Path) -> dict[Path, dict[str, Any]]:
    """All caches of a folder with what their files say of them."""
    found = {}
    for file in sorted(output.glob(f"latents-*/{DESCRIPTION_FILE}")):
        try:
            description = read_json(file)
            found[file.parent] = {"settings": dict(description["settings"]), "probe": description["probe"]}
        except (OSError, ValueError, KeyError, TypeError):
            # Written by something else, or damaged: no cache that could be gone on with.
            continue
    return found


@torch.inference_mode()
def _probe(vae: WanVAE) -> Tensor:
    """The latent of the test card, which tells one VAE from another."""
    return vae.encode(test_card().to(next(vae.parameters()).device)).float().cpu()


def _is_near(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and float((one - other).norm()) <= _SAME_VAE * float(other.norm())
