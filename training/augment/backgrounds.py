"""What is behind a subject: guessed where the subject hides it, and exchanged.

Everything here is in linear light, where a pixel half covered by hair is half hair and half what is behind it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

# Up to here, the last step of an 8-bit mask, a pixel shows nothing but what is behind.
_UNCOVERED = 1 / 255
# From here on nothing that matters shows through.
_COVERED = 0.98
# Fringes are at most so much brighter (hair that is lit from behind) than what is whole within so many pixels.
_BRIGHTER = 2.0
_FRINGE = 21


def what_is_behind(light: Tensor, mask: Tensor) -> Tensor:
    """The picture without its subject: as it is where the mask is 0, filled in smoothly from around elsewhere.

    Args:
        light: [3, H, W], linear. mask: [1, H, W] in [0, 1], how much of a pixel the subject covers.

    Returns:
        [3, H, W], linear. The picture itself where the subject is everywhere.
    """
    uncovered = (mask <= _UNCOVERED).to(light)
    return _fill(light, uncovered) if bool(uncovered.any()) else light


def put_behind(light: Tensor, mask: Tensor, behind: Tensor) -> Tensor:
    """Put something else behind the subject. light, behind: [3, H, W], linear; mask: [1, H, W] in [0, 1]."""
    subject = (light - (1 - mask) * what_is_behind(light, mask)).clamp(min=0)
    # A mask has 256 steps: of a background a hundred times as bright, half a step would shine on as a fringe.
    covered = light * (mask > _COVERED)
    nearby = _brightest_within(covered, _FRINGE)
    subject = torch.where(mask > _COVERED, subject, torch.minimum(subject, _BRIGHTER * mask * nearby))
    return subject + (1 - mask) * behind


def _brightest_within(picture: Tensor, width: int) -> Tensor:
    """Each channel's largest value in the square of an odd width around a pixel, of a picture that is nowhere below 0:
    along rows, then columns, which is the same as the square at once."""
    padded = F.pad(picture, (width // 2,) * 4)
    return _largest_of(_largest_of(padded, width, 2), width, 1)


def _largest_of(values: Tensor, count: int, dim: int) -> Tensor:
    """The largest of each `count` neighbours, of which there are count − 1 fewer. Of two neighbours, of two such pairs,
    and so on: a few comparisons, where a pooling makes `count` of them."""
    known = 1
    while known < count:
        step = min(known, count - known)
        length = values.shape[dim] - step
        values = torch.maximum(values.narrow(dim, 0, length), values.narrow(dim, step, length))
        known += step
    return values


def _fill(picture: Tensor, known: Tensor) -> Tensor:
    """Pull-push (Gortler et al., The Lumigraph, 1996, section 3.4): average what is known to ever coarser pictures,
    until a pixel knows something, then bring that back up to the pixels that know nothing."""
    height, width = picture.shape[-2:]
    if bool(known.all()) or height == width == 1:
        return picture
    share = _halve(known)
    coarse = _halve(picture * known) / share.clamp(min=1e-6)
    filled = _fill(coarse, (share > 0).to(picture))
    enlarged = F.interpolate(filled[None], size=(height, width), mode="bilinear", align_corners=False)
    return torch.where(known > 0, picture, rearrange(enlarged, "1 c h w -> c h w"))


def _halve(picture: Tensor) -> Tensor:
    """Averages of 2 by 2 pixels, of fewer at an odd edge."""
    return F.avg_pool2d(picture[None], 2, ceil_mode=True)[0]
