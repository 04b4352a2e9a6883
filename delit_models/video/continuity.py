"""Whether a batch of pictures is a clip."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from ..detail_transfer import resize_area

# Fewer pictures than this are taken for stills whatever they show.
SHORTEST_CLIP = 5
# Pairs of neighbours that are looked at, how small, and how far one may have moved, in pixels of that size.
PAIRS = 12
SIZE = (24, 24)
SHIFT = 3
# Mean difference of sRGB-coded values below which two pictures are neighbours in time.
NEIGHBOURS = 0.05


def is_clip(images: Tensor) -> bool:
    """Whether a batch [B, H, W, C] looks like a shot: most pictures are much like the one before, but for a shift.

    Pictures of one size that have nothing to do with one another differ by far more, even portraits framed alike.
    Linear plates are compared as they are coded, below 1.
    """
    count = len(images)
    if count < SHORTEST_CLIP:
        return False
    stride = max(1, (count - 1) // PAIRS)
    alike = [_neighbours(images[index], images[index + 1]) for index in range(0, count - 1, stride)]
    return sum(alike) > len(alike) / 2


def _neighbours(first: Tensor, second: Tensor) -> bool:
    a, b = (_thumbnail(x) for x in (first, second))
    height, width = SIZE
    inner = a[..., SHIFT : height - SHIFT, SHIFT : width - SHIFT]
    shifts = range(2 * SHIFT + 1)
    rows, columns = height - 2 * SHIFT, width - 2 * SHIFT
    differences = [
        (inner - b[..., y : y + rows, x : x + columns]).abs().mean() for y in shifts for x in shifts
    ]
    return torch.stack(differences).min().item() < NEIGHBOURS


def _thumbnail(picture: Tensor) -> Tensor:
    return resize_area(rearrange(picture[..., :3].float(), "h w c -> 1 c h w").clamp(0, 1), SIZE)
