"""Relighting: a flat-lit picture, its normals and an environment map → the picture in that light.

The flat-lit picture f is what a uniform white environment of radiance 1 makes of the subject: all the light that its
surface sends back, shadowed by itself. Under another light each pixel becomes

    (f - s) · E(n) / pi  +  s · G(r)

E is the irradiance at the normal n. G is the map as a rough surface reflects it around the mirrored view r: the GGX
lobe of the split-sum approximation (Karis, "Real Shading in Unreal Engine 4", SIGGRAPH 2013 course notes). s is what a
dielectric with F0 = 0.04 reflects of uniform light at this angle, and never more than the pixel has; it is taken out of
f, not added to it. So uniform white light gives back the flat-lit picture exactly, whatever the settings.

Not modelled: shadows that the subject casts on itself under the new light (only the flat-lit picture's soft occlusion
is there), light between its parts, and perspective: the view is along -Z in every pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor

from .coding import SRGB, Coding, from_rec709
from .color import linear_to_srgb, srgb_to_linear
from .errors import DelitError
from .images import check_images, check_mask, three_channels
from .lat_long import check_env_shape, resample_env, sample_env, solid_angles
from .normals import OPENGL, NormalConvention, decode_normals

TABLE_HEIGHT = 128
"""Rows of the tables of diffuse and glossy light, and of the map that they are summed from (1.4 degrees a pixel)."""

ROUGHNESS_RANGE = (0.15, 1.0)
"""Below, the lobe is narrower than a pixel of the tables, and sharper than the normals of a picture."""

F0 = 0.04
"""Reflectance of a dielectric seen straight on: skin, cloth, paint."""

_ANGLES = 64
_SAMPLES = 1024


@dataclass(frozen=True)
class RelightOptions:
    """How a picture is relit.

    Attributes:
        specular: strength of the glossy part: 1 is F0 = 0.04, 0 leaves it out.
        roughness: of the glossy part, as artists set it (its square is GGX's alpha), in ROUGHNESS_RANGE.
        coding: of the flat-lit picture and of the result.
        convention: of the normal map.
    """

    specular: float = 0.5
    roughness: float = 0.5
    coding: Coding = SRGB
    convention: NormalConvention = OPENGL


@dataclass(frozen=True)
class Relit:
    """Relit pictures.

    Attributes:
        picture: [B, H, W, 3], coded as the flat-lit one: sRGB clipped to [0, 1], linear without a bound. Four channels
            where that one has alpha.
        diffuse, glossy: [B, H, W, 3] in linear light, its two parts: they add up to the picture. Where nothing was
            relit the flat-lit picture is in `diffuse`.
    """

    picture: Tensor
    diffuse: Tensor
    glossy: Tensor


@dataclass(frozen=True)
class LightTables:
    """A map, summed up for every direction of a lat-long grid, [128, 256, 3] each; 1 under uniform white light.

    Attributes:
        diffuse: irradiance over pi at each normal. glossy: what a rough surface reflects in each mirrored direction;
            None where it is not asked for.
    """

    diffuse: Tensor
    glossy: Tensor | None


def relight(
    flat: Tensor,
    normals: Tensor,
    env: Tensor,
    mask: Tensor | None = None,
    options: RelightOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Relit:
    """Put flat-lit pictures into the light of environment maps.

    Args:
        flat: [B, H, W, C], coded as options.coding says. normals: [B, h, w, 3], a normal map (see normals.py).
        env: [B, h, 2h, 3], linear Rec.709, camera axes. mask: [B, h, w], 1 where the picture is to be relit. Of each
            there is one, or as many as of the others. Without the mask, and where the normal map says nothing, the
            picture stays as it is.
        progress: called with pictures done and pictures in all.

    Raises:
        DelitError: for a count, a shape, a value or an option that does not fit.
    """
    options = options or RelightOptions()
    check_options(options)
    alpha = flat[..., 3:]
    flat = check_images(flat) if options.coding == SRGB else three_channels(flat)
    check_env_maps(env)
    count = common_count(flat=flat, normals=normals, env=env, mask=mask)
    directions, known = decode_normals(normals, options.convention, tuple(flat.shape[1:3]))
    weight = known.to(flat.dtype)[..., None]
    if mask is not None:
        weight = weight * fitted_mask(mask, flat)
    parts, tables = [], None
    for index in range(count):
        progress(index, count)
        if tables is None or len(env) > 1:
            tables = light_tables(one_of(env, index), options)
        pixels = to_linear(one_of(flat, index), options.coding)
        parts.append(shade(pixels, one_of(directions, index), one_of(weight, index), tables, options))
    progress(count, count)
    diffuse, glossy = (torch.stack(part) for part in zip(*parts, strict=True))
    picture = to_coded(diffuse + glossy, options.coding)
    if alpha.shape[-1]:
        picture = torch.cat((picture, alpha.to(picture).expand(count, -1, -1, -1)), dim=-1)
    return Relit(picture, diffuse, glossy)


def shade(
    flat: Tensor, normals: Tensor, weight: Tensor, tables: LightTables, options: RelightOptions
) -> tuple[Tensor, Tensor]:
    """One picture's diffuse and glossy part, [H, W, 3] each, in linear light.

    flat, normals: [H, W, 3], linear light and unit normals; weight: [H, W, 1], how much of each pixel is relit.
    """
    diffuse = sample_env(tables.diffuse, normals)
    if tables.glossy is None:
        return weight * flat * diffuse + (1 - weight) * flat, torch.zeros_like(flat)
    cosine = normals[..., 2:].clamp(0, 1)
    reflected = 2 * normals[..., 2:] * normals - normals.new_tensor([0.0, 0.0, 1.0])
    share = options.specular * _specular_albedo(cosine, options.roughness)
    # A pixel cannot mirror more than it sends back: pupils and black hair in a fold.
    share = torch.minimum(share, flat.amin(-1, keepdim=True).clamp(min=0))
    glossy = weight * share * sample_env(tables.glossy, reflected)
    return weight * (flat - share) * diffuse + (1 - weight) * flat, glossy


def light_tables(env: Tensor, options: RelightOptions) -> LightTables:
    """Sum up one map [H, 2H, 3], linear Rec.709, in the primaries of the picture's coding."""
    light = resample_env(env[..., :3].float(), TABLE_HEIGHT, 2 * TABLE_HEIGHT)
    if options.coding != SRGB:
        light = from_rec709(light, options.coding).clamp(min=0)
    glossy = _convolve(light, _glossy_kernel(options.roughness)) if options.specular > 0 else None
    return LightTables(_convolve(light, _diffuse_kernel()), glossy)


def _convolve(light: Tensor, kernel: Tensor) -> Tensor:
    """A map [H, W, 3] with a kernel that depends on the angle between two directions alone: over longitude, which
    wraps, that is a product of Fourier series."""
    spectrum = torch.fft.rfft(light, dim=1)
    summed = torch.einsum("oif,ifc->ofc", kernel.to(light.device), spectrum)
    return torch.fft.irfft(summed, n=light.shape[1], dim=1).clamp(min=0)


@lru_cache(maxsize=1)
def _diffuse_kernel() -> Tensor:
    return _zonal_kernel(lambda cosine: cosine.clamp(min=0))


@lru_cache(maxsize=4)
def _glossy_kernel(roughness: float) -> Tensor:
    """The lobe of GGX's half vectors around the mirrored view, weighted by the cosine, seen straight on (Karis)."""
    alpha_squared = roughness**4

    def lobe(cosine: Tensor) -> Tensor:
        half_squared = (1 + cosine) / 2
        return cosine.clamp(min=0) / (half_squared * (alpha_squared - 1) + 1).square()

    return _zonal_kernel(lobe)


def _zonal_kernel(weight: Callable[[Tensor], Tensor]) -> Tensor:
    """Fourier series over longitude, [rows out, rows in, frequencies], of weights of the cosine between two directions.

    They are scaled so that uniform light of 1 gives 1 in every row, to the last digit.
    """
    height, width = TABLE_HEIGHT, 2 * TABLE_HEIGHT
    latitude = (0.5 - (torch.arange(height, dtype=torch.float64) + 0.5) / height) * math.pi
    apart = torch.arange(width, dtype=torch.float64) / width * (2 * math.pi)
    sine, cosine = torch.sin(latitude), torch.cos(latitude)
    between = (sine[:, None] * sine)[..., None] + (cosine[:, None] * cosine)[..., None] * torch.cos(apart)
    weights = weight(between.clamp(-1, 1)) * solid_angles(height, width)[:, :1].double()
    weights = weights / weights.sum((1, 2), keepdim=True)
    return torch.fft.rfft(weights, dim=2).to(torch.complex64)


def _specular_albedo(cosine: Tensor, roughness: float) -> Tensor:
    """Share of uniform light that a dielectric of F0 sends back without scattering it, by the cosine to the view."""
    table = _specular_table(roughness).to(cosine.device)
    place = cosine * (_ANGLES - 1)
    first = place.floor().long().clamp(max=_ANGLES - 2)
    fraction = place - first
    return table[first] * (1 - fraction) + table[first + 1] * fraction


@lru_cache(maxsize=8)
def _specular_table(roughness: float) -> Tensor:
    """[64] for cosines from 0 to 1: GGX with Smith's height-correlated shadowing and Schlick's Fresnel, summed over
    half vectors drawn from the lobe (Karis)."""
    alpha = roughness**2
    count = torch.arange(_SAMPLES, dtype=torch.float64)
    # A Fibonacci lattice: even in both dimensions.
    first, second = (count + 0.5) / _SAMPLES, (count * (math.sqrt(5) - 1) / 2) % 1
    cos_half = ((1 - first) / (1 + (alpha**2 - 1) * first)).sqrt()
    sin_half = (1 - cos_half.square()).clamp(min=0).sqrt()
    cos_view = torch.linspace(0, 1, _ANGLES, dtype=torch.float64).clamp(min=1e-3)[:, None]
    sin_view = (1 - cos_view.square()).clamp(min=0).sqrt()
    view_half = sin_view * sin_half * torch.cos(2 * math.pi * second) + cos_view * cos_half
    cos_light = 2 * view_half * cos_half - cos_view
    lit = (cos_light > 0) & (view_half > 0)
    cos_light, view_half = cos_light.clamp(min=1e-6), view_half.clamp(min=1e-6)
    towards_light = cos_view * (alpha**2 + (1 - alpha**2) * cos_light.square()).sqrt()
    towards_view = cos_light * (alpha**2 + (1 - alpha**2) * cos_view.square()).sqrt()
    shadowing = 2 * cos_light * cos_view / (towards_light + towards_view)
    fresnel = F0 + (1 - F0) * (1 - view_half.clamp(max=1)) ** 5
    reflected = torch.where(lit, fresnel * shadowing * view_half / (cos_half * cos_view), 0.0)
    return reflected.mean(1).clamp(0, 1).float()


def to_linear(coded: Tensor, coding: Coding) -> Tensor:
    """Pictures → linear light in the coding's own primaries."""
    return srgb_to_linear(coded) if coding == SRGB else coded


def to_coded(linear: Tensor, coding: Coding) -> Tensor:
    """Linear light in the coding's own primaries → pictures: sRGB clipped to [0, 1], the others as they are."""
    return linear_to_srgb(linear.clamp(0, 1)) if coding == SRGB else linear


def check_options(options: RelightOptions) -> None:
    """Raise DelitError for a strength or a roughness that no surface has."""
    low, high = ROUGHNESS_RANGE
    if not low <= options.roughness <= high:
        raise DelitError(f"A roughness of {options.roughness:g} is outside {low:g} to {high:g}.")
    if not 0 <= options.specular <= 1 / F0:
        raise DelitError(
            f"A specular strength of {options.specular:g} is outside 0 to {1 / F0:g}, where all light is mirrored."
        )


def check_env_maps(env: Tensor) -> None:
    """Raise DelitError unless `env` is [B, H, 2H, 3], finite and not negative."""
    check_env_shape(env, channels=(3, 4), batch_only=True)
    if not torch.isfinite(env).all() or (env < 0).any():
        raise DelitError(
            "The environment map holds values that are negative, NaN or infinite. Repair it first."
        )


def common_count(**batches: Tensor | None) -> int:
    """How many pictures there are where of each kind there is one, or as many as of the others.

    Raises DelitError where two counts differ and neither is 1.
    """
    counts = {name: _masks(x) if name == "mask" else len(x) for name, x in batches.items() if x is not None}
    several = {count for count in counts.values() if count != 1}
    if len(several) > 1 or 0 in several:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DelitError(
            f"The batches do not fit together ({told}). Of each there is to be one, or as many as of the others."
        )
    return max(counts.values())


def fitted_mask(mask: Tensor, images: Tensor) -> Tensor:
    """Masks [h, w] or [M, h, w] at the size of pictures [B, H, W, C] → [M, H, W, 1] in [0, 1]."""
    fitted = check_mask(mask, images[:1].expand(_masks(mask), -1, -1, -1))
    return rearrange(fitted, "m 1 h w -> m h w 1")


def one_of(batch: Tensor, index: int) -> Tensor:
    """The picture of this number, or the only one there is."""
    return batch[min(index, len(batch) - 1)]


def _masks(mask: Tensor) -> int:
    return 1 if mask.ndim == 2 else len(mask)
