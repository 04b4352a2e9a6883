"""Pairs, augmented and encoded once, so that training the heads touches neither pictures nor the VAE.

A frozen VAE gives the same latent every time, and it costs far more than the heads. So every pair is encoded a few
times over, each time changed in another way that keeps it true: mirrored (with its environment), re-exposed and
re-coloured (with its environment), or cropped closer.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.env_codec import MAX_RADIANCE, encode_env
from delit_models.images import VAE_STRIDE
from delit_models.wan_vae import WanVAE

from .pairs import Pair, PairDataset


@dataclass(frozen=True)
class AugmentConfig:
    """How far a training pair is varied.

    Attributes:
        exposure: standard deviation of the change of exposure, in stops.
        white_balance: standard deviation of the change of red and of blue against green, in stops.
        closest_crop: the smallest part of the picture's side that a crop keeps.
    """

    exposure: float = 0.35
    white_balance: float = 0.12
    closest_crop: float = 0.6


@dataclass(frozen=True)
class LatentPair:
    """A training example, or a batch of them, as the heads see it.

    Attributes:
        z: latent of the relit picture, [..., 16, h, w].
        z_flat: latent of the target: the flat-lit subject in front of the background as it was.
        mask: how much of each latent cell is subject, [..., 1, h, w] in [0, 1].
        env_code: [..., 4, 128, 256].
    """

    z: Tensor
    z_flat: Tensor
    mask: Tensor
    env_code: Tensor


class LatentCache(Dataset[LatentPair]):
    """All pairs of a data set, `variants` times each, in memory as half floats."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors["z"])

    def __getitem__(self, index: int) -> LatentPair:
        env = self.tensors["env"][self.tensors["env_index"][index]].float() * self.tensors["env_gain"][index]
        if self.tensors["mirrored"][index]:
            env = env.flip(-1)
        code = encode_env(env.clamp(max=MAX_RADIANCE)[None])[0]
        return LatentPair(*(self.tensors[name][index].float() for name in ("z", "z_flat", "mask")), code)

    def batch(self, indices: Tensor) -> LatentPair:
        """Stack the examples of these indices."""
        examples = [self[int(index)] for index in indices]
        return LatentPair(
            *(torch.stack([getattr(e, name) for e in examples]) for name in asdict(examples[0]))
        )


def augment(pair: Pair, config: AugmentConfig, generator: torch.Generator) -> tuple[Pair, Tensor, bool]:
    """Vary one pair.

    Returns:
        The pair (its env unchanged), the gain [3, 1, 1] to multiply the env with, and whether to mirror it.
    """
    normal = torch.randn(3, generator=generator)
    stops = config.exposure * normal[0] + config.white_balance * torch.stack(
        (normal[1], normal[1] * 0, normal[2])
    )
    gain = (2.0**stops)[:, None, None]
    mirrored = bool(torch.rand((), generator=generator) < 0.5)
    relit = linear_to_srgb((srgb_to_linear(pair.relit) * gain).clamp(0, 1))
    pictures = torch.cat((relit, pair.flat, pair.mask))
    pictures = _crop(pictures, config.closest_crop, generator)
    if mirrored:
        pictures = pictures.flip(-1)
    return Pair(pictures[:3], pictures[3:6], pictures[6:7], pair.env), gain, mirrored


def target_picture(pair: Pair) -> Tensor:
    """What the heads should make: the subject flat-lit, what is behind it left alone. [..., 3, H, W]."""
    return pair.mask * pair.flat + (1 - pair.mask) * pair.relit


def build_latent_cache(
    vae: WanVAE, dataset: PairDataset, variants: int, config: AugmentConfig, seed: int, folder: Path
) -> LatentCache:
    """Encode every pair `variants` times: first as it is, then augmented. Kept in `folder` and read from there if
    it was made from the same pairs, VAE and settings before."""
    cache_file = folder / f"latents-{_fingerprint(vae, dataset, variants, config, seed)}.pt"
    if cache_file.is_file():
        return LatentCache(torch.load(cache_file, weights_only=True))
    env_numbers = {
        path: number for number, path in enumerate(dict.fromkeys(r.env_map for r in dataset.records))
    }
    rows: dict[str, list[Tensor]] = {
        n: [] for n in ("z", "z_flat", "mask", "env_index", "env_gain", "mirrored")
    }
    envs: dict[int, Tensor] = {}
    for index in tqdm(range(len(dataset)), desc="encoding", mininterval=5):
        pair, record = dataset[index], dataset.records[index]
        envs[env_numbers[record.env_map]] = pair.env.half()
        for variant in range(variants):
            generator = torch.Generator().manual_seed((seed * 1_000_003 + index) * 1009 + variant)
            plain = (pair, torch.ones(3, 1, 1), False)
            varied, gain, mirrored = plain if variant == 0 else augment(pair, config, generator)
            pictures = torch.stack((varied.relit, target_picture(varied))) * 2 - 1
            with torch.inference_mode():
                z, z_flat = vae.encode(pictures.to(next(vae.parameters()).device)).half().cpu()
            rows["z"].append(z)
            rows["z_flat"].append(z_flat)
            rows["mask"].append(F.avg_pool2d(varied.mask, VAE_STRIDE).half())
            rows["env_index"].append(torch.tensor(env_numbers[record.env_map]))
            rows["env_gain"].append(gain)
            rows["mirrored"].append(torch.tensor(mirrored))
    tensors = {name: torch.stack(values) for name, values in rows.items()}
    tensors["env"] = torch.stack([envs[number] for number in range(len(envs))])
    with atomic_write(cache_file) as temporary:
        torch.save(tensors, temporary)
    return LatentCache(tensors)


def _crop(pictures: Tensor, closest: float, generator: torch.Generator) -> Tensor:
    """Cut a random window of the same shape and enlarge it to the old size."""
    height, width = pictures.shape[-2:]
    part = closest + (1 - closest) * float(torch.rand((), generator=generator))
    window_height, window_width = round(height * part), round(width * part)
    top = int(torch.randint(height - window_height + 1, (), generator=generator))
    left = int(torch.randint(width - window_width + 1, (), generator=generator))
    cut = pictures[:, top : top + window_height, left : left + window_width]
    enlarged = F.interpolate(cut[None], size=(height, width), mode="bilinear", align_corners=False)
    return rearrange(enlarged, "1 c h w -> c h w").clamp(0, 1)


def _fingerprint(vae: WanVAE, dataset: PairDataset, variants: int, config: AugmentConfig, seed: int) -> str:
    """Changes with anything that changes the latents."""
    digest = hashlib.sha256(json.dumps([variants, asdict(config), seed]).encode())
    for record in dataset.records:
        digest.update(f"{record.relit}{record.relit.stat().st_mtime_ns}".encode())
    for parameter in vae.encoder.parameters():
        digest.update(parameter.detach().float().mean().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
