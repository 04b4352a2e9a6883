"""Pairs, augmented and encoded once, so that training the heads touches neither pictures nor the VAE.

A frozen VAE gives the same latent every time, and it costs far more than the heads. So every pair is encoded a few
times over, each time changed in another way that keeps it true: in two of its lights at once (light adds up, and so
do environments), mirrored, re-exposed or re-coloured (with its environment), cropped closer, or photographed
(`photography`: what a camera does to a picture, while the flat-lit target and the light stay as they are).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
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
from delit_models.errors import DelitError
from delit_models.images import VAE_STRIDE
from delit_models.wan_vae import WanVAE
from training.augment.backgrounds import what_is_behind
from training.augment.photography import PhotographyConfig, photograph
from training.data.pairs import Pair, Pairs, Record

# Another background comes from one of so many pairs before: near in the data set, where a reader of shards still is.
_NEIGHBOURS = 32


@dataclass(frozen=True)
class AugmentConfig:
    """How far a training pair is varied.

    Attributes:
        exposure: standard deviation of the change of exposure, in stops.
        white_balance: standard deviation of the change of red and of blue against green, in stops.
        closest_crop: the smallest part of the picture's side that a crop keeps.
        two_lights: share of the variants that are lit by two of the subject's environments at once.
        photography: what cameras do to the relit picture after that.
    """

    exposure: float = 0.35
    white_balance: float = 0.12
    closest_crop: float = 0.6
    two_lights: float = 0.5
    photography: PhotographyConfig = field(default_factory=PhotographyConfig)


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
    """All pairs of a data set, `variants` times each, as half floats. Tensors that lie in the cache's file are read
    from there as they are needed."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors["z"])

    def __getitem__(self, index: int) -> LatentPair:
        envs = self.tensors["env"][self.tensors["env_index"][index]].float()
        env = (envs * self.tensors["env_gain"][index]).sum(dim=0)
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


@dataclass(frozen=True)
class Augmented:
    """A pair after augmentation.

    Attributes:
        relit, flat, mask: as in Pair.
        gains: [2, 3, 1, 1], by which the pair's own env and the other one's are multiplied before they are added up.
        mirrored: whether the sum is mirrored, too.
    """

    relit: Tensor
    flat: Tensor
    mask: Tensor
    gains: Tensor
    mirrored: bool


def unchanged(pair: Pair) -> Augmented:
    """A pair as it is."""
    gains = torch.stack((torch.ones(3, 1, 1), torch.zeros(3, 1, 1)))
    return Augmented(pair.relit, pair.flat, pair.mask, gains, mirrored=False)


def augment(pair: Pair, other: Pair, config: AugmentConfig, generator: torch.Generator) -> Augmented:
    """Vary one pair. `other` is the same subject in another light."""
    shares = torch.tensor((1.0, 0.0))
    if float(torch.rand((), generator=generator)) < config.two_lights:
        share = torch.rand((), generator=generator)
        shares = torch.stack((share, 1 - share))
    stops = torch.randn(2, 3, generator=generator) * config.white_balance
    stops[:, 1] = 0
    stops += torch.randn((), generator=generator) * config.exposure
    gains = (shares[:, None] * 2.0**stops)[..., None, None]
    light = srgb_to_linear(pair.relit) * gains[0] + srgb_to_linear(other.relit) * gains[1]
    relit = linear_to_srgb(light.clamp(0, 1))
    pictures = _crop(torch.cat((relit, pair.flat, pair.mask)), config.closest_crop, generator)
    mirrored = bool(torch.rand((), generator=generator) < 0.5)
    if mirrored:
        pictures = pictures.flip(-1)
    return Augmented(pictures[:3], pictures[3:6], pictures[6:7], gains, mirrored)


def photographed(
    pair: Augmented, behind: Tensor | None, config: PhotographyConfig, generator: torch.Generator
) -> Augmented:
    """The pair with its relit picture as a camera would have taken it; all else stays. `behind`: [3, H, W],
    another background (`photography.photograph`)."""
    return replace(pair, relit=photograph(pair.relit, pair.mask, config, generator, behind))


