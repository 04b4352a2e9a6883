"""Pictures beside one another, for people to compare."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from delit_models.detail_transfer import resize_area


def to_height(picture: Tensor, height: int) -> Tensor:
    """A picture [H, W, C] in [0, 1] at another height, its proportions kept; [height, W', C]."""
    width = round(picture.shape[1] * height / picture.shape[0])
    resized = resize_area(rearrange(picture, "h w c -> 1 c h w"), (height, width))
    return rearrange(resized, "1 c h w -> h w c").clamp(0, 1)
