"""Variants of a pair: the same subject in other light, dyed, mirrored, re-exposed, cropped closer, photographed.

Each change keeps the pair true. Up to four of the subject's lights are mixed in random colours (light adds up, and so
do environments); exposure and white balance change picture and environment alike; crops and mirrors change all. All
this happens in linear light that was never clipped. Then a camera takes the picture (`photography`), whose look the
flat-lit target has, too, while lens, noise and JPEG befall the picture alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.color import linear_to_srgb, luminance, srgb_to_linear
from training.data.pairs import Pair, Pairs

from .backgrounds import put_behind, what_is_behind
from .clutter import clutter
from .dyes import DyeConfig, draw_dye
from .photography import Look, PhotographyConfig, defocus, photograph

VARIANTS_VERSION = 5
"""Raised whenever the same settings and seed give other variants, so that no cache mixes the two."""

MOST_LIGHTS = 4
# Another background comes from one of so many pairs before: near in the data set, where a reader of shards still is.
_NEIGHBOURS = 32
# A face as a camera meters it: linear luminance of a subject of middle albedo.
_METERED = 0.18


@dataclass(frozen=True)
class AugmentConfig:
    """How far a training pair is varied.

    Attributes:
        lights: how likely one, two, three or four of the subject's environments are mixed.
        tinted: standard deviation of the colour that each light of a mixture is given, in stops.
        exposure: standard deviation of the change of exposure, in stops.
        metered: share of the variants that are exposed for the subject before that.
        white_balanced: share of the variants whose light's colour is taken out, for 70 to 100%, as cameras do.
        white_balance: standard deviation of the change of red and of blue against green, in stops, of all.
        closest_crop: the smallest part of the picture's side that a crop keeps.
        background: how likely what is behind the subject stays, is out of focus, is that of another pair, or clutter.
        background_blur: largest radius of what is out of focus, as a share of the picture's shorter side.
        dyes: other materials of the subject. photography: what cameras do to the relit picture after all that.
    """

    lights: tuple[float, float, float, float] = (0.4, 0.3, 0.2, 0.1)
    tinted: float = 0.5
    exposure: float = 0.35
    metered: float = 0.5
    white_balanced: float = 0.6
    white_balance: float = 0.12
    closest_crop: float = 0.5
    background: tuple[float, float, float, float] = (0.25, 0.15, 0.2, 0.4)
    background_blur: float = 0.03
    dyes: DyeConfig = field(default_factory=DyeConfig)
    photography: PhotographyConfig = field(default_factory=PhotographyConfig)


@dataclass(frozen=True)
class Variant:
    """A training example before it is encoded.

    Attributes:
        relit: [3, H, W] in [0, 1], sRGB-coded: what the heads see.
        target: [3, H, W] in [0, 1], sRGB-coded: what they should make, the subject flat-lit in front of the
            background as it is.
        mask: [1, H, W] in [0, 1].
        lights: [4], numbers of the pairs whose environments are added up.
        gains: [4, 3], what each is multiplied by; 0 for those that take no part.
        mirrored: whether the sum is mirrored.
    """

    relit: Tensor
    target: Tensor
    mask: Tensor
    lights: Tensor
    gains: Tensor
    mirrored: bool

    def env(self, dataset: Pairs) -> Tensor:
        """The variant's environment, radiance [3, 128, 256]."""
        used = [number for number in range(MOST_LIGHTS) if bool(self.gains[number].any())]
        env = sum(
            self.gains[number][:, None, None] * dataset.light(int(self.lights[number])) for number in used
        )
        return env.flip(-1) if self.mirrored else env


def unchanged(dataset: Pairs, index: int) -> Variant:
    """A pair as it is."""
    pair = dataset[index]
    gains = torch.zeros(MOST_LIGHTS, 3)
    gains[0] = 1
    lights = torch.full((MOST_LIGHTS,), index)
    return Variant(pair.relit, target_picture(pair), pair.mask, lights, gains, mirrored=False)


def target_picture(pair: Pair) -> Tensor:
    """What the heads should make of a pair as it is: the subject flat-lit, in front of what the picture shows behind
    it. [3, H, W], sRGB-coded."""
    behind = what_is_behind(srgb_to_linear(pair.relit), pair.mask)
    return linear_to_srgb(_flat_before(srgb_to_linear(pair.flat), pair.mask, behind))


def vary(
    dataset: Pairs, index: int, companions: list[int], config: AugmentConfig, generator: torch.Generator
) -> Variant:
    """Draw a variant of one pair; `companions` are the numbers of all pairs of its subject."""
    pair = dataset[index]
    lights, gains = _mixture(index, companions, config, generator)
    used = [number for number in range(MOST_LIGHTS) if bool(gains[number].any())]
    light = sum(gains[n][:, None, None] * dataset[int(lights[n])].relit_light for n in used)
    pictures = _crop(torch.cat((light, srgb_to_linear(pair.flat), pair.mask)), config.closest_crop, generator)
    mirrored = bool(torch.rand((), generator=generator) < 0.5)
    if mirrored:
        pictures = pictures.flip(-1)
    light, flat, mask = pictures[:3], pictures[3:6].clamp(max=1), pictures[6:7].clamp(0, 1)
    dye = draw_dye(flat, mask, config.dyes, generator)
    if dye is not None:
        light, flat = light * dye, flat * dye
    exposed = _camera_gain(light, flat, mask, config, generator)
    light = light * exposed[:, None, None]
    behind = what_is_behind(light, mask)
    light, behind = _change_background(light, mask, behind, dataset, index, config, generator)
    look = Look()
    relit = linear_to_srgb(light.clamp(0, 1))
    if float(torch.rand((), generator=generator)) < config.photography.share:
        look = Look.draw(config.photography, generator)
        relit = photograph(light, look, config.photography, generator)
    target = look.of(linear_to_srgb(_flat_before(flat, mask, behind)))
    return Variant(relit, target, mask, lights, gains * exposed, mirrored)


