"""Dyes: the same subject in other materials. What a pixel reflects is its albedo times its light, so that multiplying
the relit and the flat-lit picture by the same factor is another albedo in the same light. Heads that have seen black,
white and loud cloth in every light do not take black for shadow, nor dye for light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from delit_models.color import luminance
from training.synth.person.pigments import BASE_ALBEDO, MAX_MELANIN, MELANIN_ABSORPTION

# Differences of flat-lit colour within one material, in stops: of brightness, which creases darken, and of hue.
_SAME_BRIGHTNESS, _SAME_HUE = 1.5, 0.35
# Least linear value that a difference in stops is told from.
_DARK = 1 / 256
# No material reflects more than this of the light.
_WHITEST = 0.9
# Skin's red over green and green over blue, linear, from the lightest to the darkest and most ruddy.
_SKIN_RED_GREEN, _SKIN_GREEN_BLUE = (1.15, 3.4), (1.0, 2.6)


@dataclass(frozen=True)
class DyeConfig:
    """Which other materials subjects are given.

    Attributes:
        share: of the variants in which one material is dyed.
        black: share of the dyes that only darken. darkest: by how many stops at the most.
        colour: standard deviation of the other dyes' factors, in stops, each channel for itself.
        skin: the same of what looks like skin, which has its colours by nature.
        melanin: standard deviation of what is added to the melanin of what looks like skin, or taken from it: its
            optical depth in red, 0 to 1.9 from the lightest to the darkest (training.synth.person.pigments).
    """

    share: float = 0.5
    black: float = 0.4
    darkest: float = 5.0
    colour: float = 1.0
    skin: float = 0.12
    melanin: float = 0.35


def draw_dye(flat: Tensor, mask: Tensor, config: DyeConfig, generator: torch.Generator) -> Tensor | None:
    """What to multiply the relit and the flat-lit picture by, or None where nothing is dyed.

    Args:
        flat: [3, H, W], the flat-lit picture, linear. mask: [1, H, W] in [0, 1], where the subject is.

    Returns:
        [3, H, W], positive; 1 where the chosen material is not.
    """
    inside = (mask[0] > 0.98).nonzero()
    if float(torch.rand((), generator=generator)) >= config.share or not len(inside):
        return None
    row, column = inside[int(torch.randint(len(inside), (), generator=generator))].tolist()
    where = _like(flat, flat[:, row, column]) * mask
    # Not the chosen pixel's own colour, which may lie in a crease.
    colour = (flat * where).sum(dim=(1, 2)) / where.sum()
    factor = _factor(colour, config, generator)
    return 1 + where * (factor[:, None, None] - 1)


def _factor(colour: Tensor, config: DyeConfig, generator: torch.Generator) -> Tensor:
    """A dye's factor [3] for a material of flat-lit colour [3]."""
    spread, darkened = torch.randn(3, generator=generator), torch.rand(2, generator=generator)
    if _looks_like_skin(colour):
        tanned = config.melanin * float(torch.randn((), generator=generator))
        stops = config.skin * spread - _melanin_stops(colour, tanned)
    elif float(darkened[0]) < config.black:
        stops = -config.darkest * darkened[1].expand(3)
    else:
        stops = config.colour * spread
    return torch.minimum(2**stops, _WHITEST / colour.clamp(min=_DARK))


def _melanin_stops(colour: Tensor, added: float) -> Tensor:
    """By how many stops [3] more melanin darkens skin of flat-lit colour [3], or less of it lightens it; never to more
    or less than skin has. Otherwise heads would know each person of the data, and how bright that one's skin is."""
    present = min(max(float(torch.log(BASE_ALBEDO[0] / colour[0].clamp(min=_DARK))), 0.0), MAX_MELANIN)
    change = min(max(present + added, 0.0), MAX_MELANIN) - present
    return change * torch.from_numpy(MELANIN_ABSORPTION).to(colour) / math.log(2)


def _looks_like_skin(colour: Tensor) -> bool:
    red, green, blue = colour.clamp(min=_DARK).tolist()
    (least_red, most_red), (least_green, most_green) = _SKIN_RED_GREEN, _SKIN_GREEN_BLUE
    return least_red < red / green < most_red and least_green < green / blue < most_green


def _like(picture: Tensor, colour: Tensor) -> Tensor:
    """How much each pixel of a linear picture [3, H, W] is of the material of that colour [3]; [1, H, W] in [0, 1]."""
    difference = (picture.clamp(min=_DARK) / colour.clamp(min=_DARK)[:, None, None]).log2()
    brightness = luminance(difference, dim=0)[None]
    hue = (difference - brightness).square().sum(dim=0, keepdim=True)
    return torch.exp(-0.5 * ((brightness / _SAME_BRIGHTNESS) ** 2 + hue / _SAME_HUE**2))
