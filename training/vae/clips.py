"""What the narrow VAE's decoder makes of a clip: it learns the frames between those that the encoder keeps.

The encoder keeps every fourth frame. A decoder that only repeats it shows each four times and then jumps. It begins by
fading from each to the next, and learns from there: its kernels look back, and see both at once. Only those parts of
them are trained here, and the convolutions that double time, which a still never meets: a still is encoded and decoded
as before, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.errors import DelitError
from delit_models.wan_vae import WanVAE

from .decoder import DecoderTrainer
from .patch_code import fade_between_frames, keep_every_fourth_frame, looks_back

FRAMES = 9
# How much the error of the change from frame to frame counts beside that of the frames.
_CHANGE = 3.0
# Shares of clips that move, whose light changes, and that have a camera's noise.
_MOVING, _LIT, _NOISY = 0.5, 0.6, 0.3
# Pixels a frame, share of the size a frame, radians of the light's wave a frame, and natural logarithms of light.
_MOST_SPEED, _MOST_ZOOM, _MOST_PHASE, _LIGHT = 1.5, 0.006, 0.4, 0.5
_MOST_NOISE = 4 / 127.5


class ClipTrainer(DecoderTrainer):
    """The regression of clips on their code, of `batch_size` clips of FRAMES frames a step, `crop` pixels wide."""

    def _prepare(self) -> None:
        if not self.started:
            raise DelitError("Clips are learned by a decoder that knows stills: give --start_from as well.")
        # Older VAEs average here, and learn otherwise than `encode_clips` has it.
        keep_every_fourth_frame(self.vae)
        if not looks_back(self.vae):
            fade_between_frames(self.vae)

    def _trainable(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        looking_back, doubling = [], []
        for module in self.vae.decoder.modules():
            weight = getattr(module, "weight", None)
            if weight is None or weight.ndim != 5 or weight.shape[2] == 1:
                continue
            if weight.shape[3] == 1:
                doubling += [weight, module.bias]
            else:
                weight.requires_grad_(True).register_hook(_without_present)
                looking_back.append(weight)
        last = self.vae.decoder.head[2].weight
        return [w for w in looking_back if w is not last], [last, *doubling]

    def _squared(self, step: int) -> Tensor:
        clips, seen = self.clips(step)
        error = self.vae.decode(encode_clips(self.code.encode, seen).to(self.device)) - clips.to(self.device)
        change = error.diff(dim=2).square().mean(dim=(1, 2, 3, 4))
        return error.square().mean(dim=(1, 2, 3, 4)) + _CHANGE * change

    def clips(self, step: int) -> tuple[Tensor, Tensor]:
        """[B, 3, FRAMES, crop, crop] in [-1, 1] without noise and with; a step's are always the same."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        drawn = [self._clip(generator) for _ in range(self.config.batch_size)]
        clean, seen = (torch.stack(clips) for clips in zip(*drawn, strict=True))
        return clean, seen

    def _clip(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sharp = len(self.sharp) and _uniform(generator) < self.config.sharp_share
        pictures = self.sharp if sharp else self.pictures
        picture = pictures[int(torch.randint(len(pictures), (), generator=generator))].float() / 255
        clip = linear_to_srgb(draw_clip(srgb_to_linear(picture), self.config.crop, generator).clamp(0, 1))
        noise = torch.randn(clip.shape, generator=generator) * _MOST_NOISE * _uniform(generator)
        clean = clip * 2 - 1
        return clean, (clean + noise).clamp(-1, 1) if _uniform(generator) < _NOISY else clean


def draw_clip(
    light: Tensor,
    crop: int,
    generator: torch.Generator,
    moves: bool | None = None,
    lit: bool | None = None,
) -> Tensor:
    """A window onto a picture [3, H, W] in linear light that moves over it, under light that comes and goes in waves:
    [3, FRAMES, crop, crop]. Whether it moves, and whether the light does, is drawn where it is not said."""
    height, width = light.shape[-2:]
    spread = F.interpolate(torch.randn(1, 3, 3, 3, generator=generator), (height, width), mode="bicubic")[0]
    other = light * (_LIGHT * (spread + torch.randn(3, 1, 1, generator=generator))).exp()
    may_move, may_be_lit = _uniform(generator) < _MOVING, _uniform(generator) < _LIT
    moves = may_move if moves is None else moves
    lit = may_be_lit if lit is None else lit
    speed = [_uniform(generator, -_MOST_SPEED, _MOST_SPEED) * moves for _ in range(2)]
    zoom = _uniform(generator, -_MOST_ZOOM, _MOST_ZOOM) * moves
    start, wave = _uniform(generator, 0, math.tau), _uniform(generator, 0, _MOST_PHASE) * lit
    reach = crop / 2 + _MOST_SPEED * FRAMES / 2
    middle = [
        _uniform(generator, min(reach, length / 2), max(length - reach, length / 2))
        for length in (height, width)
    ]
    if not moves:
        # Whole pixels: what stands still is as sharp as it was.
        middle = [round(place - crop / 2) + crop / 2 for place in middle]
    pixels = torch.arange(crop) - crop / 2 + 0.5
    frames = []
    for number in range(FRAMES):
        time = number - FRAMES // 2
        rows, columns = (
            2 * (place + pace * time + pixels * math.exp(zoom * time)) / length - 1
            for place, pace, length in zip(middle, speed, (height, width), strict=True)
        )
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)[None]
        share = 0.5 + 0.5 * math.sin(start + wave * number)
        mixed = (share * light + (1 - share) * other)[None]
        frames.append(
            F.grid_sample(mixed, grid, mode="bicubic", padding_mode="reflection", align_corners=False)[0]
        )
    return torch.stack(frames, dim=1)


def encode_clips(encode: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """The code of clips [B, 3, 4n + 1, H, W] by the code of stills: of every fourth frame."""
    code = encode(rearrange(clips[:, :, ::4], "b c t h w -> (b t) c h w"))
    return rearrange(code, "(b t) c h w -> b c t h w", b=len(clips))


@torch.inference_mode()
def decoded_both_ways(vae: WanVAE, clip: Tensor) -> tuple[Tensor, Tensor]:
    """A clip [3, 4n + 1, H, W] in [-1, 1] after the VAE, as a clip and frame by frame."""
    one_by_one = torch.cat([vae.decode(vae.encode(frame[None])) for frame in clip.unbind(dim=1)])
    return vae.decode(vae.encode(clip[None]))[0], rearrange(one_by_one, "t c h w -> c t h w")


def unsteadiness(clip: Tensor) -> float:
    """How much a clip [3, T, H, W] in [-1, 1] jerks: the root mean square of its second difference in time, of 255."""
    return clip.diff(n=2, dim=1).square().mean().sqrt().item() * 127.5


def _without_present(gradient: Tensor) -> Tensor:
    """Nothing for the last time slice of a kernel, which is all that a still sees."""
    kept = gradient.clone()
    kept[:, :, -1] = 0
    return kept


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