def companions_of(dataset: Pairs) -> dict[str, list[int]]:
    """The numbers of the pairs of every subject, whose pictures differ in nothing but light."""
    companions: dict[str, list[int]] = {}
    for number, record in enumerate(dataset.records):
        companions.setdefault(record.subject, []).append(number)
    return companions


def _mixture(
    index: int, companions: list[int], config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which lights shine [4], and how strongly in which colour [4, 3]."""
    lights, gains = torch.full((MOST_LIGHTS,), index), torch.zeros(MOST_LIGHTS, 3)
    others = [number for number in companions if number != index]
    count = 1 + int(torch.multinomial(torch.tensor(config.lights), 1, generator=generator))
    chosen = torch.randperm(len(others), generator=generator)[: count - 1].tolist()
    count = 1 + len(chosen)
    lights[1:count] = torch.tensor([others[number] for number in chosen], dtype=torch.long)
    if count == 1:
        gains[0] = 1
        return lights, gains
    # Squares of uniform numbers: now one light rules, now all are alike.
    shares = torch.rand(count, generator=generator).square() + 0.02
    tints = 2 ** (config.tinted * torch.randn(count, 3, generator=generator))
    gains[:count] = (shares / shares.sum())[:, None] * tints / luminance(tints, dim=1)[:, None]
    return lights, gains


def _camera_gain(
    light: Tensor, flat: Tensor, mask: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """What exposure and white balance multiply light [3, H, W] by, [3]."""
    metered, balanced, strength = torch.rand(3, generator=generator).tolist()
    gain = torch.ones(3)
    area = mask.sum().clamp(min=1)
    mean, albedo = ((x * mask).sum(dim=(1, 2)) / area for x in (light, flat))
    if balanced < config.white_balanced:
        illuminant = (mean / albedo.clamp(min=1e-3)).clamp(min=1e-4)
        gain = (illuminant / luminance(illuminant, dim=0)) ** -(0.7 + 0.3 * strength)
    if metered < config.metered:
        # As photographers do, light subjects are not brought down to middle grey, nor dark ones up to it.
        aim = _METERED * (luminance(albedo, dim=0).clamp(min=0.02) / 0.25) ** 0.55
        gain = gain * (aim / luminance(mean * gain, dim=0).clamp(min=1e-4)).clamp(1 / 8, 8)
    stops = torch.randn(3, generator=generator) * config.white_balance
    stops[1] = 0
    return gain * 2 ** (stops + torch.randn((), generator=generator) * config.exposure)


def _change_background(
    light: Tensor,
    mask: Tensor,
    behind: Tensor,
    dataset: Pairs,
    index: int,
    config: AugmentConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The picture before its own background, that out of focus, another pair's, or clutter; and what is behind. All
    linear."""
    choice = int(torch.multinomial(torch.tensor(config.background), 1, generator=generator))
    strength = float(torch.rand((), generator=generator))
    before = 1 + int(torch.randint(_NEIGHBOURS, (), generator=generator))
    height, width = light.shape[-2:]
    if choice == 0:
        return light, behind
    if choice == 1:
        new = defocus(behind, strength * config.background_blur * min(height, width))
    elif choice == 2:
        other = dataset[(index - before) % len(dataset)]
        new = what_is_behind(other.relit_light, other.mask)
    else:
        new = clutter(height, width, generator)
    return put_behind(light, mask, new), new


def _flat_before(flat: Tensor, mask: Tensor, behind: Tensor) -> Tensor:
    """The flat-lit subject before a background, all in linear light, clipped to [0, 1].

    A flat-lit picture is black outside the mask and already multiplied by it at its edge, so that fine hair is not
    darkened twice.
    """
    return (flat * (mask > 0) + (1 - mask) * behind).clamp(0, 1)


def _crop(pictures: Tensor, closest: float, generator: torch.Generator) -> Tensor:
    """Cut a random window of the same shape and enlarge it to the old size."""
    height, width = pictures.shape[-2:]
    part = closest + (1 - closest) * float(torch.rand((), generator=generator))
    window_height, window_width = round(height * part), round(width * part)
    top = int(torch.randint(height - window_height + 1, (), generator=generator))
    left = int(torch.randint(width - window_width + 1, (), generator=generator))
    cut = pictures[:, top : top + window_height, left : left + window_width]
    enlarged = F.interpolate(cut[None], size=(height, width), mode="bilinear", align_corners=False)
    return rearrange(enlarged, "1 c h w -> c h w")
