"""Getting pictures ready for the VAE, and back: checks, channels, size, padding, masks.

Pictures are [B, H, W, C], sRGB-coded in [0, 1], as in ComfyUI. The VAE takes [B, 3, h, w] in [-1, 1] with sides
that are multiples of 8. Nothing is ever cropped or squashed.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from .detail_transfer import resize_area
from .errors import DelitError

logger = logging.getLogger(__name__)

MIN_SIDE = 64
VAE_STRIDE = 8
# Resampling in other nodes rings a little past [0, 1]; more than this is a picture in other units.
RANGE_TOLERANCE = 0.02

Area = Literal["subject", "picture"]
Outside = Literal["source", "black", "transparent"]


@dataclass(frozen=True)
class Framing:
    """How a picture was fitted to the VAE: everything needed to undo it. Sizes are (height, width) in pixels."""

    source_size: tuple[int, int]
    working_size: tuple[int, int]

    @property
    def padded_size(self) -> tuple[int, int]:
        height, width = self.working_size
        return _round_up(height), _round_up(width)

    @classmethod
    def of(cls, source_size: tuple[int, int], longest_side: int | None) -> Framing:
        """Fit a picture into `longest_side` pixels (None: its own size), with no side under 64.

        Small pictures are not enlarged.
        """
        if longest_side is None:
            return cls(source_size, source_size)
        scale = min(1.0, max(longest_side / max(source_size), MIN_SIDE / min(source_size)))
        height, width = (round(side * scale) for side in source_size)
        return cls(source_size, (height, width))

    def fit(self, rgb: Tensor) -> Tensor:
        """[B, H, W, 3] in [0, 1] → [B, 3, h, w] in [-1, 1]: resized to the working size, padded by reflection."""
        x = resize_area(rearrange(rgb, "b h w c -> b c h w"), self.working_size)
        (height, width), (padded_height, padded_width) = self.working_size, self.padded_size
        x = F.pad(x, (0, padded_width - width, 0, padded_height - height), mode="reflect")
        return x.clamp(0, 1) * 2 - 1

    def cut(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] in [-1, 1], as the VAE decodes it → [B, 3, h', w'] in [0, 1], the padding cut off."""
        return (self.crop(x).float().clamp(-1, 1) + 1) / 2

    def crop(self, x: Tensor) -> Tensor:
        """[B, C, h, w] of the padded size → [B, C, h', w'] of the working size."""
        height, width = self.working_size
        return x[..., :height, :width]


def check_images(images: Tensor) -> Tensor:
    """Check a batch of pictures and make it RGB.

    Args:
        images: [B, H, W, C] float, C = 3, or 1 (grey, widened), or 4 (alpha, dropped with a note in the log).

    Returns:
        [B, H, W, 3] float32 in [0, 1].

    Raises:
        DelitError: if the batch is empty, a side is under 64 pixels, a pixel is not finite or lies outside [0, 1].
    """
    rgb, low, high = _with_extremes(images)
    _check_range(low, high)
    # Mostly nothing is outside: of an 8K still the copy would be 400 MB.
    return rgb if low >= 0 and high <= 1 else rgb.clamp(0, 1)


def three_channels(images: Tensor) -> Tensor:
    """Check a batch of pictures or plates [B, H, W, 1 | 3 | 4] but for its range → [B, H, W, 3] float32.

    Raises:
        DelitError: if the batch is empty, a side is under 64 pixels or a pixel is not finite.
    """
    return _with_extremes(images)[0]


