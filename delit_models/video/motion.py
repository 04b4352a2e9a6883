"""How small pictures move from one to the next: dense displacements, coarse to fine.

Exhaustive block matching on the coarsest level of a pyramid finds large motions; on every finer level a few steps of
Lucas and Kanade ("An Iterative Image Registration Technique", 1981) refine it to fractions of a pixel. Where there is
nothing to hold on to, the coarser level's answer stays. Whether an answer is right is for whoever uses it to check:
`carry` the other picture along and compare.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..color import luminance
from ..detail_transfer import resize_area

# Longest side in pixels of the pictures that are compared: the change of light is smooth, more would be for nothing.
COMPARED_SIZE = 128
# Shortest side of the pyramid's coarsest level, and how far is searched there, in its pixels: 1/4 of the picture.
COARSEST_SIDE = 12
SEARCH = 3
# Windows, in pixels of a level, and steps a level.
MATCH_RADIUS = 2
WINDOW_RADIUS = 3
STEPS = 3
# A gradient of so much a pixel counts as something to hold on to.
GRADIENT_FLOOR = 0.01
# No preference for standing still would let noise choose between equals.
SEARCH_COST = 2e-4


def find_motion(first: Tensor, second: Tensor) -> Tensor:
    """Where what is in one picture lies in another.

    Args:
        first, second: [B, 3, h, w] in [0, 1], sRGB-coded.

    Returns:
        [B, 2, h', w'], at COMPARED_SIZE or the pictures' own size: the displacement (x, y) from `first` to `second`
        as a share of the width and of the height.
    """
    size = _compared_size(tuple(first.shape[-2:]))
    pyramid = [torch.stack([_features(resize_area(x, size)) for x in (first, second)])]
    while min(pyramid[-1].shape[-2:]) >= 2 * COARSEST_SIDE:
        height, width = pyramid[-1].shape[-2:]
        pyramid.append(_resized(pyramid[-1], (-(-height // 2), -(-width // 2))))
    motion = _search(*pyramid[-1])
    for level in reversed(pyramid):
        motion = F.interpolate(motion, size=level.shape[-2:], mode="bilinear", align_corners=False)
        for _ in range(STEPS):
            motion = _refined(motion, *level)
    return motion


def carry(values: Tensor, motion: Tensor) -> Tensor:
    """Bring what lies at the end of a motion to its beginning.

    Args:
        values: [B, C, h, w], lying over the second picture.
        motion: [B, 2, h', w'], from `find_motion`; its size is the result's.

    Returns:
        [B, C, h', w'], lying over the first; beyond the border the border's own.
    """
    height, width = motion.shape[-2:]
    grid = _identity(height, width, motion) + 2 * rearrange(motion, "b c h w -> b h w c")
    return F.grid_sample(values, grid.to(values), mode="bilinear", padding_mode="border", align_corners=False)


def inside(motion: Tensor) -> Tensor:
    """[B, 1, h, w]: 1 where a motion ends within the picture, else 0."""
    ends = _identity(*motion.shape[-2:], motion) + 2 * rearrange(motion, "b c h w -> b h w c")
    return (ends.abs().amax(dim=-1) <= 1).to(motion)[:, None]


def join(motion: Tensor, onward: Tensor) -> Tensor:
    """A motion, and the one that goes on from where it ends, as one; [B, 2, h, w]."""
    return motion + carry(onward, motion)


def box(image: Tensor, radius: int) -> Tensor:
    """Mean over (2 · radius + 1)² pixels, with the border repeated."""
    window = 2 * radius + 1
    padded = F.pad(image, [radius] * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (window, 1), stride=1), (1, window), stride=1)


def _compared_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, COMPARED_SIZE / max(size))
    height, width = (max(COARSEST_SIDE, round(side * scale)) for side in size)
    return height, width


def _features(picture: Tensor) -> Tensor:
    """[B, 3, h, w] → [B, 1, h, w]: brightness without its broad part, so that a light that changes is no motion."""
    brightness = luminance(picture, dim=1).unsqueeze(1)
    return brightness - box(brightness, min(12, *(side - 1 for side in brightness.shape[-2:])))


def _resized(pair: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.stack([resize_area(x, size) for x in pair])


def _search(first: Tensor, second: Tensor) -> Tensor:
    """The best displacement among whole pixels; as find_motion's."""
    height, width = first.shape[-2:]
    padded = F.pad(second, [SEARCH] * 4, mode="replicate")
    shifts = [(x, y) for y in range(-SEARCH, SEARCH + 1) for x in range(-SEARCH, SEARCH + 1)]
    costs = [
        box(
            (first - padded[..., SEARCH + y : SEARCH + y + height, SEARCH + x : SEARCH + x + width]).square(),
            MATCH_RADIUS,
        )
        + SEARCH_COST * (x * x + y * y)
        for x, y in shifts
    ]
    best = torch.cat(costs, dim=1).argmin(dim=1)
    pixels = first.new_tensor(shifts)[best]
    return rearrange(pixels / pixels.new_tensor((width, height)), "b h w c -> b c h w")


def _refined(motion: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """One step of Lucas and Kanade: least squares over a window of the change that brightness gradients ask for."""
    carried = carry(second, motion)
    x, y = _gradients((first + carried) / 2)
    late = carried - first
    xx, xy, yy, xt, yt = box(
        torch.cat([x * x, x * y, y * y, x * late, y * late], dim=1), WINDOW_RADIUS
    ).split(1, dim=1)
    xx, yy = xx + GRADIENT_FLOOR**2, yy + GRADIENT_FLOOR**2
    determinant = xx * yy - xy * xy
    step = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant
    height, width = first.shape[-2:]
    size = motion.new_tensor((width, height))[:, None, None]
    return box(motion + step.clamp(-1, 1) / size, 1)


def _gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(image, [1] * 4, mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return across, down


def _identity(height: int, width: int, like: Tensor) -> Tensor:
    """[1, h, w, 2]: every pixel's own place, (x, y) in [-1, 1] as grid_sample has it."""
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * 2 / height - 1
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * 2 / width - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
