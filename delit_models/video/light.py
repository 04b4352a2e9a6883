"""The light of a clip: one map for the shot, or one a frame that moves smoothly."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import DelitError

EnvPooling = Literal["shot", "frame"]

# Maps that the median of a shot is taken over; more would not change it.
MAPS_OF_A_SHOT = 200
# Standard deviation, in frames, of the smoothing of a moving light, and how many of them it looks ahead and back.
FRAME_SPREAD = 6.0
SPREADS = 3


def check_pooling(pooling: str) -> None:
    """Raise DelitError for what is no way to pool light over time."""
    if pooling not in get_args(EnvPooling):
        raise DelitError(
            f"“{pooling}” is no way to pool light over time; choose from {', '.join(get_args(EnvPooling))}."
        )


class ClipLight:
    """Gathers the maps of a clip's frames and pools them at its end.

    Args:
        pooling: "shot": one map, the median over at most MAPS_OF_A_SHOT evenly spaced frames, so that bad frames do
            not show and memory does not grow with the clip. "frame": a map a frame, smoothed over time, not across
            cuts.
    """

    def __init__(self, pooling: EnvPooling = "shot") -> None:
        check_pooling(pooling)
        self.pooling = pooling
        self._maps: list[Tensor] = []
        self._shot_starts: list[int] = []
        self._stride = 1
        self._count = 0

    def add(self, env: Tensor, starts_shot: bool = False) -> None:
        """The next frame's map [128, 256, 3], linear, and whether the frame follows a cut."""
        number, self._count = self._count, self._count + 1
        if self.pooling == "frame":
            if starts_shot or number == 0:
                self._shot_starts.append(number)
            self._maps.append(env)
        elif number % self._stride == 0:
            self._maps.append(env)
            if len(self._maps) > MAPS_OF_A_SHOT:
                self._maps = self._maps[::2]
                self._stride *= 2

    def pooled(self) -> Tensor:
        """[1, 128, 256, 3], or [frames, 128, 256, 3] for "frame". Raises DelitError for a clip without frames."""
        if not self._maps:
            raise DelitError("The clip has no frames.")
        maps = torch.stack(self._maps)
        if self.pooling == "shot":
            return median_over_time(maps)
        ends = [*self._shot_starts[1:], len(maps)]
        for start, end in zip(self._shot_starts, ends, strict=True):
            maps[start:end] = smoothed(maps[start:end])
        return maps


def median_over_time(maps: Tensor) -> Tensor:
    """[T, H, W, 3] → [1, H, W, 3]."""
    # Row by row: older torch refuses the quantile of more than 16 million values, 680 frames.
    rows = maps.float().split(1, dim=1)
    return torch.cat([row.quantile(0.5, dim=0, keepdim=True) for row in rows], dim=1)


def smoothed(maps: Tensor, spread: float = FRAME_SPREAD) -> Tensor:
    """[T, H, W, 3] averaged over time with Gaussian weights, whose standard deviation is `spread` frames."""
    count = len(maps)
    reach = round(SPREADS * spread)
    result = torch.empty_like(maps)
    for index in range(count):
        first, last = max(0, index - reach), min(count, index + reach + 1)
        distance = torch.arange(first, last, device=maps.device, dtype=maps.dtype) - index
        weights = torch.exp(-0.5 * (distance / spread) ** 2)
        result[index] = torch.einsum("t, t h w c -> h w c", weights / weights.sum(), maps[first:last])
    return result
