"""A long clip in windows that a VAE which is causal in time can take one at a time.

A causal VAE sees a window's first frames as it sees a clip's, without a past. So windows overlap, and what lies in the
overlap is taken from the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

# New frames a window, and frames before them that only give them a past; multiples of a latent frame's 4.
NEW_FRAMES = 24
WARM_UP = 8
FRAMES_PER_LATENT = 4

Frame = TypeVar("Frame")


def clip_windows(frames: Iterable[Frame]) -> Iterator[tuple[list[Frame], int]]:
    """Windows of at most 1 + WARM_UP + NEW_FRAMES frames, and how many of a window's first ones are known already.

    Every window begins with the last frame of a latent frame of the whole clip, so that the same frames share one.
    """
    window: list[Frame] = []
    known = 0
    for frame in frames:
        if len(window) == 1 + WARM_UP + NEW_FRAMES:
            yield window, known
            window = window[NEW_FRAMES:]
            known = 1 + WARM_UP
        window.append(frame)
    if window:
        yield window, known


def latent_of_frame(index: int) -> int:
    """Which latent frame holds frame `index` of a window."""
    return (index + FRAMES_PER_LATENT - 1) // FRAMES_PER_LATENT
