"""The frames of a clip while they wait for their window: as they were given, and how to open them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..coding import SRGB, Coding, Source, meter_clip, open_source
from ..detail_transfer import MAX_LOG_GAIN, light_change, resize_area
from ..errors import DelitError
from ..images import Framing
from .steady import SteadyFrame


@dataclass(frozen=True)
class ShownFrame:
    """A frame as it was given: [H, W, C] coded as `coding` says, or uint8, which takes a quarter of the memory.

    `exposure` and `metered` are those of pipeline.DelitOptions.
    """

    picture: Tensor
    coding: Coding
    exposure: float
    metered: float | None

    def source(self) -> Source:
        picture = self.picture
        if picture.dtype == torch.uint8:
            picture = picture.float() / 255
        metered = None if self.metered is None else torch.tensor([self.metered])
        return open_source(picture[None], self.coding, self.exposure, metered=metered)


@dataclass(frozen=True)
class FrameLight:
    """What the heads say of a frame besides its pictures.

    Attributes:
        env: [128, 256, 3] linear. z, z_flat: [16, h, w], of the latent frame that it belongs to.
    """

    env: Tensor
    z: Tensor
    z_flat: Tensor


@dataclass(frozen=True)
class Payload:
    """What goes through the window with a frame's values."""

    shown: ShownFrame
    reconstruction: Tensor
    light: FrameLight


def shown_frames(
    pictures: Iterable[Tensor], coding: Coding, exposure: float, metered: float | None
) -> Iterator[ShownFrame]:
    """The frames of a clip, all exposed alike: as `metered` says, or as the first one is metered.

    Raises:
        DelitError: for frames of different sizes.
    """
    size = None
    for picture in pictures:
        if coding != SRGB and metered is None:
            metered = meter_clip(picture[None], coding)
        if size not in (None, tuple(picture.shape[:2])):
            raise DelitError(
                f"The frames of a clip have one size, but one of {size[1]}×{size[0]} pixels is followed by one of "
                f"{picture.shape[1]}×{picture.shape[0]}."
            )
        size = tuple(picture.shape[:2])
        yield ShownFrame(picture, coding, exposure, metered)


def to_be_steadied(
    shown: ShownFrame,
    display: Tensor,
    framing: Framing,
    flat: Tensor,
    reconstruction: Tensor,
    matte: Tensor,
    light: FrameLight,
) -> SteadyFrame:
    """A frame's change of light and matte as the 3 + 1 values that are averaged over time, at the working size.

    Args:
        display: [1, H, W, 3], what the network saw of it, before it was fitted.
        flat, reconstruction: [1, 3, h, w], decoded. matte: [1, h, w].
    """
    change = light_change(reconstruction, flat).clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN)
    display = rearrange(display, "1 h w c -> 1 c h w").to(flat.device)
    picture = resize_area(display, framing.working_size).clamp(0, 1)
    values = torch.cat([change, matte[:, None].to(change)], dim=1)
    return SteadyFrame(picture, values, Payload(shown, reconstruction, light))


def mask_of_frame(mask: Tensor | Sequence[Tensor] | None, index: int) -> Tensor | None:
    """The mask of a frame, [1, h, w]; the last one where they run out."""
    if mask is None or isinstance(mask, Tensor) and mask.ndim == 2:
        return mask
    return mask[min(index, len(mask) - 1)][None]
