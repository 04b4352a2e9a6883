"""How pictures are coded: display pictures between 0 and 1, and scene-linear plates without an upper bound.

The network knows display pictures only. Of a plate it sees a copy that is exposed, rolled off in the highlights
and sRGB-coded; what it changes is then put on the plate itself, in linear light, without a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor

from .color import linear_to_srgb, luminance, srgb_to_linear
from .errors import DelitError
from .images import check_images, three_channels

Coding = Literal["sRGB", "linear Rec.709", "ACEScg"]
SRGB: Coding = "sRGB"

# CIE xy of red, green, blue and white. ITU-R BT.709; ACEScg (S-2014-004): AP1 with the ACES white.
_REC709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290))
_ACESCG = ((0.713, 0.293), (0.165, 0.830), (0.128, 0.044), (0.32168, 0.33767))
CHROMATICITIES: dict[str, tuple[float, ...]] = {
    "linear Rec.709": tuple(value for point in _REC709 for value in point),
    "ACEScg": tuple(value for point in _ACESCG for value in point),
}
"""OpenEXR's `chromaticities` of the linear codings: CIE xy of red, green, blue and white."""

# Cone responses of the Bradford transform, the usual chromatic adaptation between two whites (ICC.1:2010, E.3).
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))

BRIGHT_SHARE = 0.95
"""The share of a plate's pixels that count as not its highlights."""

BRIGHT_RANGE = (0.25, 1.0)
"""Where the luminance of a plate's brightest pixels, highlights apart, lies in a picture that is well exposed."""

KNEE = 0.8
"""Linear value up to which a plate's display copy is the plate; above it, highlights roll off towards 1."""

METERED_FRAMES = 8
"""Of how many of a clip's frames its one exposure is found."""

MOST_STOPS = 64.0
"""The farthest that a plate's exposure may be asked for, either way."""

