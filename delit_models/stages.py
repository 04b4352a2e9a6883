"""The stages of Delit, one function each. `pipeline.DelitPipeline` strings them together; the nodes call them
one at a time. A VAE here is anything with `encode` and `decode`: our WanVAE, or ComfyUI's behind an adapter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from .coding import Source, from_rec709, open_source, to_rec709
from .color import linear_to_srgb, srgb_to_linear
from .detail_transfer import LightChange, refine_matte, resize_area, strips
from .env_codec import CODE_CHANNELS, decode_env
from .errors import DelitError
from .images import VAE_STRIDE, Framing, Outside, apply_mask, check_mask, check_mask_shape
from .video.light import EnvPooling, check_pooling, median_over_time

# A causal Wan VAE takes clips of 4n + 1 frames to n + 1 latent frames.
FRAMES_PER_LATENT = 4
# Standard deviation, in latent frames, of the smoothing of a moving light.
SMOOTHING = 1.5
# A gain is given at this linear value where the source is darker: a division by black says nothing. And at most.
DARKEST = 1 / 1024
MAX_GAIN = 64.0


class LatentCodec(Protocol):
    """A VAE of the Wan 2.1 family. Stills are 4-D, clips 5-D; pixels in [-1, 1].

    One with a `device` is given pixels there; others take them as they come.
    """

    def encode(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, 16, H/8, W/8], or [B, 3, 4n+1, H, W] → [B, 16, n+1, H/8, W/8]."""

    def decode(self, z: Tensor) -> Tensor:
        """The reverse of `encode`."""


def encode_images(
    vae: LatentCodec, source: Source | Tensor, longest_side: int | None, clip: bool = False
) -> tuple[Tensor, Framing]:
    """Pictures → latent of the relit image.

    Args:
        vae: the VAE.
        source: the pictures, separate stills or the frames of one clip; as tensor [B, H, W, C] in [0, 1],
            sRGB-coded, C = 1, 3 or 4.
        longest_side: working size in pixels; None works at the pictures' own size.
        clip: whether the batch is one clip in time. Its last frame is repeated up to 4n + 1 frames.

    Returns:
        z, [B, 16, h, w] for stills or [1, 16, n+1, h, w] for a clip; and how the pictures were fitted.

    Raises:
        DelitError: for pictures that `images.check_images` refuses.
    """
    seen = _opened(source).display
    framing = Framing.of(tuple(seen.shape[1:3]), longest_side)
    x = framing.fit(seen)
    if clip:
        missing = frames_to_pad(x.shape[0])
        x = torch.cat((x, x[-1:].expand(missing, -1, -1, -1)))
        x = rearrange(x, "t c h w -> 1 c t h w")
    return vae.encode(x.to(getattr(vae, "device", x.device))), framing


def frames_to_pad(frames: int) -> int:
    """How many frames to add to a clip so that it has 4n + 1."""
    return (1 - frames) % FRAMES_PER_LATENT


def decode_pictures(vae: LatentCodec, z: Tensor, framing: Framing | None) -> Tensor:
    """Latent → pictures [N, 3, h, w] in [0, 1] at the working size, frames in order, padding cut off."""
    x = vae.decode(z)
    if x.ndim == 5:
        x = rearrange(x, "b c t h w -> (b t) c h w")
    height, width = x.shape[-2:]
    return (framing or Framing((height, width), (height, width))).cut(x)


@dataclass(frozen=True)
class Finished:
    """Flat-lit pictures at the source's size.

    Attributes:
        flat: [B, H, W, 3] (4 channels for outside="transparent"), coded as the source is.
        gain: [B, H, W, 3] linear, in the primaries of the source's coding: what to multiply the source by, 1 outside
            the mask; None without a source.
    """

    flat: Tensor
    gain: Tensor | None = None


def finish(
    flat: Tensor,
    source: Source | Tensor | None,
    reconstruction: Tensor | None,
    mask: Tensor | None = None,
    outside: Outside = "source",
) -> Finished:
    """Flat-lit pictures at the working size → the result at the source's size.

    Args:
        flat: [N, 3, h, w] in [0, 1]. A clip's padding frames at the end are dropped.
        source: the pictures that were delit, as tensor [B, H, W, C] sRGB-coded; None leaves `flat` at its size.
        reconstruction: [N, 3, h, w], the source through the VAE, for detail transfer; None turns that off.
        mask: [B, h, w], what is delit (needs the source).
        outside: what goes outside the mask.
    """
    if source is None:
        if mask is not None:
            raise DelitError(
                "A mask needs the source image, to know what lies outside it. Connect the source too."
            )
        return Finished(rearrange(flat, "n c h w -> n h w c"))
    source = _opened(source)
    count = len(source.coded)
    if flat.shape[0] < count:
        raise DelitError(
            f"The latent decodes to {flat.shape[0]} images, but the source has {count}. Connect the source that "
            "was encoded into this latent."
        )
    masks = None if mask is None else check_mask_shape(mask, count)
    # One at a time: the buffers at full size are many times as large as the results.
    parts = (
        _finish_one(
            flat[index : index + 1],
            source.only(index),
            None if reconstruction is None else reconstruction[index : index + 1],
            None if masks is None else masks[index % len(masks)][None],
            outside,
        )
        for index in range(count)
    )
    return Finished(*gathered(parts, count))


