"""Detail transfer: put the change of light that the heads found onto the full-resolution source.

A VAE at a working size of 512 loses pores, hair and lettering, but the change of light that the heads make is
smooth almost everywhere. So only the change is taken from the network: the logarithm of flat over
reconstruction, both from the same VAE, so that its losses cancel. It is upsampled along the source's own edges
with a guided filter (He, Sun and Tang, "Guided Image Filtering", 2010; in its subsampled form, "Fast Guided
Filter", 2015) and multiplied onto the source in linear light.
"""

from __future__ import annotations

import math

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
    gain = light_change(reconstruction, flat)
    if seen is not None:
        size = tuple(flat.shape[-2:])
        gain = gain + _log_light(resize_area(seen, size)) - _log_light(resize_area(source, size))
    full_gain = follow_edges(gain.clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN), source, EDGE_VARIANCE)
    return (source + FLOOR) * full_gain.exp() - FLOOR


def light_change(reconstruction: Tensor, flat: Tensor) -> Tensor:
    """The natural logarithm of what turns one picture into the other in linear light, [B, 3, h, w] like both."""
    return _log_light(srgb_to_linear(flat)) - _log_light(srgb_to_linear(reconstruction))


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
    followed = follow_edges(matte, srgb_to_linear(source), MATTE_EDGE_VARIANCE)
    return ((followed - MATTE_MARGIN) / (1 - 2 * MATTE_MARGIN)).clamp(0, 1)


def follow_edges(values: Tensor, source_linear: Tensor, edge_variance: float) -> Tensor:
    """Enlarge [B, C, h, w] to the size of a source [B, 3, H, W], linear, along the edges of its log luminance that have
    more than `edge_variance`."""
    working_size, full_size = values.shape[-2:], source_linear.shape[-2:]
    guide = _log_luminance(source_linear)
    slope, offset = _guided_coefficients(resize_area(guide, working_size), values, edge_variance)
    # Only edges that the working size can see steer the values; what is finer is texture and stays untouched.
    full_guide = guide if full_size == working_size else _low_band(guide, working_size)
    return _enlarge(slope, full_size) * full_guide + _enlarge(offset, full_size)


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


def _low_band(guide: Tensor, working_size: tuple[int, int]) -> Tensor:
    return _enlarge(resize_area(guide, working_size), guide.shape[-2:])


def _enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False)


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
