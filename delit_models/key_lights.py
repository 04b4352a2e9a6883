"""The dominant lights of an environment map: where they stand, how bright, which colour, how wide.

A light is a patch of the sphere that stands out of the ambient light. Patches are the basins of the map's local
maxima; two maxima are one light unless the radiance between them falls clearly below the lower one (clustering by
topological persistence, Chazal et al., "Persistence-Based Clustering in Riemannian Manifolds", 2013).

Axes are the camera's (see lat_long). Light is image-referred and linear Rec.709: under irradiance E a white diffuse
surface has the pixel value E / pi.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .color import luminance
from .errors import DelitError
from .lat_long import check_lat_long, direction_grid, resample_env, solid_angles, total_light

SEARCH_HEIGHT = 64
"""Rows of the map in which lights are searched (2.8 degrees a pixel); sizes and directions come from finer ones."""

MEASURE_HEIGHT = 512
"""Rows of the map in which a light found is measured, at the most."""

AMBIENT_QUANTILE = 0.25
EDGE = 0.1
"""Radiance above the ambient, as a share of the patch's peak, at which a light ends."""

SADDLE = 0.7
"""Two maxima are one light where the radiance on the best way between them stays above this share of the lower."""

FAINTEST = 1 / 16
"""Lights four stops under the strongest do not count."""

RIM = 0.25
"""What lies around a light and has less than this share of its irradiance is its soft edge, no light of its own."""

_PASSES = 3
_TINY = 1e-12


@dataclass(frozen=True)
class KeyLight:
    """One light. Tuples of three are linear Rec.709.

    Attributes:
        direction: unit vector (x, y, z) towards the light, in camera axes.
        irradiance: of a surface that faces the light, by this light alone, ambient not counted.
        radiance: what the light shows above the ambient, averaged over its disc.
        angular_diameter: degrees; that of the evenly bright disc whose light is as concentrated.
        share: of all light on a surface that faces it, how much is its own, in [0, 1].
        confidence: how clearly it stands out of the map, in [0, 1]: the contrast of its mean radiance with the ambient
            ((light - ambient) / (light + ambient)). It says nothing of whether the map is right.
    """

    direction: tuple[float, float, float]
    irradiance: tuple[float, float, float]
    radiance: tuple[float, float, float]
    angular_diameter: float
    share: float
    confidence: float

    @property
    def color(self) -> tuple[float, float, float]:
        """The irradiance's hue and saturation: its largest channel is 1."""
        largest = max(self.irradiance)
        return tuple(channel / largest for channel in self.irradiance)

    @property
    def strength(self) -> float:
        """Irradiance of the largest channel: irradiance = color x strength."""
        return max(self.irradiance)

    @property
    def azimuth(self) -> float:
        """Degrees around the vertical: 0 from the camera's side, 90 from its right, 180 from behind the subject."""
        return math.degrees(math.atan2(self.direction[0], self.direction[2]))

    @property
    def elevation(self) -> float:
        """Degrees above the horizon."""
        return math.degrees(math.asin(max(-1.0, min(1.0, self.direction[1]))))

    @property
    def stops(self) -> float:
        """Its light on a surface that faces it, in stops over that of an even white light of radiance 1 (pi)."""
        return math.log2(max(luminance(torch.tensor(self.irradiance)).item(), _TINY) / math.pi)


@dataclass(frozen=True)
class Lighting:
    """What an environment map consists of.

    Attributes:
        lights: the dominant lights, the strongest first; none in even light.
        ambient: mean radiance over the sphere of all that is no such light, linear Rec.709.
    """

    lights: tuple[KeyLight, ...]
    ambient: tuple[float, float, float]


@dataclass(frozen=True)
class _Patch:
    """A candidate on the search grid: its pixels [H, W] bool, where it may grow to, and its luminance above the ambient
    times solid angle."""

    pixels: Tensor
    room: Tensor
    energy: float


