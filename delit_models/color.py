"""sRGB coding, luminance, and the tone-mapped preview of an environment map."""

from __future__ import annotations

import torch
from torch import Tensor

REC709_LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Luminance weights of linear Rec.709 red, green and blue (ITU-R BT.709)."""

EXPOSURE_PERCENTILE = 0.90
"""The share of a map's pixels that the automatic exposure keeps below EXPOSURE_TARGET."""

EXPOSURE_TARGET = 0.5
"""Linear value (sRGB 0.73) that the percentile's luminance is brought to."""

KNEE = 0.6
"""Linear value up to which the tone curve is the identity; above it, highlights roll off towards 1."""

_MAX_PERCENTILE_SAMPLES = 1 << 20
_LARGEST_HALF = 65504.0


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """sRGB-coded values of any shape -> linear light (the piecewise curve of IEC 61966-2-1).

    [0, 1] maps to [0, 1]; values outside continue both pieces, so that the curve stays invertible.
    """
    return torch.where(
        srgb <= 0.04045,
        srgb / 12.92,
        # The clamp only keeps the power's gradient finite where the other piece is taken.
        ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4,
    )


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Linear light of any shape -> sRGB-coded values; the inverse of `srgb_to_linear`."""
    return torch.where(
        linear <= 0.0031308,
        linear * 12.92,
        1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055,
    )


def luminance(rgb: Tensor, dim: int = -1) -> Tensor:
    """Luminance of linear Rec.709 colours; the colour dimension `dim` (of size 3) is removed."""
    red, green, blue = rgb.unbind(dim)
    return REC709_LUMINANCE[0] * red + REC709_LUMINANCE[1] * green + REC709_LUMINANCE[2] * blue


def tone_map(env: Tensor, exposure: float | None = None) -> Tensor:
    """A displayable preview of linear light.

    `env` [..., H, W, 3], linear, >= 0 -> float32 of the same shape, sRGB-coded in [0, 1].
    `exposure` is a linear factor; None chooses one for each map on its own, from a percentile of its
    luminance, so that a small bright light does not turn the room black. Give a factor to compare maps
    or to show the frames of a clip without flicker (`auto_exposure` of one of them, for instance).

    Highlights above KNEE roll off smoothly towards 1 by one factor for the three channels, which keeps
    the hue of a coloured light that would otherwise clip to white or to another colour. It is a
    preview: non-finite and negative pixels are shown (white and black), not refused.
    """
    env = torch.nan_to_num(env.float(), nan=0.0, posinf=_LARGEST_HALF, neginf=0.0).clamp(min=0.0)
    if exposure is None:
        exposed = env * auto_exposure(env)[..., None, None, None]
    else:
        exposed = env * exposure
    peak = exposed.amax(dim=-1, keepdim=True)
    rolled = KNEE + (1 - KNEE) * (1 - torch.exp(-(peak.clamp(min=KNEE) - KNEE) / (1 - KNEE)))
    compressed = torch.where(peak <= KNEE, exposed, exposed * (rolled / peak.clamp(min=KNEE)))
    return linear_to_srgb(compressed).clamp(0.0, 1.0)


def auto_exposure(env: Tensor) -> Tensor:
    """The factor that brings the luminance percentile of each map [..., H, W, 3] to EXPOSURE_TARGET -> [...].

    Where nearly all of a map is black (one lamp in the dark) the percentile says nothing, and a
    thousandth of the brightest pixel takes its place. A wholly black map gets a factor of 1.
    """
    flat = luminance(env.float()).flatten(-2)
    peak = flat.amax(dim=-1)
    # Sorting every pixel of a 4k map takes seconds; an even subset gives the same percentile.
    flat = flat[..., :: max(1, flat.shape[-1] // _MAX_PERCENTILE_SAMPLES)]
    rank = max(1, round(EXPOSURE_PERCENTILE * flat.shape[-1]))
    percentile = flat.sort(dim=-1).values[..., rank - 1]
    reference = torch.where(percentile > peak * 1e-7, percentile, peak / 1000)
    # 1e-30: below it the factor itself would overflow.
    return torch.where(reference > 1e-30, EXPOSURE_TARGET / reference.clamp(min=1e-30), torch.ones_like(peak))
