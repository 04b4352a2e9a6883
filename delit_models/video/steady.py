"""A change of light that is steady from frame to frame.

Frame by frame, the heads' change of light wavers: where a picture falls on the latent's grid moves it a little. Over a
window of frames on both sides, what they say of the same place of the scene is averaged, brought along the motion
between them. A neighbour counts as much as it looks alike there, so that what was hidden, has changed or belongs to
another shot does not leave a trace. Only the change of light is averaged, which is smooth; the picture is the frame's
own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..detail_transfer import resize_area
from .motion import box, carry, find_motion, inside, join

# How many frames on either side are looked at, and the standard deviation of their weights in time, in frames.
REACH = 12
TIME_SPREAD = 8.0
# Difference between blurred patches of two frames, in sRGB-coded values, at which one counts 0.6 for the other.
LIKENESS = 0.06
PATCH_RADIUS = 2
# Frames of which less than this share of places look alike are of two shots.
SAME_SHOT = 0.25


@dataclass
class SteadyFrame:
    """A frame on its way through the window.

    Attributes:
        picture: [1, 3, h, w] in [0, 1], sRGB-coded: what the network saw, at the working size.
        values: [1, C, h, w] at the working size: what is to be steadied.
        payload: whatever belongs to the frame.
        starts_shot: whether it follows a cut; the first frame does.
    """

    picture: Tensor
    values: Tensor
    payload: object = None
    starts_shot: bool = True
    motion_on: Tensor | None = field(default=None, repr=False)
    motion_back: Tensor | None = field(default=None, repr=False)
    seen: Tensor | None = field(default=None, repr=False)


def steadied(frames: Iterable[SteadyFrame], reach: int = REACH) -> Iterator[SteadyFrame]:
    """Frames of a clip with their values averaged over time; one out for one in, `reach` frames later.

    Holds 2 · `reach` + 1 frames, however long the clip is.
    """
    window: deque[SteadyFrame] = deque()
    centre = 0
    for frame in frames:
        frame.seen = box(frame.picture, 1)
        if window:
            _meet(window[-1], frame)
        window.append(frame)
        if len(window) - centre > reach:
            yield _averaged(window, centre, reach)
            centre += 1
        if centre > reach:
            window.popleft()
            centre -= 1
    while centre < len(window):
        yield _averaged(window, centre, reach)
        centre += 1


def _meet(before: SteadyFrame, after: SteadyFrame) -> None:
    """Find the motion between two frames that follow each other, and whether they are of one shot."""
    pair = torch.cat([before.picture, after.picture])
    motion_on, motion_back = find_motion(pair, pair.flip(0)).split(1)
    small = resize_area(pair, tuple(motion_on.shape[-2:]))
    alike = _likeness(small[:1], carry(small[1:], motion_on))
    after.starts_shot = alike.mean().item() < SAME_SHOT
    before.motion_on, after.motion_back = motion_on, motion_back


def _averaged(window: deque[SteadyFrame], centre: int, reach: int) -> SteadyFrame:
    own = window[centre]
    total, weight = own.values.clone(), torch.ones_like(own.values[:, :1])
    for direction in (1, -1):
        motion = None
        for step in range(1, reach + 1):
            index = centre + direction * step
            if not 0 <= index < len(window):
                break
            # A cut lies between two frames: before the later of them.
            if window[index if direction > 0 else index + 1].starts_shot:
                break
            last = window[index - direction]
            onward = last.motion_on if direction > 0 else last.motion_back
            motion = onward if motion is None else join(motion, onward)
            there = window[index]
            size = tuple(own.values.shape[-2:])
            full = F.interpolate(motion, size=size, mode="bilinear", align_corners=False)
            seen, values = carry(torch.cat([there.seen, there.values], dim=1), full).split(
                [3, own.values.shape[1]], dim=1
            )
            share = _likeness(own.seen, seen) * inside(full) * math.exp(-0.5 * (step / TIME_SPREAD) ** 2)
            total += share * values
            weight += share
    return SteadyFrame(own.picture, total / weight, own.payload, own.starts_shot)


def _likeness(first: Tensor, second: Tensor) -> Tensor:
    """[1, 1, h, w] in (0, 1]: how alike two pictures are, patch by patch."""
    difference = box((first - second).square().mean(dim=1, keepdim=True), PATCH_RADIUS)
    return torch.exp(-0.5 * difference / LIKENESS**2)
