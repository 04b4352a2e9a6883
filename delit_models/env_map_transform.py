"""Turning, grading and resizing environment maps without losing light.

Maps are [..., H, 2H, 3], linear Rec.709, in camera axes (see lat_long) unless an orientation preset says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor

from .color import luminance
from .errors import DelitError
from .lat_long import (
    check_env_shape,
    from_orientation,
    resample_env,
    rotate_env,
    to_orientation,
    total_light,
)

NEUTRAL_KELVIN = 6504.0
"""Colour temperature of white: that of D65, the white of Rec.709."""

KELVIN_RANGE = (1700.0, 25000.0)
"""Where the formula of the Planckian locus holds."""

MOST_DEGREES, MOST_STOPS, MOST_ROWS = 36_000.0, 64.0, 16_384

# CIE XYZ (D65) to linear Rec.709, and XYZ to the Bradford cone response (Lam 1985).
_XYZ_TO_REC709 = (
    (3.2409699, -1.5373832, -0.4986108),
    (-0.9692436, 1.8759675, 0.0415551),
    (0.0556301, -0.2039770, 1.0569715),
)
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
# Bilinear sampling of a turned map blurs by up to a pixel: of one that is this much finer, by half of one.
_OVERSAMPLING = 2


@dataclass(frozen=True)
class EnvMapTransform:
    """What is done to a map, in this order.

    Attributes:
        source: orientation preset that the map comes in (lat_long.ORIENTATIONS).
        flip: mirror left and right.
        roll, pitch, yaw: degrees, in this order: clockwise as the camera sees it; up for what is ahead; to the camera's
            right for what is ahead.
        exposure: stops.
        temperature: kelvins; light of this colour becomes white. 6504 changes nothing.
        tint: stops by which green is taken back, keeping the luminance of white; negative adds green.
        height: rows of the result, 0 for as many as there are.
        target: orientation preset of the result.
    """

    source: str = "delit"
    flip: bool = False
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    exposure: float = 0.0
    temperature: float = NEUTRAL_KELVIN
    tint: float = 0.0
    height: int = 0
    target: str = "delit"


def transform_env_map(env: Tensor, transform: EnvMapTransform) -> Tensor:
    """Apply a transform to maps [..., H, 2H, 3] -> [..., height, 2 height, 3] float32, never negative.

    Raises DelitError for another shape, light that is negative or not finite, an unknown preset, or a number out of its
    range.
    """
    _check_numbers(transform)
    check_env_shape(env)
    env = from_orientation(env.float(), transform.source)
    if transform.flip:
        env = env.flip(-2)
    env = turn_env(env, transform.yaw, transform.pitch, transform.roll)
    if transform.temperature != NEUTRAL_KELVIN or transform.tint != 0:
        env = (env @ white_balance(transform.temperature, transform.tint).to(env).T).clamp(min=0)
    env = env * 2.0**transform.exposure
    if transform.height:
        env = resample_env(env, transform.height, 2 * transform.height)
    return to_orientation(env, transform.target)


def _check_numbers(transform: EnvMapTransform) -> None:
    limits = {
        "yaw": MOST_DEGREES,
        "pitch": MOST_DEGREES,
        "roll": MOST_DEGREES,
        "exposure": MOST_STOPS,
        "tint": MOST_STOPS,
    }
    for name, most in limits.items():
        value = getattr(transform, name)
        # Said this way round, NaN is refused too.
        if not abs(value) <= most:
            raise DelitError(f"{name} is {value}; give a number between -{most:g} and {most:g}.")
    if not 0 <= transform.height <= MOST_ROWS:
        raise DelitError(f"height is {transform.height}; give 0 (as it is) to {MOST_ROWS} rows.")


def turn_env(env: Tensor, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Tensor:
    """Turn the light of maps [..., H, W, C] by angles in degrees (see EnvMapTransform) -> the same shape, with as much
    light as before.

    About the vertical alone, and by whole pixels, it is exact: columns are moved. Otherwise the map is resampled.
    """
    width = env.shape[-2]
    columns = yaw / 360 * width
    if pitch % 360 == 0 and roll % 360 == 0 and abs(columns - round(columns)) < 1e-6:
        return torch.roll(env, round(columns), dims=-2)
    rotation = rotation_matrix(yaw, pitch, roll)
    turned = torch.stack([_turned(single, rotation) for single in env.reshape(-1, *env.shape[-3:])])
    return turned.reshape(env.shape)


def rotation_matrix(yaw: float, pitch: float, roll: float) -> Tensor:
    """[3, 3] for column vectors in camera axes: roll first, then pitch, then yaw, in degrees."""
    (cy, sy), (cp, sp), (cr, sr) = (
        (math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in (yaw, pitch, roll)
    )
    about_y = torch.tensor([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = torch.tensor([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = torch.tensor([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def white_balance(temperature: float, tint: float = 0.0) -> Tensor:
    """[3, 3] for linear Rec.709 column vectors: light of this colour temperature becomes white (Bradford adaptation
    between two points of the Planckian locus), with green changed by -tint stops. White keeps its luminance where it is
    tinted."""
    bradford = torch.tensor(_BRADFORD, dtype=torch.float64)
    to_rgb = torch.tensor(_XYZ_TO_REC709, dtype=torch.float64)
    source, target = (bradford @ _planckian_xyz(kelvin) for kelvin in (temperature, NEUTRAL_KELVIN))
    adapted = torch.linalg.inv(bradford) @ torch.diag(target / source) @ bradford
    gains = torch.tensor([1.0, 2.0**-tint, 1.0], dtype=torch.float64)
    return torch.diag(gains / luminance(gains)) @ to_rgb @ adapted @ torch.linalg.inv(to_rgb)


@lru_cache(maxsize=16)
def _planckian_xyz(kelvin: float) -> Tensor:
    """XYZ [3] with Y = 1 of a black body (cubic splines of the Planckian locus, Kim et al., US patent 7024034)."""
    if not KELVIN_RANGE[0] <= kelvin <= KELVIN_RANGE[1]:
        raise DelitError(
            f"A colour temperature of {kelvin:g} K is outside {KELVIN_RANGE[0]:g} to {KELVIN_RANGE[1]:g} K."
        )
    t = 1000 / kelvin
    if kelvin < 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin < 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin < 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return torch.tensor([x / y, 1.0, (1 - x - y) / y], dtype=torch.float64)


def _turned(env: Tensor, rotation: Tensor) -> Tensor:
    """One map [H, W, C], resampled; its light is kept, channel by channel."""
    height, width = env.shape[:2]
    fine = rotate_env(resample_env(env, _OVERSAMPLING * height, _OVERSAMPLING * width), rotation)
    turned = resample_env(fine, height, width)
    before, after = total_light(env), total_light(turned)
    factor = torch.where(after > 0, before / after.clamp(min=1e-30), 1.0)
    return turned * rearrange(factor, "c -> 1 1 c")