def gathered(parts: Iterable[tuple[Tensor, ...]], count: int) -> tuple[Tensor, ...]:
    """`count` tuples of tensors [1, …] → tensors [count, …], without holding all the parts beside them."""
    whole: tuple[Tensor, ...] = ()
    for index, part in enumerate(parts):
        if count == 1:
            return part
        whole = whole or tuple(tensor.new_empty(count, *tensor.shape[1:]) for tensor in part)
        for tensor, one in zip(whole, part, strict=True):
            tensor[index] = one[0]
    return whole


def _finish_one(
    flat: Tensor, source: Source, reconstruction: Tensor | None, mask: Tensor | None, outside: Outside
) -> tuple[Tensor, Tensor]:
    size = tuple(source.coded.shape[1:3])
    change = None if reconstruction is None else _light_change(flat, source, reconstruction, size)
    enlarged = resize_area(flat, size) if change is None else None
    fitted_mask = None if mask is None else check_mask(mask, source.coded)
    whole: tuple[Tensor, ...] = ()
    # Strip by strip: a picture of 8K has 400 MB, and what is made on the way to the result is many times that.
    for rows in strips(*size):
        part = source.rows(rows)
        changed = enlarged[:, :, rows] if change is None else change.put_on(_rec709_rows(part), rows)
        done = _finish_rows(changed, part, change is not None, _rows_of(fitted_mask, rows), outside)
        whole = whole or tuple(one.new_empty(1, *size, one.shape[-1]) for one in done)
        for tensor, one in zip(whole, done, strict=True):
            tensor[:, rows] = one
    return whole


def _light_change(flat: Tensor, source: Source, reconstruction: Tensor, size: tuple[int, int]) -> LightChange:
    def seen(rows: slice) -> Tensor:
        return srgb_to_linear(rearrange(source.display[:, rows], "b h w c -> b c h w"))

    return LightChange.measured(
        lambda rows: _rec709_rows(source.rows(rows)),
        size,
        reconstruction,
        flat,
        seen if source.is_plate else None,
    )


def _rec709_rows(part: Source) -> Tensor:
    """A strip of the source in linear Rec.709, [B, 3, n, W]."""
    return rearrange(to_rec709(part.linear(), part.coding), "b h w c -> b c h w")


def _rows_of(mask: Tensor | None, rows: slice) -> Tensor | None:
    return None if mask is None else mask[:, :, rows]


def _finish_rows(
    changed: Tensor, source: Source, transferred: bool, mask: Tensor | None, outside: Outside
) -> tuple[Tensor, Tensor]:
    """A strip: flat-lit and its gain, [B, n, W, 3 (or 4)].

    Args:
        changed: [B, 3, n, W]: with detail transfer linear, without it the network's own picture, sRGB-coded.
        source: the strip of the source. mask: [B, 1, n, W].
    """
    if not transferred:
        changed = srgb_to_linear(changed.clamp(0, 1))
    own = source.linear()
    changed = from_rec709(rearrange(changed, "b c h w -> b h w c"), source.coding)
    gain = (changed / own.clamp(min=DARKEST)).clamp(0, MAX_GAIN)
    if not source.is_plate:
        changed = linear_to_srgb(changed.clamp(0, 1))
    elif transferred:
        changed = source.coded * gain
    else:
        changed = changed / rearrange(source.exposure, "b -> b 1 1 1").to(changed)
    if mask is not None:
        gain = 1 + rearrange(mask, "b 1 h w -> b h w 1") * (gain - 1)
    original = rearrange(source.coded, "b h w c -> b c h w")
    masked = apply_mask(rearrange(changed, "b h w c -> b c h w"), original, mask, outside)
    return rearrange(masked, "b c h w -> b h w c"), gain


def _opened(source: Source | Tensor) -> Source:
    return source if isinstance(source, Source) else open_source(source)


