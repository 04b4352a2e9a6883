"""Things to stand behind a subject, made of nothing but random numbers: backdrops, shelves, folded cloth, round bodies.

A network that has only seen smooth walls behind people takes every edge in a background for light, and one that has
seen flat shapes alone takes whatever has folds or is round for a part of the subject.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .photography import defocus

MOST_SHAPES = 20
# How often a background is mottled cloth, as in a studio, with little before it; and how often it is out of focus.
_BACKDROPS = 0.3
_OUT_OF_FOCUS = 0.3
_WIDEST_BLUR = 0.02


def clutter(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A background of random things, [3, height, width], linear light of mean 0.05 to 0.6, which it may exceed in
    bright places."""
    kind, blurred, radius, level = torch.rand(4, generator=generator).tolist()
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    backdrop = kind < _BACKDROPS
    contrast = 0.25 if backdrop else 1.0
    picture = _colour(generator)[:, None, None] * _grain(height, width, contrast, generator)
    for _ in range(
        int(torch.randint(0 if backdrop else 3, 5 if backdrop else MOST_SHAPES, (), generator=generator))
    ):
        picture = _put_shape(picture, x, y, generator)
    if blurred < _OUT_OF_FOCUS:
        picture = defocus(picture, radius * _WIDEST_BLUR * min(height, width))
    return picture * ((0.05 + 0.55 * level**2) / picture.mean().clamp(min=1e-4))


def _put_shape(picture: Tensor, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """One more thing before all others: a board, stripes, folded cloth or a round body."""
    place, size, kind = (torch.rand(n, generator=generator) for n in (2, 2, 3))
    angle = (0.0 if kind[1] < 0.6 else math.pi) * float(kind[2])
    along_x, along_y = x - 2 * place[0] + 1, y - 2 * place[1] + 1
    across = along_x * math.cos(angle) + along_y * math.sin(angle)
    down = along_y * math.cos(angle) - along_x * math.sin(angle)
    inside = (across.abs() < size[0] ** 2) & (down.abs() < size[1])
    shade = torch.ones_like(x)
    if kind[0] < 0.25:
        half = size.clamp(min=0.1) * 0.8
        squared = (across / half[0]).square() + (down / half[1]).square()
        inside, shade = squared < 1, _round(across / half[0], down / half[1], squared, generator)
    elif kind[0] < 0.5:
        shade = _folds(across, down, generator)
    colour = _colour(generator)[:, None, None]
    if kind[0] > 0.85:
        inside = inside & (torch.sin(across * (8 + 60 * size[1])) > 0)
    elif 0.4 < kind[0] < 0.6:
        second = torch.sin(down * (6 + 30 * size[0])) > 0
        colour = torch.where(second, colour, _colour(generator)[:, None, None])
    return torch.where(inside, picture * 0.1 + colour * shade, picture)


def _round(across: Tensor, down: Tensor, squared: Tensor, generator: torch.Generator) -> Tensor:
    """How an ellipsoid is shaded by one lamp and what is around it; in some of them a highlight."""
    lamp = torch.randn(3, generator=generator)
    lamp[2] = lamp[2].abs()
    lamp = lamp / lamp.norm()
    towards = (1 - squared).clamp(min=0).sqrt()
    lit = (across * lamp[0] + down * lamp[1] + towards * lamp[2]).clamp(min=0)
    around, gloss = torch.rand(2, generator=generator).tolist()
    return 0.4 * around + lit + max(0.0, 4 * gloss - 2) * lit**20


def _folds(across: Tensor, down: Tensor, generator: torch.Generator) -> Tensor:
    """How hanging cloth is shaded: folds that lie close and bend a little."""
    count, phase, bend, depth = torch.rand(4, generator=generator).tolist()
    bent = across * (6 + 30 * count) + 3 * bend * torch.sin(2 * down + 6 * phase) + 6 * phase
    return 1 - 0.8 * depth * (0.5 + 0.5 * torch.sin(bent + torch.sin(bent)))


def _colour(generator: torch.Generator) -> Tensor:
    """A surface's, [3], linear, from black to white: most are rather grey, some are dyed."""
    dyed, value = torch.rand(2, generator=generator).tolist()
    hue = torch.rand(3, generator=generator)
    saturation = 0.15 + 0.85 * dyed**2
    return (0.9 * value * (1 - saturation + saturation * hue)) ** 2.2 + 0.005


def _grain(height: int, width: int, contrast: float, generator: torch.Generator) -> Tensor:
    """Noise of all sizes, each finer one weaker, most of it the same in all colours, [3, height, width], about 1."""
    total = torch.zeros(3, height, width)
    for octave in range(1, 7):
        noise = torch.randn(4, 2**octave, 2**octave, generator=generator) * 1.5 ** (1 - octave)
        noise = noise[:1] + 0.3 * noise[1:]
        total += F.interpolate(noise[None], (height, width), mode="bilinear", align_corners=False)[0]
    return (contrast * 0.7 * total).exp()