def find_key_lights(
    env: Tensor, max_lights: int = 4, min_share: float = 0.1, min_confidence: float = 0.33
) -> Lighting:
    """Find the lights that shape what an environment map lights.

    Args:
        env: one map [H, W, 3], linear, >= 0.
        max_lights: return this many at most, the strongest.
        min_share, min_confidence: what a light must have to count (see KeyLight).

    Raises:
        DelitError: for another shape, or values that are negative or not finite.
    """
    check_lat_long(env, batch=False)
    if env.shape[-1] != 3 or not torch.isfinite(env).all() or (env < 0).any():
        raise DelitError(
            f"Expected one environment map [H, W, 3], finite and not negative, got {list(env.shape)} with values "
            f"from {env.min().item():g} to {env.max().item():g}. Repair or clamp the map first."
        )
    env = env.float().cpu()
    small = resample_env(env, SEARCH_HEIGHT, 2 * SEARCH_HEIGHT)
    height = max(min(env.shape[0], MEASURE_HEIGHT) // SEARCH_HEIGHT, 1) * SEARCH_HEIGHT
    fine = small if height == SEARCH_HEIGHT else resample_env(env, height, 2 * height)
    ambient = _ambient(small)
    excess = (fine - ambient).clamp(min=0)
    lights: list[KeyLight] = []
    for patch in _patches(small, ambient):
        measured = _measure(fine, excess, _enlarge(patch, height), ambient)
        if measured is None:
            continue
        light, pixels = measured
        excess[_grow(pixels)] = 0.0
        if light.share < min_share or light.confidence < min_confidence:
            continue
        if any(_is_rim_of(light, other) for other in lights):
            continue
        lights.append(light)
    lights.sort(key=lambda light: -_brightness(light))
    lights = [
        light for light in lights[:max_lights] if _brightness(light) > FAINTEST * _brightness(lights[0])
    ]
    return Lighting(tuple(lights), _rest(fine, lights))


def _ambient(env: Tensor) -> Tensor:
    """[3]: what the darkest quarter of the sphere stays below, channel by channel."""
    weights = solid_angles(*env.shape[:2]).flatten()
    levels = []
    for channel in env.flatten(0, 1).unbind(-1):
        ordered, order = channel.sort()
        share = weights[order].double().cumsum(0) / weights.double().sum()
        levels.append(ordered[int((share < AMBIENT_QUANTILE).sum())])
    return torch.stack(levels)


def _patches(env: Tensor, ambient: Tensor) -> list[_Patch]:
    """Candidates, the most energetic first. What one pass has found is taken off the map before the next one, so that
    a hot bulb in front of a window does not hide the window."""
    excess = (luminance(env) - luminance(ambient)).clamp(min=0)
    areas = solid_angles(*env.shape[:2])
    # Below this a pixel could not make a light that counts: it is rounding.
    floor = max(1e-4 * luminance(ambient).item(), 1e-6 * excess.max().item(), _TINY)
    found = []
    for _ in range(_PASSES):
        if excess.max() <= floor:
            break
        basins = _basins(excess, floor)
        taken = torch.stack(basins).any(0)
        found += [_Patch(pixels, pixels | ~taken, (excess * areas)[pixels].sum().item()) for pixels in basins]
        # With the pixels that a light covers in part: what is left of a hot one would outshine a window.
        excess = torch.where(_grow(taken), 0.0, excess)
    return sorted(found, key=lambda patch: -patch.energy)


def _basins(excess: Tensor, floor: float) -> list[Tensor]:
    """The bright part of every local maximum's basin, [H, W] bool each.

    Pixels are taken from the brightest down; each joins its neighbours' basins. Where two meet, the lower one is
    merged into the higher if it hardly rises above the place where they meet.
    """
    height, width = excess.shape
    values = excess.flatten().tolist()
    neighbours = _neighbours(height, width)
    basin_of: dict[int, int] = {}
    merged_into: dict[int, int] = {}

    def root(peak: int) -> int:
        while peak in merged_into:
            peak = merged_into[peak]
        return peak

    for pixel in excess.flatten().argsort(descending=True, stable=True).tolist():
        value = values[pixel]
        if value <= floor:
            break
        around = {root(basin_of[other]) for other in neighbours[pixel] if other in basin_of}
        highest = max(around, key=lambda peak: values[peak], default=pixel)
        for peak in around - {highest}:
            if value > SADDLE * values[peak]:
                merged_into[peak] = highest
        basin_of[pixel] = highest
    labels = torch.full((height * width,), -1, dtype=torch.long)
    labels[list(basin_of)] = torch.tensor([root(peak) for peak in basin_of.values()], dtype=torch.long)
    labels = labels.view(height, width)
    peaks = {root(peak) for peak in basin_of.values()}
    return [(labels == peak) & (excess >= EDGE * values[peak]) for peak in peaks]


@lru_cache(maxsize=1)
def _neighbours(height: int, width: int) -> list[list[int]]:
    """The eight neighbours of every pixel of a lat-long map; a pole's row is next to itself across the pole."""
    lists = []
    for row in range(height):
        for column in range(width):
            near = []
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    y, x = row + down, column + right
                    if not 0 <= y < height:
                        y, x = row, x + width // 2
                    if (down, right) != (0, 0):
                        near.append(y * width + x % width)
            lists.append(near)
    return lists


def _enlarge(patch: _Patch, height: int) -> Tensor:
    """The patch's pixels on a finer grid, [height, 2 height] bool, grown by one pixel of the search grid where there is
    room: a small lamp lies across that grid's edges."""
    grown = _grow(patch.pixels) & patch.room
    scale = height // grown.shape[0]
    return grown.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


def _grow(pixels: Tensor) -> Tensor:
    """[H, W] bool, with the eight neighbours of every pixel; longitude wraps."""
    wrapped = F.pad(pixels.float()[None, None], (1, 1, 0, 0), mode="circular")
    return F.max_pool2d(F.pad(wrapped, (0, 0, 1, 1)), 3, stride=1)[0, 0] > 0


def _measure(env: Tensor, excess: Tensor, pixels: Tensor, ambient: Tensor) -> tuple[KeyLight, Tensor] | None:
    """The light of a patch, and the pixels [H, W] bool that it consists of; None where nothing is left of it.

    Args:
        env, excess: [H, W, 3], the map and what of it is above the ambient and no light's yet.
        pixels: [H, W] bool, where to look.
    """
    height, width = env.shape[:2]
    directions, areas = direction_grid(height, width).double(), solid_angles(height, width).double()
    level = luminance(excess)
    pixels = pixels & (level > 0)
    if not pixels.any():
        return None
    pixels = pixels & (level >= EDGE * level[pixels].max())
    energy = excess[pixels].double() * areas[pixels][:, None]
    weight = luminance(energy)
    mean = (directions[pixels] * weight[:, None]).sum(0) / weight.sum()
    direction = F.normalize(mean, dim=0)
    cosine = _half_angle_cosine(mean.norm(), areas[pixels].mean())
    irradiance = (energy * (directions[pixels] @ direction).clamp(min=0)[:, None]).sum(0)
    radiance = energy.sum(0) / (2 * math.pi * (1 - cosine))
    total = (luminance(env) * areas * (directions @ direction).clamp(min=0)).sum()
    contrast = luminance(radiance) / (luminance(radiance) + 2 * luminance(ambient).double())
    light = KeyLight(
        direction=tuple(direction.tolist()),
        irradiance=tuple(irradiance.tolist()),
        radiance=tuple(radiance.tolist()),
        angular_diameter=2 * math.degrees(math.acos(cosine.item())),
        share=min(1.0, (luminance(irradiance) / total).item()),
        confidence=contrast.item(),
    )
    return light, pixels


def _half_angle_cosine(mean_length: Tensor, pixel_area: Tensor) -> Tensor:
    """Of the evenly bright cap whose mean direction has this length: (1 + cos a) / 2 for the half angle a. One pixel is
    the least that can be told."""
    cosine = (2 * mean_length - 1).clamp(min=-1.0)
    return torch.minimum(cosine, 1 - pixel_area / (2 * math.pi))


def _is_rim_of(light: KeyLight, stronger: KeyLight) -> bool:
    """Whether a candidate is only the soft edge around a light that was found before it."""
    cosine = sum(a * b for a, b in zip(light.direction, stronger.direction, strict=True))
    angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    return angle < light.angular_diameter / 2 and _brightness(light) < RIM * _brightness(stronger)


def _brightness(light: KeyLight) -> float:
    return luminance(torch.tensor(light.irradiance)).item()


def _rest(env: Tensor, lights: list[KeyLight]) -> tuple[float, float, float]:
    """Mean radiance over the sphere less the lights' own."""
    mean = total_light(env).double()
    for light in lights:
        disc = 2 * math.pi * (1 - math.cos(math.radians(light.angular_diameter / 2)))
        mean = mean - torch.tensor(light.radiance, dtype=torch.float64) * disc
    return tuple((mean.clamp(min=0) / (4 * math.pi)).tolist())
