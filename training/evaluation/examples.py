"""The pictures of the report: a row that shows a pair, what became of it, and both lights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from delit_models.color import auto_exposure, tone_map
from delit_models.lat_long import resample_env
from training.data.pairs import Pair
from training.data.tiles import to_height

from .measure import Results
from .spheres import SPHERES, render_spheres, sphere_picture

PICTURE_HEIGHT = 256
_HALF = PICTURE_HEIGHT // 2
_SPHERE_SCALE, _SPHERE_MARGIN = 7 / 4, 8


def example_picture(results: Results, pair: Pair) -> Tensor:
    """Relit, Delit's and the true flat-lit image; then Delit's light over the true one, each with its spheres.

    Returns:
        [256, W, 3], sRGB-coded in [0, 1].
    """
    truth = rearrange(pair.env, "c h w -> h w c")
    exposure = float(auto_exposure(truth))
    lights = torch.cat([light_strip(light, exposure) for light in (results.lights["env"], truth)])
    pictures = (results.pictures["input"], results.pictures["flat"], results.truth)
    row = [to_height(rearrange(x, "1 c h w -> h w c").cpu(), PICTURE_HEIGHT) for x in pictures]
    return torch.cat([*row, lights], dim=1)


def light_strip(env: Tensor, exposure: float) -> Tensor:
    """A map [H, 2H, 3] and its three spheres at one exposure; [128, 256 + 3 · 128, 3], sRGB-coded."""
    spheres = render_spheres(env)
    tiles = [_sphere_tile(spheres[name]) for name in SPHERES]
    strip = torch.cat([resample_env(env.cpu(), _HALF, 2 * _HALF), *tiles], dim=1)
    return tone_map(strip, exposure)


def _sphere_tile(pixels: Tensor) -> Tensor:
    """A sphere on black, as high as the map beside it, [128, 128, 3]."""
    picture = rearrange(sphere_picture(pixels), "h w c -> 1 c h w")
    enlarged = F.interpolate(picture, scale_factor=_SPHERE_SCALE, mode="bilinear")
    return rearrange(F.pad(enlarged, 4 * (_SPHERE_MARGIN,)), "1 c h w -> h w c")
