"""Detail transfer: put the change of light that the heads found onto the full-resolution source.

A VAE at a working size of 512 loses pores, hair and lettering, but the change of light that the heads make is
smooth almost everywhere. So only the change is taken from the network: the logarithm of flat over
reconstruction, both from the same VAE, so that its losses cancel. It is upsampled along the source's own edges
with a guided filter (He, Sun and Tang, "Guided Image Filtering", 2010; in its subsampled form, "Fast Guided
Filter", 2015) and multiplied onto the source in linear light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .color import linear_to_srgb, luminance, srgb_to_linear

# Added to linear values before a ratio is taken: the VAE's error on a black pixel must not become a huge gain.
FLOOR = 0.01
# The light on a pixel is changed by 32 times at most (5 stops), up or down.
MAX_LOG_GAIN = math.log(32.0)
# Guided filter: window radius in working-size pixels, and the variance of log luminance below which a window
# counts as texture and is left to the source, above which as an edge of light and shadow and is followed.
RADIUS = 3
EDGE_VARIANCE = 0.04
# A matte follows fainter edges, and is all or nothing within so much of either.
MATTE_EDGE_VARIANCE = 0.01
MATTE_MARGIN = 0.08
# Pictures at full size are worked on in strips of about so many pixels: 3 MB a buffer of three channels.
STRIP_PIXELS = 2**18

Rows = Callable[[slice], Tensor]
"""What gives some rows of a picture, [B, C, n, W]."""


def transfer_detail(source: Tensor, reconstruction: Tensor, flat: Tensor) -> Tensor:
    """Apply the change reconstruction → flat to the source at the source's own size.

    Args:
        source: [B, 3, H, W], sRGB-coded in [0, 1].
        reconstruction: the source through the VAE at the working size, [B, 3, h, w], sRGB-coded in [0, 1].
        flat: the flat-lit image through the same VAE, [B, 3, h, w], sRGB-coded in [0, 1].

    Returns:
        The flat-lit source, [B, 3, H, W], sRGB-coded in [0, 1]. Where flat equals reconstruction it is the source.
    """
    return linear_to_srgb(change_light(srgb_to_linear(source), reconstruction, flat).clamp(0, 1))


def change_light(source: Tensor, reconstruction: Tensor, flat: Tensor, seen: Tensor | None = None) -> Tensor:
    """`transfer_detail` in linear light, for plates too.

    Args:
        source: [B, 3, H, W], linear Rec.709, of any range.
        reconstruction, flat: as for `transfer_detail`.
        seen: [B, 3, H, W], linear: what the network saw, where that is not the source but a copy with its
            highlights rolled off. How much they were is taken off the source too, region by region, so that a
            highlight keeps its detail.

    Returns:
        The flat-lit source, [B, 3, H, W], linear, unbounded.
    """
    change = LightChange.measured(
        lambda rows: source[:, :, rows],
        tuple(source.shape[-2:]),
        reconstruction,
        flat,
        None if seen is None else lambda rows: seen[:, :, rows],
    )
    return torch.cat([change.put_on(source[:, :, rows], rows) for rows in strips(*source.shape[-2:])], dim=2)


def light_change(reconstruction: Tensor, flat: Tensor) -> Tensor:
    """The natural logarithm of what turns one picture into the other in linear light, [B, 3, h, w] like both."""
    return _log_light(srgb_to_linear(flat)) - _log_light(srgb_to_linear(reconstruction))


@dataclass(frozen=True)
class LightChange:
    """A change of light, ready to be put on its source strip by strip: at full size it is never held as a whole."""

    log_gain: EdgeFollower

    @classmethod
    def measured(
        cls,
        source: Rows,
        full_size: tuple[int, int],
        reconstruction: Tensor,
        flat: Tensor,
        seen: Rows | None = None,
    ) -> LightChange:
        """The change of light that the network made; see `change_light`, whose full-size pictures come here as
        functions of their rows."""
        size = tuple(flat.shape[-2:])
        gain = light_change(reconstruction, flat)
        if seen is not None:
            before, after = (_shrunk(picture, full_size, size) for picture in (source, seen))
            gain = gain + _log_light(after) - _log_light(before)
        gain = gain.clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN)
        return cls(EdgeFollower.along(source, full_size, gain, EDGE_VARIANCE))

    def put_on(self, source: Tensor, rows: slice) -> Tensor:
        """Those rows of the source, [B, 3, n, W] linear → the same flat-lit, unbounded."""
        return (source + FLOOR) * self.log_gain.of(rows, source).exp() - FLOOR


def with_light_change(reconstruction: Tensor, change: Tensor) -> Tensor:
    """The reverse of `light_change`: the flat-lit picture [B, 3, h, w], sRGB-coded, 0 or more."""
    linear = (srgb_to_linear(reconstruction) + FLOOR) * change.exp() - FLOOR
    return linear_to_srgb(linear.clamp(min=0))


def refine_matte(matte: Tensor, source: Tensor) -> Tensor:
    """Bring a matte to the source's size, along the source's edges.

    Args:
        matte: [B, 1, h, w] in [0, 1], at the working size. source: [B, 3, H, W], sRGB-coded in [0, 1].

    Returns:
        [B, 1, H, W] in [0, 1]; what is nearly 0 or 1 is so exactly.
    """
    size = tuple(source.shape[-2:])
    follower = EdgeFollower.along(
        lambda rows: srgb_to_linear(source[:, :, rows]), size, matte, MATTE_EDGE_VARIANCE
    )
    # The guide at full size is needed only where that is the working size.
    parts = (
        follower.of(rows, srgb_to_linear(source[:, :, rows]) if follower.same_size else None)
        for rows in strips(*size)
    )
    return torch.cat([((x - MATTE_MARGIN) / (1 - 2 * MATTE_MARGIN)).clamp(0, 1) for x in parts], dim=2)


@dataclass(frozen=True)
class EdgeFollower:
    """Values [B, C, h, w] that are enlarged to the size of a source along the edges of its log luminance, strip by
    strip."""

    slope: EnlargedRows
    offset: EnlargedRows
    low_guide: EnlargedRows
    same_size: bool

    @classmethod
    def along(
        cls, source: Rows, full_size: tuple[int, int], values: Tensor, edge_variance: float
    ) -> EdgeFollower:
        """Follow edges that have more than `edge_variance`; `source` gives rows [B, 3, n, W], linear."""
        working_size = tuple(values.shape[-2:])
        guide = _shrunk(lambda rows: _log_luminance(source(rows)), full_size, working_size)
        slope, offset = _guided_coefficients(guide, values, edge_variance)
        enlarged = (EnlargedRows.of(x, full_size) for x in (slope, offset, guide))
        return cls(*enlarged, same_size=working_size == tuple(full_size))

    def of(self, rows: slice, source: Tensor | None) -> Tensor:
        """The values for those rows, [B, C, n, W]. `source`: the same rows of it, [B, 3, n, W] linear, which only a
        follower of the same size looks at."""
        # Only edges that the working size can see steer the values; what is finer is texture and stays untouched.
        guide = _log_luminance(source) if self.same_size else self.low_guide.rows(rows)
        return self.slope.rows(rows) * guide + self.offset.rows(rows)


@dataclass(frozen=True)
class EnlargedRows:
    """An image [B, C, h, w] at another size (bicubic, as F.interpolate has it), of which some rows are asked for."""

    wide: Tensor
    height: int

    @classmethod
    def of(cls, image: Tensor, size: tuple[int, int]) -> EnlargedRows:
        height, width = size
        same = image.shape[-1] == width
        wide = (
            image
            if same
            else F.interpolate(image, (image.shape[-2], width), mode="bicubic", align_corners=False)
        )
        return cls(wide, height)

    def rows(self, rows: slice) -> Tensor:
        """[B, C, n, W]."""
        old = self.wide.shape[-2]
        if old == self.height:
            return self.wide[:, :, rows]
        places = (torch.arange(rows.start, rows.stop, device=self.wide.device) + 0.5) * (
            old / self.height
        ) - 0.5
        first = places.floor()
        taps = first[:, None].long() + torch.arange(-1, 3, device=places.device)
        weights = _cubic_weights(places - first)
        taps = taps.clamp(0, old - 1)
        low, high = int(taps.min()), int(taps.max()) + 1
        matrix = torch.zeros(len(places), high - low, device=places.device)
        matrix.scatter_add_(1, taps - low, weights)
        return matrix.to(self.wide) @ self.wide[:, :, low:high]


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows of a picture in parts of about STRIP_PIXELS: what is worked out a strip at a time takes little memory,
    however large the picture is."""
    step = max(1, STRIP_PIXELS // width)
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


def _cubic_weights(offset: Tensor) -> Tensor:
    """[n] in [0, 1) → [n, 4]: weights of the four pixels around (Keys 1981, with torch's a = −0.75)."""
    a = -0.75
    distance = (offset[:, None] - torch.arange(-1, 3, device=offset.device)).abs()
    near = ((a + 2) * distance - (a + 3)) * distance.square() + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, far)