def target_picture(pair: Augmented) -> Tensor:
    """What the heads should make: the subject flat-lit, in front of what the picture shows behind it. [3, H, W].

    Put together in linear light. A flat-lit picture is black outside the mask and already multiplied by it at its
    edge, so that fine hair is not darkened twice.
    """
    flat = srgb_to_linear(pair.flat) * (pair.mask > 0)
    behind = what_is_behind(srgb_to_linear(pair.relit), pair.mask)
    return linear_to_srgb((flat + (1 - pair.mask) * behind).clamp(0, 1))


def vary(
    dataset: Pairs, index: int, other: int, config: AugmentConfig, generator: torch.Generator
) -> Augmented:
    """One augmented and photographed variant of a pair; `other` is a pair of the same subject."""
    varied = augment(dataset[index], dataset[other], config, generator)
    before = 1 + int(torch.randint(_NEIGHBOURS, (), generator=generator))
    behind = _background_of(dataset[(index - before) % len(dataset)])
    return photographed(varied, behind, config.photography, generator)


def build_latent_cache(
    vae: WanVAE, dataset: Pairs, variants: int, config: AugmentConfig, seed: int, folder: Path
) -> LatentCache:
    """Encode every pair `variants` times: first as it is, then augmented. Kept in `folder` and read from there if
    it was made from the same pairs, VAE and settings before."""
    cache_file = folder / f"latents-{_fingerprint(vae, dataset, variants, config, seed)}.pt"
    if cache_file.is_file():
        return _open(cache_file)
    companions = _companions(dataset)
    rows: dict[str, list[Tensor]] = {}
    size = dataset[0].relit.shape[-2:]
    for index in tqdm(range(len(dataset)), desc="encoding", mininterval=5):
        _check_size(dataset.records[index], dataset[index], size)
        among = companions[dataset.records[index].subject]
        for variant in range(variants):
            generator = torch.Generator().manual_seed((seed * 1_000_003 + index) * 1009 + variant)
            other = among[int(torch.randint(len(among), (), generator=generator))]
            varied = vary(dataset, index, other, config, generator) if variant else unchanged(dataset[index])
            row = _encode(vae, varied) | {"env_index": torch.tensor((index, other))}
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


def _encode(vae: WanVAE, varied: Augmented) -> dict[str, Tensor]:
    """A row of the cache, but for its environments."""
    device = next(vae.parameters()).device
    pictures = torch.stack((varied.relit, target_picture(varied))) * 2 - 1
    with torch.inference_mode():
        z, z_flat = vae.encode(pictures.to(device)).half().cpu()
    return {
        "z": z,
        "z_flat": z_flat,
        "mask": F.avg_pool2d(varied.mask, VAE_STRIDE).half(),
        "env_gain": varied.gains,
        "mirrored": torch.tensor(varied.mirrored),
    }


def _background_of(pair: Pair) -> Tensor | None:
    """A pair's picture without its subject, [3, H, W], sRGB-coded; None where the subject fills the picture."""
    if bool((pair.mask > 0).all()):
        return None
    return linear_to_srgb(what_is_behind(srgb_to_linear(pair.relit), pair.mask))


def _companions(dataset: Pairs) -> dict[str, list[int]]:
    """The numbers of the pairs of every subject, whose pictures differ in nothing but light."""
    companions: dict[str, list[int]] = {}
    for number, record in enumerate(dataset.records):
        companions.setdefault(record.subject, []).append(number)
    return companions


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


def _fingerprint(vae: WanVAE, dataset: Pairs, variants: int, config: AugmentConfig, seed: int) -> str:
    """Changes with anything that changes the latents."""
    digest = hashlib.sha256(json.dumps([variants, asdict(config), seed]).encode())
    for index in range(len(dataset)):
        digest.update(dataset.stamp(index).encode())
    for parameter in vae.encoder.parameters():
        digest.update(parameter.detach().float().mean().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
