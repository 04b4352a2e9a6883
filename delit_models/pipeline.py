"""The whole of Delit in one call: relit pictures in, flat-lit pictures and their environment map out.

pipe = DelitPipeline.embedded("cpu")
result = pipe(images)            # [B, H, W, 3], sRGB-coded in [0, 1]
result.flat, result.env          # [B, H, W, 3] sRGB-coded; [B, 128, 256, 3] linear, image-referred
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import tee
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from .checkpoint import load_wan_vae
from .coding import SRGB, Coding, open_source
from .decoder_lora import with_lora
from .errors import DelitError
from .heads import DelitConfig, HeadsOutput
from .heads_file import LoadedHeads, load_heads, verify_vae_probe
from .images import Area, Framing, Outside, check_images
from .stages import (
    EnvPooling,
    LatentCodec,
    decode_light,
    decode_pictures,
    encode_images,
    finish,
    frames_to_pad,
    picture_matte,
)
from .wan_vae import WanVAE

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED_VAE = WEIGHTS / "delit_narrow_vae.safetensors"
EMBEDDED_HEADS = WEIGHTS / "delit_heads.safetensors"

Heads = Callable[[Tensor], HeadsOutput]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DelitOptions:
    """How to run the pipeline.

    Attributes:
        working_size: longest side in pixels that the network sees; 0 is what the heads were trained at. Smaller
            pictures are not enlarged.
        detail_transfer: take the change of light from the network and everything else from the source.
        area: what is delit where no mask says so: the "subject", as the heads' own matte sees it, or the whole
            "picture".
        outside: what lies outside the mask or the subject: "source", "black" or "transparent".
        clip: the batch is one clip in time rather than separate stills.
        env_pooling: for clips, one map for the shot ("shot") or one a frame ("frame").
        coding: how the pictures are coded: "sRGB" in [0, 1], or a linear plate without an upper bound.
        exposure: stops that the network is to see a plate brighter than it is exposed by itself.
        metered: the factor that plates are exposed by before that; None meters each still, or the whole clip.
    """

    working_size: int = 0
    detail_transfer: bool = True
    area: Area = "subject"
    outside: Outside = "source"
    clip: bool = False
    env_pooling: EnvPooling = "shot"
    coding: Coding = SRGB
    exposure: float = 0.0
    metered: float | None = None


@dataclass(frozen=True)
class DelitResult:
    """What comes out.

    Attributes:
        flat: [B, H, W, 3], coded as the pictures are; 4 channels with outside="transparent".
        gain: [B, H, W, 3], linear: flat over source, in the primaries of the pictures' coding; 1 outside the mask.
        env: [B, 128, 256, 3] linear Rec.709, image-referred; of a clip [1, …] or [frames, …].
        matte: [B, H, W] in [0, 1], where the heads see the subject; 1 everywhere from heads that know no matte.
        z, z_flat: latents of the relit and of the flat-lit picture, as the VAE has them.
    """

    flat: Tensor
    gain: Tensor
    env: Tensor
    matte: Tensor
    z: Tensor
    z_flat: Tensor


def load_heads_of(
    vae: WanVAE, vae_path: str | Path, heads_path: str | Path, device: torch.device | str
) -> LoadedHeads:
    """Heads from a file, float32, on the device that their VAE is on.

    Raises:
        CheckpointError: if it is no heads file.
        DelitError: if the heads were trained with another VAE than `vae`, which `vae_path` names.
    """
    loaded = load_heads(heads_path, device)
    with torch.inference_mode():
        verify_vae_probe(lambda card: vae.encode(card.to(device)), loaded, Path(vae_path).name)
    return loaded


class DelitPipeline:
    """A VAE and heads for it.

    `vae` is anything with `encode` and `decode` (see stages.LatentCodec); `heads` is DelitHeads, or a callable
    that runs them, latent → (z_flat, env_code). `flat_vae` is what decodes flat-lit latents, where the heads bring a
    LoRA for that (decoder_lora.with_lora); the relit picture is always reconstructed by `vae` as it is.
    """

    def __init__(
        self,
        vae: LatentCodec,
        heads: Heads,
        config: DelitConfig | None = None,
        flat_vae: LatentCodec | None = None,
    ) -> None:
        self.vae = vae
        self.heads = heads
        self.config = config or heads.config
        self.flat_vae = flat_vae or vae

    @classmethod
    def embedded(cls, device: torch.device | str = "cpu") -> DelitPipeline:
        """The weights that the pack ships."""
        return cls.load(EMBEDDED_VAE, EMBEDDED_HEADS, device)

    @classmethod
    def load(
        cls, vae_path: str | Path, heads_path: str | Path, device: torch.device | str = "cpu"
    ) -> DelitPipeline:
        """A pipeline from files, float32.

        Raises:
            CheckpointError: for a file that is not what it should be.
            DelitError: if the heads were trained with another VAE.
        """
        vae = load_wan_vae(vae_path, device, torch.float32)
        loaded = load_heads_of(vae, vae_path, heads_path, device)
        return cls(vae, loaded.heads, flat_vae=None if loaded.lora is None else with_lora(vae, loaded.lora))

    @torch.inference_mode()
    def __call__(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        options: DelitOptions | None = None,
        progress: Progress | None = None,
    ) -> DelitResult:
        """Take the light off pictures, or off a clip.

        Args:
            images: [B, H, W, C], coded as options.coding says, any size from 64 pixels up; C = 1, 3 or 4.
            mask: [B, h, w] or [1, h, w] in [0, 1], 1 where the subject is.
            options: see DelitOptions.
            progress: called with (steps done, steps in all).

        Raises:
            DelitError: for pictures or masks that cannot be used; the message says why.
        """
        options = options or DelitOptions()
        if images.ndim == 4 and images.shape[0] > 1 and not options.clip:
            return self._one_by_one(images, mask, options, progress)
        step = _Steps(progress, 4 if options.detail_transfer else 3)
        metered = None if options.metered is None else torch.tensor([options.metered])
        source = open_source(images, options.coding, options.exposure, together=options.clip, metered=metered)
        z, framing = encode_images(self.vae, source, self._longest_side(options), options.clip)
        step()
        z_flat, env_code, cell_matte = self.heads(z)
        step()
        flat = decode_pictures(self.flat_vae, z_flat, framing)
        step()
        reconstruction = None
        if options.detail_transfer:
            reconstruction = decode_pictures(self.vae, z, framing).to(images.device)
            step()
        matte = picture_matte(cell_matte, source, framing)
        if mask is None and options.area == "subject" and self.config.matte:
            mask = matte
        done = finish(flat.to(images.device), source, reconstruction, mask, options.outside)
        frames = images.shape[0] if options.clip else None
        env = decode_light(env_code, options.env_pooling, frames, source.exposure)
        return DelitResult(done.flat, done.gain, env.to(images.device), matte, z, z_flat)

    @torch.inference_mode()
    def stream(
        self, frames: Iterable[Tensor], options: DelitOptions | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Take the light off a clip of any length, with memory that does not grow with it.

        Needs a VAE with `encode_stream` and `decode_stream`, such as WanVAE.

        Args:
            frames: pictures [H, W, C] in [0, 1], all of one size.
            options: as for a call; `clip` and the whole picture as `area` are implied, and the env is a map a frame,
                not smoothed over the shot.

        Yields:
            For every frame: flat [H, W, 3], and the env [128, 256, 3] of the latent frame it belongs to.
        """
        if not (isinstance(self.vae, WanVAE) and isinstance(self.flat_vae, WanVAE)):
            raise DelitError(
                "Only Delit's own WanVAE can stream; give the clip as one batch with clip=True instead."
            )
        options = options or DelitOptions()
        waiting: deque[Tensor | None] = deque()
        latents = (
            (z, *self.heads(z)[:2]) for z in self.vae.encode_stream(self._fit(frames, waiting, options))
        )
        for_flat, for_source, for_light = tee(latents, 3)
        flat_chunks = self.flat_vae.decode_stream(z_flat for _, z_flat, _ in for_flat)
        source_chunks = self.vae.decode_stream(z for z, _, _ in for_source)
        lights = (decode_light(env_code) for _, _, env_code in for_light)
        for flat, reconstruction, light in zip(flat_chunks, source_chunks, lights, strict=True):
            pairs = (rearrange(x, "1 c t h w -> t 1 c h w") for x in (flat, reconstruction))
            for flat_frame, source_frame in zip(*pairs, strict=True):
                source = waiting.popleft()
                if source is None:
                    continue
                framing = Framing.of(tuple(source.shape[1:3]), self._longest_side(options))
                recon = framing.cut(source_frame) if options.detail_transfer else None
                yield finish(framing.cut(flat_frame), source, recon).flat[0], light[0]

    def _fit(
        self, frames: Iterable[Tensor], waiting: deque[Tensor | None], options: DelitOptions
    ) -> Iterator[Tensor]:
        """Frames → [1, 3, 1, h, w] for the VAE, and to the queue of sources; then padding, with None as source."""
        count = 0
        for frame in frames:
            source = check_images(frame[None])
            waiting.append(source)
            framing = Framing.of(tuple(source.shape[1:3]), self._longest_side(options))
            x = rearrange(framing.fit(source), "1 c h w -> 1 c 1 h w")
            count += 1
            yield x
        if count == 0:
            raise DelitError("The clip has no frames.")
        for _ in range(frames_to_pad(count)):
            waiting.append(None)
            yield x

    def _one_by_one(
        self, images: Tensor, mask: Tensor | None, options: DelitOptions, progress: Progress | None
    ) -> DelitResult:
        """Stills are independent: one at a time keeps memory at that of one."""
        open_source(images, options.coding)
        if mask is not None and mask.ndim == 3 and mask.shape[0] not in (1, images.shape[0]):
            raise DelitError(
                f"There are {images.shape[0]} images but {mask.shape[0]} masks; give one, or one for each."
            )
        results = []
        for index, image in enumerate(images):
            own_mask = mask[index : index + 1] if mask is not None and len(mask) == len(images) else mask
            results.append(self(image[None], own_mask, options))
            if progress:
                progress(index + 1, len(images))
        names = [field.name for field in fields(DelitResult)]
        return DelitResult(*(torch.cat([getattr(result, name) for result in results]) for name in names))

    def _longest_side(self, options: DelitOptions) -> int:
        return options.working_size or self.config.working_size


class _Steps:
    """Counts the stages of one run for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(self.done, self.total)
