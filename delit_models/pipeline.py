"""The whole of Delit in one call: relit pictures in, flat-lit pictures and their environment map out.

pipe = DelitPipeline.embedded("cpu")
result = pipe(images)            # [B, H, W, 3], sRGB-coded in [0, 1]
result.flat, result.env          # [B, H, W, 3] sRGB-coded; [B, 128, 256, 3] linear, image-referred
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from .checkpoint import load_wan_vae
from .coding import SRGB, Coding, Source, meter_clip, open_source
from .decoder_lora import with_lora
from .detail_transfer import refine_matte, with_light_change
from .errors import DelitError
from .heads import DelitConfig, HeadsOutput
from .heads_file import LoadedHeads, load_heads, verify_vae_probe
from .images import Area, Framing, Outside, check_mask_shape
from .stages import (
    LatentCodec,
    decode_light,
    decode_pictures,
    encode_images,
    finish,
    gathered,
    picture_matte,
    working_matte,
)
from .video.frames import FrameLight, ShownFrame, mask_of_frame, shown_frames, to_be_steadied
from .video.light import ClipLight, EnvPooling
from .video.steady import SteadyFrame, steadied
from .video.windows import clip_windows, latent_of_frame
from .wan_vae import WanVAE

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED_VAE = WEIGHTS / "delit_narrow_vae.safetensors"
EMBEDDED_HEADS = WEIGHTS / "delit_heads.safetensors"

# Frames of a clip that one decoder has before the other, where flat-lit latents have a decoder of their own.
FRAMES_A_TURN = 8

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
        z, z_flat: latents of the relit and of the flat-lit picture, as the VAE has them, [B, 16, h, w].
    """

    flat: Tensor
    gain: Tensor
    env: Tensor
    matte: Tensor
    z: Tensor
    z_flat: Tensor