def working_matte(matte: Tensor, framing: Framing | None, frames: int | None = None) -> Tensor:
    """The heads' matte at the working size.

    Args:
        matte: [B, 1, h, w] of stills, or [1, 1, n, h, w] of a clip, a value a latent cell.
        framing: how the pictures were fitted to the latent.
        frames: of a clip, how many it has (default: all that its latent holds).

    Returns:
        [B, H, W] in [0, 1], a matte a picture.
    """
    if matte.ndim == 5:
        frames = frames or 1 + FRAMES_PER_LATENT * (matte.shape[2] - 1)
        index = (torch.arange(frames) + FRAMES_PER_LATENT - 1) // FRAMES_PER_LATENT
        matte = rearrange(matte, "1 c t h w -> t c h w")[index]
    cells = tuple(VAE_STRIDE * side for side in matte.shape[-2:])
    at_work = F.interpolate(matte.float(), size=cells, mode="bilinear", align_corners=False)
    return (at_work if framing is None else framing.crop(at_work))[:, 0]


def picture_matte(matte: Tensor, source: Source | Tensor, framing: Framing | None) -> Tensor:
    """The heads' matte as a mask of the pictures that were delit.

    Args:
        matte: as for `working_matte`. framing: likewise.
        source: the pictures, as tensor [B, H, W, C] sRGB-coded.

    Returns:
        [B, H, W] in [0, 1], refined along the pictures' edges.
    """
    rgb = rearrange(_opened(source).display, "b h w c -> b c h w")
    at_work = working_matte(matte.to(rgb.device), framing, len(rgb))[:, None]
    pairs = zip(at_work.split(1), rgb.split(1), strict=True)
    return gathered(((refine_matte(one, picture)[:, 0],) for one, picture in pairs), len(rgb))[0]


def decode_light(
    env_code: Tensor,
    pooling: EnvPooling = "shot",
    frames: int | None = None,
    exposure: Tensor | None = None,
) -> Tensor:
    """Env code → radiance.

    Args:
        env_code: [B, 4, 128, 256] of stills, or [B, t, 4, 128, 256] of clips.
        pooling: for clips. "shot" gives one map for the whole clip: the median over its latent frames, so that a
            few bad ones do not show. "frame" gives a map a frame, smoothed over time.
        frames: for pooling="frame", how many frames the clip has (default: all that its latent holds).
        exposure: [B], the factors that plates were exposed by (Source.exposure): the light is given as it lies on
            the plate. Of a clip they are all the same.

    Returns:
        [B, 128, 256, 3] linear Rec.709, image-referred; for pooling="frame" a map a frame, [B · frames, …].
    """
    check_pooling(pooling)
    _check_code(env_code, frames)
    if exposure is not None:
        light = decode_light(env_code, pooling, frames)
        factors = exposure if env_code.ndim == 4 else exposure[:1]
        return light / rearrange(factors, "b -> b 1 1 1").to(light)
    if env_code.ndim == 4:
        return rearrange(decode_env(env_code.float()), "b c h w -> b h w c")
    batch, latent_frames = env_code.shape[:2]
    radiance = decode_env(rearrange(env_code.float(), "b t c h w -> (b t) c h w"))
    light = rearrange(radiance, "(b t) c h w -> b t h w c", b=batch)
    if pooling == "shot":
        return torch.cat([median_over_time(clip) for clip in light])
    smooth = torch.einsum("st, b t h w c -> b s h w c", _smoothing_matrix(latent_frames).to(light), light)
    index = (torch.arange(frames or 1 + FRAMES_PER_LATENT * (latent_frames - 1)) + 3) // FRAMES_PER_LATENT
    return rearrange(smooth[:, index], "b t h w c -> (b t) h w c")


def _check_code(env_code: Tensor, frames: int | None) -> None:
    if env_code.ndim not in (4, 5) or env_code.shape[-3] != CODE_CHANNELS or 0 in env_code.shape:
        raise DelitError(
            f"The environment code has shape {tuple(env_code.shape)}; expected [batch, 4, height, width] of stills, or "
            "[batch, frames, 4, height, width] of clips, as Delit Apply gives it."
        )
    longest = 1 + FRAMES_PER_LATENT * (env_code.shape[1] - 1)
    if env_code.ndim == 5 and frames is not None and not 1 <= frames <= longest:
        raise DelitError(f"The environment code is of 1 to {longest} frames, but {frames} are asked for.")


def _smoothing_matrix(frames: int) -> Tensor:
    """[frames, frames]: Gaussian weights over time, each row summing to 1."""
    index = torch.arange(frames, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((index[:, None] - index[None, :]) / SMOOTHING) ** 2)
    return weights / repeat(weights.sum(dim=1), "s -> s t", t=frames)
