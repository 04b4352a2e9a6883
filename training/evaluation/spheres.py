"""Three spheres under a light: a mirror, a matte silver one and a diffuse one, as the published protocols use them.

The camera looks along -Z from far away (parallel rays), at a sphere in the light of an environment map and nothing
else. Shading is an exact sum over the map at 64 × 128 pixels: light finer than 2.8° is averaged first, which is also
about what a pixel in the middle of the mirror covers.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

import torch
from einops import rearrange
from torch import Tensor

from delit_models.lat_long import direction_grid, resample_env, sample_env, solid_angles

SPHERES = ("mirror", "matte", "diffuse")
SPHERE_SIZE = 64
"""Diameter of the spheres in pixels."""

BASE_COLOUR = 0.8
"""Albedo of the diffuse sphere, and reflectance of the matte silver one seen straight on."""

MATTE_ROUGHNESS = 0.3271
"""Roughness as artists set it; its square is the width of the GGX lobe, as in Blender."""

LEGACY_GAMMA = 2.4
LEGACY_MEDIAN = 0.5

_LIGHT_HEIGHT = 64
_TOWARDS_CAMERA = (0.0, 0.0, 1.0)
_ROWS_AT_ONCE = 256


def render_spheres(env: Tensor) -> MappingProxyType[str, Tensor]:
    """The three spheres in the light of a map [H, 2H, 3], linear: name → [N, 3], the pixels inside the disc."""
    env = env.float().cpu()
    light = resample_env(env, _LIGHT_HEIGHT, 2 * _LIGHT_HEIGHT)
    pixels = rearrange(light, "h w c -> (h w) c")
    return MappingProxyType(
        {
            "mirror": sample_env(light, _mirrored_directions()),
            "matte": _matte_weights() @ pixels,
            "diffuse": _diffuse_weights() @ pixels,
        }
    )


def legacy_light(env: Tensor) -> Tensor:
    """The map [H, 2H, 3] as the legacy protocol lights its spheres: E^(1/2.4), its non-zero median brought to 0.5.

    It is no physical light. It is here because the figures published since StyleLight were measured like this.
    """
    compressed = env.float().clamp(min=0) ** (1 / LEGACY_GAMMA)
    lit = compressed[compressed > 0]
    return compressed if lit.numel() == 0 else compressed * (LEGACY_MEDIAN / lit.median())


def sphere_picture(pixels: Tensor) -> Tensor:
    """Pixels inside the disc [N, 3] → a picture [64, 64, 3], black around the sphere."""
    inside, _ = _disc()
    picture = torch.zeros(SPHERE_SIZE, SPHERE_SIZE, 3)
    picture[inside] = pixels.float()
    return picture


@lru_cache(maxsize=1)
def _disc() -> tuple[Tensor, Tensor]:
    """Which pixels of the picture show the sphere, [64, 64], and the surface normals there, [N, 3]."""
    across = (torch.arange(SPHERE_SIZE) + 0.5) / SPHERE_SIZE * 2 - 1
    y, x = torch.meshgrid(-across, across, indexing="ij")
    inside = x.square() + y.square() < 1
    x, y = x[inside], y[inside]
    return inside, torch.stack((x, y, (1 - x.square() - y.square()).sqrt()), dim=-1)


def _mirrored_directions() -> Tensor:
    """Where the mirror's pixels look, [N, 3]: the camera's direction, mirrored at the normal."""
    _, normals = _disc()
    camera = torch.tensor(_TOWARDS_CAMERA)
    return 2 * (normals @ camera)[:, None] * normals - camera


def _light_directions() -> tuple[Tensor, Tensor]:
    """Directions [M, 3] and solid angles [M] of the light's pixels."""
    size = (_LIGHT_HEIGHT, 2 * _LIGHT_HEIGHT)
    return rearrange(direction_grid(*size), "h w d -> (h w) d"), rearrange(
        solid_angles(*size), "h w -> (h w)"
    )


@lru_cache(maxsize=1)
def _diffuse_weights() -> Tensor:
    """[N, M]: how much each pixel of light adds to each pixel of the diffuse sphere."""
    _, normals = _disc()
    directions, areas = _light_directions()
    return (normals @ directions.T).clamp(min=0) * areas * (BASE_COLOUR / torch.pi)


@lru_cache(maxsize=1)
def _matte_weights() -> Tensor:
    """[N, M], as `_diffuse_weights`, for the matte silver sphere. In pieces, as there are 26 million of them."""
    _, normals = _disc()
    directions, areas = _light_directions()
    return torch.cat([_metal(rows, directions) * areas for rows in normals.split(_ROWS_AT_ONCE)])


def _metal(normals: Tensor, directions: Tensor) -> Tensor:
    """Reflectance times cosine [n, m] of a rough metal for the camera: GGX with Smith's height-correlated shadowing
    and Schlick's Fresnel (normals [n, 3], light directions [m, 3])."""
    width = MATTE_ROUGHNESS**4  # The lobe's width squared.
    camera = torch.tensor(_TOWARDS_CAMERA)
    half = torch.nn.functional.normalize(directions + camera, dim=-1)
    cos_light = (normals @ directions.T).clamp(min=0)
    cos_camera = (normals @ camera).clamp(min=1e-4)[:, None]
    cos_half = (normals @ half.T).clamp(min=0)
    lobe = width / (torch.pi * (cos_half.square() * (width - 1) + 1).square())
    shadowing = 0.5 / (
        cos_light * (cos_camera.square() * (1 - width) + width).sqrt()
        + cos_camera * (cos_light.square() * (1 - width) + width).sqrt()
    )
    fresnel = BASE_COLOUR + (1 - BASE_COLOUR) * (1 - (half @ camera).clamp(0, 1)) ** 5
    return lobe * shadowing * fresnel * cos_light