def _shrunk(picture: Rows, full_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A full-size picture, given as a function of its rows, at another size; [B, C, *size]."""
    whole: Tensor | None = None
    for rows in strips(*full_size):
        part = picture(rows)
        if whole is None:
            whole = part.new_empty(*part.shape[:2], *full_size)
        whole[:, :, rows] = part
    return resize_area(whole, size)


def resize_area(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, C, H, W] → [B, C, *size] without aliasing (bilinear with its footprint widened when shrinking)."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)


def _log_light(linear: Tensor) -> Tensor:
    # Colours outside of Rec.709 have negative values in it.
    return (linear.clamp(min=0) + FLOOR).log()


def _log_luminance(linear: Tensor) -> Tensor:
    return _log_light(luminance(linear, dim=1).unsqueeze(1))


def _guided_coefficients(guide: Tensor, target: Tensor, edge_variance: float) -> tuple[Tensor, Tensor]:
    """Per window, the line slope · guide + offset that fits the target best; averaged over windows."""
    mean_guide, mean_target = _box(guide), _box(target)
    covariance = _box(guide * target) - mean_guide * mean_target
    variance = _box(guide * guide) - mean_guide * mean_guide
    slope = covariance / (variance + edge_variance)
    return _box(slope), _box(mean_target - slope * mean_guide)


def _box(image: Tensor) -> Tensor:
    """Mean over (2 · RADIUS + 1)² pixels, with the border repeated."""
    padded = F.pad(image, [RADIUS] * 4, mode="replicate")
    window = 2 * RADIUS + 1
    rows = F.avg_pool2d(padded, (window, 1), stride=1)
    return F.avg_pool2d(rows, (1, window), stride=1)