def _with_extremes(images: Tensor) -> tuple[Tensor, float, float]:
    """What `three_channels` gives, with its least and its greatest value."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise DelitError(
            f"The image has shape {tuple(images.shape)}; expected [batch, height, width, channels] with 1, 3 or 4 "
            "channels."
        )
    batch, height, width, channels = images.shape
    if batch == 0:
        raise DelitError("The image batch is empty; connect at least one image.")
    if min(height, width) < MIN_SIDE:
        raise DelitError(
            f"The image is {width}×{height} pixels; Delit needs at least {MIN_SIDE} on each side. Enlarge it first, "
            "or take a larger crop."
        )
    images = images.float()
    if channels == 4:
        logger.info("Delit drops the image's alpha channel; connect it as a mask to keep it.")
        images = images[..., :3]
    low, high = images.min().item(), images.max().item()
    # They are NaN where anything is, and found in an eighth of the time of looking at every value.
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _not_finite(images)
    return repeat(images, "b h w 1 -> b h w c", c=3) if channels == 1 else images, low, high


def _not_finite(images: Tensor) -> DelitError:
    finite = torch.isfinite(images)
    place = tuple((~finite).nonzero()[0].tolist())
    return DelitError(
        f"The image holds {int((~finite).sum())} values that are NaN or infinite, the first in picture "
        f"{place[0]} at row {place[1]}, column {place[2]}. Find the node before this one that makes them."
    )


def _check_range(low: float, high: float) -> None:
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        eight_bit = " If these are 8-bit codes, divide them by 255." if low >= 0 and 100 < high <= 255 else ""
        raise DelitError(
            f"The image's values run from {low:.3g} to {high:.3g}, but sRGB-coded pictures lie in [0, 1]. Of an HDR or "
            f"linear plate say so: set coding to “linear Rec.709” or “ACEScg”.{eight_bit}"
        )


def check_mask(mask: Tensor, images: Tensor) -> Tensor:
    """Fit a mask to pictures [B, H, W, C].

    Args:
        mask: [B, h, w] or [h, w] in [0, 1], 1 where the subject is. One mask serves a whole batch; another size is
            resized.

    Returns:
        [B, 1, H, W] in [0, 1].

    Raises:
        DelitError: if its batch is neither 1 nor the pictures', or a value is not finite.
    """
    batch = images.shape[0]
    mask = check_mask_shape(mask, batch)
    if not torch.isfinite(mask).all():
        raise DelitError(
            "The mask holds values that are NaN or infinite. Find the node before this one that makes them."
        )
    fitted = resize_area(mask[:, None].float(), tuple(images.shape[1:3]))
    return fitted.clamp(0, 1).expand(batch, -1, -1, -1)


def check_mask_shape(mask: Tensor, batch: int) -> Tensor:
    """A mask [h, w] or [B, h, w] for a batch of pictures → [1 | batch, h, w].

    Raises:
        DelitError: if its batch is neither 1 nor the pictures'.
    """
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3:
        raise DelitError(f"The mask has shape {tuple(mask.shape)}; give masks as [batch, height, width].")
    if mask.shape[0] not in (1, batch):
        raise DelitError(f"There are {batch} images but {mask.shape[0]} masks; give one, or one for each.")
    return mask


def refuse_empty_mask(mask: Tensor | None) -> None:
    """Raise DelitError for a mask that is 0 everywhere, in all of its batch: nothing would be delit."""
    if mask is not None and mask.numel() and not (mask != 0).any():
        raise DelitError(
            "The mask is empty (black everywhere), so nothing would be delit. Core's Load Image gives such a mask of a "
            "picture without transparency. Connect a mask that is white on the subject, or none."
        )


def apply_mask(flat: Tensor, source: Tensor, mask: Tensor | None, outside: Outside) -> Tensor:
    """Put the flat-lit subject over what lies outside the mask.

    Args:
        flat, source: [B, 3, H, W] in [0, 1]. mask: [B, 1, H, W], or None for the whole picture.
        outside: "source" keeps the source there, "black" paints it black, "transparent" adds an alpha channel.

    Returns:
        [B, 3, H, W], or [B, 4, H, W] with straight (unpremultiplied) alpha for "transparent".
    """
    if outside not in get_args(Outside):
        raise DelitError(
            f"“{outside}” is no way to fill outside the mask; choose from {', '.join(get_args(Outside))}."
        )
    if outside == "transparent":
        alpha = torch.ones_like(flat[:, :1]) if mask is None else mask
        return torch.cat((flat, alpha), dim=1)
    if mask is None:
        return flat
    return mask * flat + (1 - mask) * (source if outside == "source" else 0)


def _round_up(side: int) -> int:
    return -(-side // VAE_STRIDE) * VAE_STRIDE
