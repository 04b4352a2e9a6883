"""The layers that the heads are made of. Every one takes `operations`, the module that supplies `Conv2d`,
`Linear`, `GroupNorm` and `LayerNorm`: `torch.nn`, or ComfyUI's casting and offloading versions of them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

GROUPS = 8


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3×3 convolution, twice, added to the input (through a 1×1 when the width changes)."""

    def __init__(self, width_in: int, width_out: int, operations: Any) -> None:
        super().__init__()
        self.norm_in = operations.GroupNorm(GROUPS, width_in)
        self.conv_in = operations.Conv2d(width_in, width_out, 3, padding=1)
        self.norm_out = operations.GroupNorm(GROUPS, width_out)
        self.conv_out = operations.Conv2d(width_out, width_out, 3, padding=1)
        self.shortcut = nn.Identity() if width_in == width_out else operations.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        hidden = self.conv_out(F.silu(self.norm_out(hidden)))
        return self.shortcut(x) + hidden


class Attention(nn.Module):
    """Multi-head attention of tokens [B, N, width] to a context [B, M, context_width]."""

    def __init__(self, width: int, context_width: int, heads: int, operations: Any) -> None:
        super().__init__()
        self.heads = heads
        self.query = operations.Linear(width, width)
        self.key_value = operations.Linear(context_width, 2 * width)
        self.out = operations.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        query = rearrange(self.query(tokens), "b n (h d) -> b h n d", h=self.heads)
        key, value = rearrange(self.key_value(context), "b m (two h d) -> two b h m d", two=2, h=self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(rearrange(mixed, "b h n d -> b n (h d)"))


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, expansion: int, operations: Any) -> None:
        super().__init__()
        self.widen = operations.Linear(width, width * expansion)
        self.narrow = operations.Linear(width * expansion, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(F.gelu(self.widen(x)))


class GlobalBlock(nn.Module):
    """Self-attention over every position of a coarse feature map: light is a property of the whole image.

    Positions enter as Fourier features of where a cell lies in the image (0 to 1 across each side), so the
    block works at any size and aspect ratio.
    """

    def __init__(self, width: int, heads: int, operations: Any) -> None:
        super().__init__()
        self.place = operations.Linear(position_features(1, 1).shape[-1], width)
        self.norm_attention = operations.LayerNorm(width)
        self.attention = Attention(width, width, heads, operations)
        self.norm_feed = operations.LayerNorm(width)
        self.feed = FeedForward(width, 2, operations)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        tokens = rearrange(x, "b c h w -> b (h w) c")
        placed = self.norm_attention(tokens + self.place(position_features(height, width).to(tokens)))
        tokens = tokens + self.attention(placed, placed)
        tokens = tokens + self.feed(self.norm_feed(tokens))
        return rearrange(tokens, "b (h w) c -> b c h w", h=height)


class QueryBlock(nn.Module):
    """Tokens look at a context (cross-attention), then at one another, then think for themselves."""

    def __init__(self, width: int, context_width: int, heads: int, operations: Any) -> None:
        super().__init__()
        self.norm_cross = operations.LayerNorm(width)
        self.cross = Attention(width, context_width, heads, operations)
        self.norm_self = operations.LayerNorm(width)
        self.attend = Attention(width, width, heads, operations)
        self.norm_feed = operations.LayerNorm(width)
        self.feed = FeedForward(width, 3, operations)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        tokens = tokens + self.cross(self.norm_cross(tokens), context)
        normed = self.norm_self(tokens)
        tokens = tokens + self.attend(normed, normed)
        return tokens + self.feed(self.norm_feed(tokens))


def fourier_features(coordinates: Tensor, octaves: int) -> Tensor:
    """[..., D] in about [-1, 1] → [..., D · (1 + 2 · octaves)]: the coordinate, and its sines and cosines."""
    frequencies = math.pi * 2.0 ** torch.arange(octaves, device=coordinates.device, dtype=torch.float32)
    angles = rearrange(coordinates[..., None] * frequencies, "... d f -> ... (d f)")
    return torch.cat((coordinates, angles.sin(), angles.cos()), dim=-1)


def position_features(height: int, width: int) -> Tensor:
    """[height · width, 18]: Fourier features of cell centres, -1 to 1 across each side of the image."""
    rows = (torch.arange(height, dtype=torch.float32) + 0.5) / height * 2 - 1
    columns = (torch.arange(width, dtype=torch.float32) + 0.5) / width * 2 - 1
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    return fourier_features(rearrange(grid, "h w d -> (h w) d"), octaves=4)


def pad_around(x: Tensor) -> Tensor:
    """Pad a lat-long by one pixel: around the seam in longitude, by repetition at the poles."""
    return F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")


def double_around(x: Tensor) -> Tensor:
    """A lat-long at twice the size, bilinear, as smooth over the seam as elsewhere."""
    around = F.pad(x, (1, 1, 0, 0), mode="circular")
    doubled = F.interpolate(around, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[..., 2:-2]
