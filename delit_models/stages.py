"""The stages of Delit, one function each. `pipeline.DelitPipeline` strings them together; the nodes call them
one at a time. A VAE here is anything with `encode` and `decode`: our WanVAE, or ComfyUI's behind an adapter.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from .detail_transfer import refine_matte, resize_area, transfer_detail
from .env_codec import decode_env
from .errors import DelitError
from .images import VAE_STRIDE, Framing, Outside, apply_mask, check_images, check_mask

# A causal Wan VAE takes clips of 4n + 1 frames to n + 1 latent frames.
FRAMES_PER_LATENT = 4
# Standard deviation, in latent frames, of the smoothing of a moving light.
SMOOTHING = 1.5

EnvPooling = Literal["shot", "frame"]


class LatentCodec(Protocol):
    """A VAE of the Wan 2.1 family. Stills are 4-D, clips 5-D; pixels in [-1, 1]."""

    def encode(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, 16, H/8, W/8], or [B, 3, 4n+1, H, W] → [B, 16, n+1, H/8, W/8]."""

    def decode(self, z: Tensor) -> Tensor:
        """The reverse of `encode`."""


def encode_images(
    vae: LatentCodec, images: Tensor, longest_side: int | None, clip: bool = False
) -> tuple[Tensor, Framing]:
    """Pictures → latent of the relit image.

    Args:
        vae: the VAE.
        images: [B, H, W, C] in [0, 1], sRGB-coded, C = 1, 3 or 4; separate stills, or the frames of one clip.
        longest_side: working size in pixels; None works at the pictures' own size.
        clip: whether the batch is one clip in time. Its last frame is repeated up to 4n + 1 frames.

    Returns:
        z, [B, 16, h, w] for stills or [1, 16, n+1, h, w] for a clip; and how the pictures were fitted.

    Raises:
        DelitError: for pictures that `images.check_images` refuses.
    """
    rgb = check_images(images)
    framing = Framing.of(tuple(rgb.shape[1:3]), longest_side)
    x = framing.fit(rgb)
    if clip:
        missing = frames_to_pad(x.shape[0])
        x = torch.cat((x, x[-1:].expand(missing, -1, -1, -1)))
        x = rearrange(x, "t c h w -> 1 c t h w")
    return vae.encode(x), framing


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


def finish(
    flat: Tensor,
    source: Tensor | None,
    reconstruction: Tensor | None,
    mask: Tensor | None = None,
    outside: Outside = "source",
) -> Tensor:
    """Flat-lit pictures at the working size → the result at the source's size.

    Args:
        flat: [N, 3, h, w] in [0, 1]. A clip's padding frames at the end are dropped.
        source: [B, H, W, C], the pictures that were delit; None leaves `flat` at its size.
        reconstruction: [N, 3, h, w], the source through the VAE, for detail transfer; None turns that off.
        mask: [B, h, w], what is delit (needs the source).
        outside: what goes outside the mask.

    Returns:
        [B, H, W, 3], or 4 channels for outside="transparent", in [0, 1].
    """
    if source is None:
        if mask is not None:
            raise DelitError(
                "A mask needs the source image, to know what lies outside it. Connect the source too."
            )
        return rearrange(flat, "n c h w -> n h w c")
    rgb = check_images(source)
    if flat.shape[0] < rgb.shape[0]:
        raise DelitError(
            f"The latent decodes to {flat.shape[0]} images, but the source has {rgb.shape[0]}. Connect the source that "
            "was encoded into this latent."
        )
    flat = flat[: rgb.shape[0]]
    original = rearrange(rgb, "b h w c -> b c h w")
    if reconstruction is not None:
        result = transfer_detail(original, reconstruction[: rgb.shape[0]], flat)
    else:
        result = resize_area(flat, tuple(original.shape[-2:])).clamp(0, 1)
    fitted_mask = None if mask is None else check_mask(mask, rgb)
    return rearrange(apply_mask(result, original, fitted_mask, outside), "b c h w -> b h w c")


def picture_matte(matte: Tensor, source: Tensor, framing: Framing | None) -> Tensor:
    """The heads' matte as a mask of the pictures that were delit.

    Args:
        matte: [B, 1, h, w] of stills, or [1, 1, n, h, w] of a clip, a value a latent cell.
        source: [B, H, W, C], the pictures. framing: how they were fitted to the latent.

    Returns:
        [B, H, W] in [0, 1], refined along the pictures' edges.
    """
    rgb = check_images(source)
    if matte.ndim == 5:
        frames = (torch.arange(rgb.shape[0]) + FRAMES_PER_LATENT - 1) // FRAMES_PER_LATENT
        matte = rearrange(matte, "1 c t h w -> t c h w")[frames]
    cells = tuple(VAE_STRIDE * side for side in matte.shape[-2:])
    at_work = F.interpolate(matte.float(), size=cells, mode="bilinear", align_corners=False).to(rgb.device)
    at_work = at_work if framing is None else framing.crop(at_work)
    return refine_matte(at_work, rearrange(rgb, "b h w c -> b c h w"))[:, 0]


def decode_light(env_code: Tensor, pooling: EnvPooling = "shot", frames: int | None = None) -> Tensor:
    """Env code → radiance.

    Args:
        env_code: [B, 4, 128, 256] of stills, or [B, t, 4, 128, 256] of clips.
        pooling: for clips. "shot" gives one map for the whole clip: the median over its latent frames, so that a
            few bad ones do not show. "frame" gives a map a frame, smoothed over time.
        frames: for pooling="frame", how many frames the clip has (default: all that its latent holds).

    Returns:
        [B, 128, 256, 3] linear Rec.709, image-referred; for pooling="frame" a map a frame, [B · frames, …].
    """
    if pooling not in get_args(EnvPooling):
        raise DelitError(
            f"“{pooling}” is no way to pool light over time; choose from {get_args(EnvPooling)}."
        )
    if env_code.ndim == 4:
        return rearrange(decode_env(env_code.float()), "b c h w -> b h w c")
    batch, latent_frames = env_code.shape[:2]
    radiance = decode_env(rearrange(env_code.float(), "b t c h w -> (b t) c h w"))
    light = rearrange(radiance, "(b t) c h w -> b t h w c", b=batch)
    if pooling == "shot":
        return light.quantile(0.5, dim=1)
    smooth = torch.einsum("st, b t h w c -> b s h w c", _smoothing_matrix(latent_frames).to(light), light)
    index = (torch.arange(frames or 1 + FRAMES_PER_LATENT * (latent_frames - 1)) + 3) // FRAMES_PER_LATENT
    return rearrange(smooth[:, index], "b t h w c -> (b t) h w c")


def _smoothing_matrix(frames: int) -> Tensor:
    """[frames, frames]: Gaussian weights over time, each row summing to 1."""
    index = torch.arange(frames, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((index[:, None] - index[None, :]) / SMOOTHING) ** 2)
    return weights / repeat(weights.sum(dim=1), "s -> s t", t=frames)