@dataclass(frozen=True)
class DelitFrame:
    """One frame of a clip, as `DelitPipeline.stream` gives it; see DelitResult.

    Attributes:
        flat, gain: [H, W, 3]. env: [128, 256, 3], the frame's own, not pooled over time. matte: [H, W].
        z, z_flat: [16, h, w]; in the clip path those of the latent frame that it belongs to.
        starts_shot: whether it is the first, or follows a cut.
    """

    flat: Tensor
    gain: Tensor
    env: Tensor
    matte: Tensor
    z: Tensor
    z_flat: Tensor
    starts_shot: bool


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

        Beside what comes in and goes out it holds one still, or a clip's window of frames, however many there are.

        Args:
            images: [B, H, W, C], coded as options.coding says, any size from 64 pixels up; C = 1, 3 or 4.
            mask: [B, h, w] or [1, h, w] in [0, 1], 1 where the subject is.
            options: see DelitOptions.
            progress: called with (steps done, steps in all).

        Raises:
            DelitError: for pictures or masks that cannot be used; the message says why.
        """
        options = options or DelitOptions()
        if options.clip:
            return self._clip(images, mask, options, progress)
        if images.ndim == 4 and images.shape[0] > 1:
            return self._one_by_one(images, mask, options, progress)
        step = _Steps(progress, 4 if options.detail_transfer else 3)
        source = _opened(images, options)
        z, framing = encode_images(self.vae, source, self._longest_side(options))
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
        env = decode_light(env_code, exposure=source.exposure)
        return DelitResult(done.flat, done.gain, env.to(images.device), matte, z, z_flat)

    @torch.inference_mode()
    def stream(
        self,
        frames: Iterable[Tensor],
        mask: Tensor | Sequence[Tensor] | None = None,
        options: DelitOptions | None = None,
    ) -> Iterator[DelitFrame]:
        """Take the light off a clip of any length, with memory that does not grow with it.

        Frames are asked for some way ahead of the results, one result for each. Through a VAE that is good in time
        (DelitConfig.temporal) they go as a clip, window by window, else one by one; either way the change of light is
        then steadied along the motion in the clip, not across cuts.

        Args:
            frames: pictures [H, W, C], all of one size, coded as options.coding says, or uint8 for [0, 1].
            mask: [1, h, w] for all frames, or one for each; or a sequence of masks [h, w], asked for one by one.
            options: as for a call; the frames are one clip whatever `clip` says, and the light is not pooled
                (video.light.ClipLight does that). Plates without `metered` are exposed as the first frame.

        Raises:
            DelitError: for frames or masks that cannot be used, or a clip without any.
        """
        options = options or DelitOptions()
        if isinstance(mask, Tensor):
            mask = check_mask_shape(mask, mask.shape[0] if mask.ndim else 0)
        shown = shown_frames(frames, options.coding, options.exposure, options.metered)
        seen = self._seen_as_clip if self.config.temporal else self._seen_one_by_one
        count = 0
        for frame in steadied(seen(shown, self._longest_side(options))):
            yield self._finish_frame(frame, mask_of_frame(mask, count), options)
            count += 1
        if count == 0:
            raise DelitError("The clip has no frames.")
        if mask is not None and len(mask) not in (1, count):
            raise DelitError(f"The clip has {count} frames but {len(mask)} masks; give one, or one for each.")

    def _seen_one_by_one(self, frames: Iterator[ShownFrame], longest_side: int) -> Iterator[SteadyFrame]:
        # Changing between two sets of weights takes time: each decoder has several frames before the other's turn.
        turn = 1 if self.flat_vae is self.vae else FRAMES_A_TURN
        while several := list(islice(frames, turn)):
            sources = [shown.source() for shown in several]
            encoded = [encode_images(self.vae, source, longest_side) for source in sources]
            outputs = [self.heads(z) for z, _ in encoded]
            flats = [
                decode_pictures(self.flat_vae, output.z_flat, framing)
                for output, (_, framing) in zip(outputs, encoded, strict=True)
            ]
            for shown, source, (z, framing), output, flat in zip(
                several, sources, encoded, outputs, flats, strict=True
            ):
                reconstruction = decode_pictures(self.vae, z, framing)
                env = decode_light(output.env_code, exposure=source.exposure)
                light = FrameLight(env[0], z[0], output.z_flat[0])
                pictures = flat, reconstruction, working_matte(output.matte, framing)
                yield to_be_steadied(shown, source.display, framing, *pictures, light)

    def _seen_as_clip(self, frames: Iterator[ShownFrame], longest_side: int) -> Iterator[SteadyFrame]:
        for window, known in clip_windows(frames):
            sources = [shown.source() for shown in window]
            display = torch.cat([source.display for source in sources])
            z, framing = encode_images(self.vae, display, longest_side, clip=True)
            z_flat, env_code, matte = self.heads(z)
            flat, reconstruction = self._decoded(z_flat, z, framing)
            mattes = working_matte(matte, framing, len(window))
            for index in range(known, len(window)):
                at, one = latent_of_frame(index), slice(index, index + 1)
                env = decode_light(env_code[:, at], exposure=sources[index].exposure)
                light = FrameLight(env[0], z[0, :, at], z_flat[0, :, at])
                pictures = flat[one], reconstruction[one], mattes[one]
                yield to_be_steadied(window[index], display[one], framing, *pictures, light)

    def _decoded(self, z_flat: Tensor, z: Tensor, framing: Framing) -> tuple[Tensor, Tensor]:
        """The flat-lit picture and the reconstruction of the source."""
        return decode_pictures(self.flat_vae, z_flat, framing), decode_pictures(self.vae, z, framing)

    def _finish_frame(self, frame: SteadyFrame, mask: Tensor | None, options: DelitOptions) -> DelitFrame:
        source, light = frame.payload.shown.source(), frame.payload.light
        device = source.coded.device
        reconstruction = frame.payload.reconstruction.to(device)
        change, matte = frame.values.to(device).split([3, 1], dim=1)
        matte = refine_matte(matte, rearrange(source.display, "b h w c -> b c h w"))[:, 0]
        if mask is None and options.area == "subject" and self.config.matte:
            mask = matte
        flat = with_light_change(reconstruction, change)
        done = finish(
            flat, source, reconstruction if options.detail_transfer else None, mask, options.outside
        )
        return DelitFrame(
            done.flat[0],
            done.gain[0],
            light.env.to(device),
            matte[0],
            light.z,
            light.z_flat,
            frame.starts_shot,
        )

    def _clip(
        self, images: Tensor, mask: Tensor | None, options: DelitOptions, progress: Progress | None
    ) -> DelitResult:
        """The frames of a clip that is in memory as a whole."""
        _check_each(images, options)
        count = len(images)
        if mask is not None:
            mask = check_mask_shape(mask, count)
        if options.coding != SRGB and options.metered is None:
            options = replace(options, metered=meter_clip(images, options.coding))
        light = ClipLight(options.env_pooling)
        step = _Steps(progress, count)

        def parts() -> Iterator[tuple[Tensor, ...]]:
            for frame in self.stream(images, mask, options):
                light.add(frame.env, frame.starts_shot)
                step()
                yield tuple(x[None] for x in (frame.flat, frame.gain, frame.matte, frame.z, frame.z_flat))

        flat, gain, matte, z, z_flat = gathered(parts(), count)
        return DelitResult(flat, gain, light.pooled(), matte, z, z_flat)

    def _one_by_one(
        self, images: Tensor, mask: Tensor | None, options: DelitOptions, progress: Progress | None
    ) -> DelitResult:
        """Stills are independent: one at a time keeps memory at that of one."""
        _check_each(images, options)
        if mask is not None:
            mask = check_mask_shape(mask, len(images))
        step = _Steps(progress, len(images))

        def parts() -> Iterator[tuple[Tensor, ...]]:
            for index, image in enumerate(images):
                own_mask = mask[index : index + 1] if mask is not None and len(mask) == len(images) else mask
                result = self(image[None], own_mask, options)
                step()
                yield tuple(getattr(result, field.name) for field in fields(result))

        return DelitResult(*gathered(parts(), len(images)))

    def _longest_side(self, options: DelitOptions) -> int:
        return options.working_size or self.config.working_size


def _opened(images: Tensor, options: DelitOptions) -> Source:
    metered = None if options.metered is None else torch.tensor([options.metered])
    return open_source(images, options.coding, options.exposure, metered=metered)


def _check_each(images: Tensor, options: DelitOptions) -> None:
    """Refuse what `open_source` refuses, before any work."""
    if images.ndim != 4 or len(images) == 0:
        open_source(images, options.coding)
    for index in range(len(images)):
        open_source(images[index : index + 1], options.coding, metered=torch.ones(1))


class _Steps:
    """Counts the stages of one run for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(self.done, self.total)
