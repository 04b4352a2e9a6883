"""Variants of a pair: the same subject in other light, mirrored, re-exposed, cropped closer, photographed.

Each change keeps the pair true: two of its lights at once (light adds up, and so do environments), mirrored, re-exposed
or re-coloured (with its environment), cropped closer, or photographed (`photography`: what a camera does to a picture,
while the flat-lit target and the light stay as they are).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.color import linear_to_srgb, srgb_to_linear
from training.data.pairs import Pair, Pairs

from .backgrounds import what_is_behind
from .photography import PhotographyConfig, photograph

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


def companions_of(dataset: Pairs) -> dict[str, list[int]]:
    """The numbers of the pairs of every subject, whose pictures differ in nothing but light."""
    companions: dict[str, list[int]] = {}
    for number, record in enumerate(dataset.records):
        companions.setdefault(record.subject, []).append(number)
    return companions


def _background_of(pair: Pair) -> Tensor | None:
    """A pair's picture without its subject, [3, H, W], sRGB-coded; None where the subject fills the picture."""
    if bool((pair.mask > 0).all()):
        return None
    return linear_to_srgb(what_is_behind(srgb_to_linear(pair.relit), pair.mask))


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