_MAX_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Pictures to be delit, in the forms that their parts need.

    Attributes:
        coded: [B, H, W, 3], as they were given.
        display: [B, H, W, 3] in [0, 1], sRGB-coded: what the network sees.
        coding: how `coded` is to be read.
        exposure: [B], the factor on a plate's linear light that makes `display` of it; 1 for sRGB.
    """

    coded: Tensor
    display: Tensor
    coding: Coding
    exposure: Tensor

    @property
    def is_plate(self) -> bool:
        return self.coding != SRGB

    def only(self, index: int) -> Source:
        """One of the pictures."""
        one = slice(index, index + 1)
        return Source(self.coded[one], self.display[one], self.coding, self.exposure[one])

    def rows(self, rows: slice) -> Source:
        """A strip of all of them."""
        return Source(self.coded[:, rows], self.display[:, rows], self.coding, self.exposure)

    def linear(self) -> Tensor:
        """[B, H, W, 3] in linear light and the coding's own primaries, exposed as `display` is; of a plate
        without bounds."""
        return (
            self.coded * _factor(self.exposure).to(self.coded)
            if self.is_plate
            else srgb_to_linear(self.coded)
        )


def open_source(
    images: Tensor,
    coding: Coding = SRGB,
    stops: float = 0.0,
    *,
    together: bool = False,
    metered: Tensor | None = None,
) -> Source:
    """Check pictures and make the display copy of plates.

    Args:
        images: [B, H, W, C], C = 1, 3 or 4 (alpha is dropped); sRGB-coded in [0, 1], or linear without bounds.
        coding: which of the two, and in which primaries.
        stops: how much brighter than it chooses itself the network is to see a plate.
        together: one exposure for all of them, so that the frames of a shot do not flicker.
        metered: [B] or [1], the factors that it chooses, where that was done before.

    Raises:
        DelitError: for another coding, and for pictures that images.check_images refuses.
    """
    if coding not in get_args(Coding):
        raise DelitError(
            f"“{coding}” is no coding that Delit knows; choose from {', '.join(get_args(Coding))}."
        )
    if not abs(stops) <= MOST_STOPS:
        raise DelitError(
            f"exposure is {stops} stops; give a number between -{MOST_STOPS:g} and {MOST_STOPS:g}."
        )
    if metered is not None and not (torch.isfinite(metered) & (metered > 0)).all():
        raise DelitError(f"Plates are exposed by a factor over 0, but {metered.tolist()} was given.")
    if coding == SRGB:
        rgb = check_images(images)
        return Source(rgb, rgb, coding, torch.ones(len(rgb)))
    rgb = three_channels(images)
    linear = to_rec709(rgb, coding)
    if metered is None:
        parts = [linear] if together else linear.split(1)
        metered = torch.tensor([plate_exposure(part) for part in parts])
    exposure = metered[torch.arange(len(rgb)).clamp(max=len(metered) - 1)] * 2.0**stops
    display = linear_to_srgb(roll_off((linear * _factor(exposure).to(linear)).clamp(min=0)))
    return Source(rgb, display, coding, exposure)


def plate_exposure(linear: Tensor) -> float:
    """The factor that makes plates [B, H, W, 3], linear Rec.709, well exposed; 1 for those that are."""
    values = luminance(linear).flatten()
    values = values[:: max(1, values.numel() // _MAX_SAMPLES)].sort().values
    bright = values[round(BRIGHT_SHARE * (len(values) - 1))].item()
    if bright <= 0:
        return 1.0
    low, high = BRIGHT_RANGE
    return min(max(bright, low), high) / bright


def meter_clip(frames: Tensor, coding: Coding) -> float:
    """`plate_exposure` of a whole clip [T, H, W, C] of plates, by at most METERED_FRAMES of its frames."""
    stride = -(-len(frames) // METERED_FRAMES)
    return plate_exposure(to_rec709(three_channels(frames[::stride]), coding))


def _factor(exposure: Tensor) -> Tensor:
    return rearrange(exposure, "b -> b 1 1 1")


def roll_off(linear: Tensor) -> Tensor:
    """Linear light [..., 3], 0 or more → [0, 1]: the same up to KNEE, above it smoothly towards 1, hue kept."""
    peak = linear.amax(dim=-1, keepdim=True).clamp(min=KNEE)
    rolled = KNEE + (1 - KNEE) * (1 - torch.exp(-(peak - KNEE) / (1 - KNEE)))
    return (linear * (rolled / peak)).clamp(0, 1)


def to_rec709(linear: Tensor, coding: Coding) -> Tensor:
    """Linear light [..., 3] in a coding's primaries → linear Rec.709; colours outside of it get negative values."""
    return _convert(linear, _rec709_from(coding))


def from_rec709(linear: Tensor, coding: Coding) -> Tensor:
    """The reverse of `to_rec709`."""
    return _convert(linear, _rec709_from(coding).inverse())


def _convert(colors: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("...c, d c -> ...d", colors, matrix.to(colors))


@lru_cache
def _rec709_from(coding: Coding) -> Tensor:
    """[3, 3] in float64: a coding's linear colours → linear Rec.709, its white to D65 (Bradford)."""
    if coding != "ACEScg":
        return torch.eye(3, dtype=torch.float64)
    cones = torch.tensor(_BRADFORD, dtype=torch.float64)
    here, there = cones @ _white_xyz(_ACESCG), cones @ _white_xyz(_REC709)
    adapt = cones.inverse() @ torch.diag(there / here) @ cones
    return _xyz_from(_REC709).inverse() @ adapt @ _xyz_from(_ACESCG)


def _xyz_from(primaries: tuple[tuple[float, float], ...]) -> Tensor:
    """[3, 3]: linear RGB of these primaries → CIE XYZ (SMPTE RP 177)."""
    columns = torch.tensor([(x, y, 1 - x - y) for x, y in primaries[:3]], dtype=torch.float64).T
    return columns * torch.linalg.solve(columns, _white_xyz(primaries))


def _white_xyz(primaries: tuple[tuple[float, float], ...]) -> Tensor:
    x, y = primaries[3]
    return torch.tensor((x / y, 1.0, (1 - x - y) / y), dtype=torch.float64)
