"""Pairs, augmented and encoded once, so that training the heads touches neither pictures nor the VAE.

A frozen VAE gives the same latent every time, and it costs far more than the heads. So every pair is encoded a few
times over, each time as another variant (`training.augment.variants`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.env_codec import MAX_RADIANCE, encode_env
from delit_models.errors import DelitError
from delit_models.images import VAE_STRIDE
from delit_models.wan_vae import WanVAE
from training.augment.variants import VARIANTS_VERSION, AugmentConfig, Variant, companions_of, unchanged, vary
from training.data.pairs import Pair, Pairs, Record

from .batches import LatentPair, as_bytes


@dataclass(frozen=True)
class CachedBatches:
    """A `batches.BatchSource` of cached latents: all of them in a new order for every pass."""

    cache: LatentCache
    batch_size: int
    seed: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> LatentPair:
        """The rows rank, rank + world, … of a step's batch."""
        return self.cache.batch(self._rows(step)[rank::world])

    def names(self, step: int) -> list[str]:
        """Which rows of the cache a step's batch is made of."""
        return [f"row {int(row)} of the latent cache" for row in self._rows(step)]

    def _rows(self, step: int) -> Tensor:
        """Rows of a step: passes follow one another without a gap, so that no row is left out of any."""
        places = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        return torch.stack(
            [self._order(int(place) // len(self.cache))[place % len(self.cache)] for place in places]
        )

    def _order(self, number: int) -> Tensor:
        """The order of a pass."""
        return torch.randperm(
            len(self.cache), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        )


class LatentCache(Dataset[LatentPair]):
    """All pairs of a data set, `variants` times each, as half floats. Tensors that lie in the cache's file are read
    from there as they are needed."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors["z"])

    def __getitem__(self, index: int) -> LatentPair:
        envs = self.tensors["env"][self.tensors["lights"][index]].float()
        env = (envs * self.tensors["gains"][index][..., None, None]).sum(dim=0)
        if self.tensors["mirrored"][index]:
            env = env.flip(-1)
        code = encode_env(env.clamp(max=MAX_RADIANCE)[None])[0]
        z, z_flat, mask = (self.tensors[name][index].float() for name in ("z", "z_flat", "mask"))
        target = self.tensors["target"][index] if "target" in self.tensors else None
        return LatentPair(z, z_flat, mask, code, target)

    def latents(self, count: int) -> Tensor:
        """Some latents of relit pictures, evenly spread, [count, 16, h, w]."""
        places = torch.linspace(0, len(self) - 1, min(count, len(self))).long()
        return self.tensors["z"][places].float()

    def batch(self, indices: Tensor) -> LatentPair:
        """Stack the examples of these indices."""
        return LatentPair.stacked([self[int(index)] for index in indices])


def build_latent_cache(
    vae: WanVAE,
    dataset: Pairs,
    variants: int,
    config: AugmentConfig,
    seed: int,
    folder: Path,
    with_target: bool = False,
) -> LatentCache:
    """Encode every pair `variants` times: first as it is, then augmented. Kept in `folder` and read from there if
    it was made from the same pairs, VAE and settings before. `with_target` keeps the targets' pictures, too, which
    take three times the latents' room."""
    kind = "latents-with-targets" if with_target else "latents"
    cache_file = folder / f"{kind}-{_fingerprint(vae, dataset, variants, config, seed)}.pt"
    if cache_file.is_file():
        return _open(cache_file)
    companions = companions_of(dataset)
    rows: dict[str, list[Tensor]] = {}
    size = dataset[0].relit.shape[-2:]
    for index in tqdm(range(len(dataset)), desc="encoding", mininterval=5):
        _check_size(dataset.records[index], dataset[index], size)
        among = companions[dataset.records[index].subject]
        for variant in range(variants):
            generator = torch.Generator().manual_seed((seed * 1_000_003 + index) * 1009 + variant)
            varied = vary(dataset, index, among, config, generator) if variant else unchanged(dataset, index)
            row = _encode(vae, varied) | ({"target": as_bytes(varied.target)} if with_target else {})
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    tensors = {name: torch.stack(values) for name, values in rows.items()}
    tensors["env"] = torch.stack([dataset.light(index).half() for index in range(len(dataset))])
    with atomic_write(cache_file) as temporary:
        torch.save(tensors, temporary)
    return _open(cache_file)


def _open(cache_file: Path) -> LatentCache:
    return LatentCache(torch.load(cache_file, weights_only=True, mmap=True))


def _check_size(record: Record, pair: Pair, size: torch.Size) -> None:
    """Refuse a pair of another size than the first when it comes up, not when all have been encoded."""
    height, width = pair.relit.shape[-2:]
    if (height, width) != size or height % VAE_STRIDE or width % VAE_STRIDE:
        raise DelitError(
            f"The pictures of {record.subject}/{record.env} are {width} × {height}, the first pair's {size[1]} × "
            f"{size[0]}. Training takes pictures of one size, whose sides are multiples of {VAE_STRIDE}: scale or crop "
            "them."
        )


def _encode(vae: WanVAE, varied: Variant) -> dict[str, Tensor]:
    """A row of the cache, but for its environments."""
    device = next(vae.parameters()).device
    pictures = torch.stack((varied.relit, varied.target)) * 2 - 1
    with torch.inference_mode():
        z, z_flat = vae.encode(pictures.to(device)).half().cpu()
    return {
        "z": z,
        "z_flat": z_flat,
        "mask": F.avg_pool2d(varied.mask, VAE_STRIDE).half(),
        "lights": varied.lights,
        "gains": varied.gains,
        "mirrored": torch.tensor(varied.mirrored),
    }


def _fingerprint(vae: WanVAE, dataset: Pairs, variants: int, config: AugmentConfig, seed: int) -> str:
    """Changes with anything that changes the latents."""
    digest = hashlib.sha256(json.dumps([VARIANTS_VERSION, variants, asdict(config), seed]).encode())
    for index in range(len(dataset)):
        digest.update(dataset.stamp(index).encode())
    for parameter in vae.encoder.parameters():
        digest.update(parameter.detach().float().mean().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
