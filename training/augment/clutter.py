"""Sharp things to stand behind a subject, made of nothing but random numbers: shelves, panes, stripes, leaves.

A network that has only seen smooth walls behind people takes every edge in a background for light.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SHAPES = 24


def clutter(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A background of random coloured rectangles, stripes and grain, [3, height, width], linear light of mean 0.05 to
    0.6, which it may exceed in bright places."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    picture = _grain(height, width, generator)
    for _ in range(int(torch.randint(3, MOST_SHAPES, (), generator=generator))):
        place, size, colour, choice = (torch.rand(n, generator=generator) for n in (2, 2, 3, 2))
        angle = (0.0 if choice[0] < 0.6 else math.pi) * float(choice[1])
        across = (x - 2 * place[0] + 1) * math.cos(angle) + (y - 2 * place[1] + 1) * math.sin(angle)
        down = (y - 2 * place[1] + 1) * math.cos(angle) - (x - 2 * place[0] + 1) * math.sin(angle)
        inside = (across.abs() < size[0] ** 2) & (down.abs() < size[1])
        if choice[1] > 0.7:
            inside = inside & (torch.sin(across * (8 + 60 * size[1])) > 0)
        picture = torch.where(inside, picture * 0.2 + (colour**2.2)[:, None, None], picture)
    level = 0.05 + 0.55 * float(torch.rand((), generator=generator)) ** 2
    return picture * (level / picture.mean().clamp(min=1e-4))


def _grain(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Noise of all sizes, each finer one weaker, [3, height, width], positive."""
    total = torch.zeros(3, height, width)
    for octave in range(2, 7):
        noise = torch.randn(3, 2**octave, 2**octave, generator=generator) * 1.5 ** (2 - octave)
        total += F.interpolate(noise[None], (height, width), mode="bilinear", align_corners=False)[0]
    return (0.5 * total).exp() * 0.2
