"""The Wan 2.1 video VAE (also Wan 2.2-A14B's), for stills and clips, without ComfyUI or diffusers.

Images are in [-1, 1]; a latent has 1/8 of the height and width, and n + 1 time steps for 4n + 1 frames.
Parameter names are those of the original Wan checkpoint, so a state dict also loads into ComfyUI's class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from einops import rearrange
from torch import Tensor, nn

from .causal_conv import FrameMemory, causal_conv, conv3d
from .errors import DelitError
from .wan_vae_blocks import AttentionBlock, Downsample, ResidualBlock, RMSNorm, Upsample

# What is run on frames [N, C, H, W] with the memory of their clip.
Block = Callable[[Tensor, FrameMemory | None], Tensor]

SPATIAL_FACTOR = 8
TEMPORAL_FACTOR = 4

# Per-channel latent statistics of the released Wan 2.1 VAE: z_n = (z - mean) / std.
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True)
class WanVAEConfig:
    """The shape of a Wan VAE.

    Attributes:
        dim: channels at full resolution (96 in the released VAE).
        z_dim: latent channels.
        channels: image channels.
        dim_mult: channels of each level as multiples of dim; three levels of downsampling.
        num_res_blocks: residual blocks a level in the encoder (the decoder has one more).
        temporal_downsample: for each downsampling, whether it also halves time.
    """

    dim: int = 96
    z_dim: int = 16
    channels: int = 3
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)

    @staticmethod
    def from_state_dict(shapes: Mapping[str, Tensor]) -> WanVAEConfig:
        """Read dim, z_dim and channels off tensors (or anything with `.shape`) in the original key layout."""
        outputs, channels = shapes["encoder.conv1.weight"].shape[:2]
        return WanVAEConfig(dim=outputs, z_dim=shapes["conv2.weight"].shape[0], channels=channels)


class Encoder(nn.Module):
    """Frames -> mean and log-variance before the last 1x1 convolution, 2 * z_dim channels."""

    def __init__(self, config: WanVAEConfig, operations: ModuleType | type) -> None:
        super().__init__()
        widths = [config.dim * multiple for multiple in config.dim_mult]
        self.conv1 = conv3d(operations, config.channels, config.dim, 3, padding=1)
        downsamples: list[nn.Module] = []
        width = config.dim
        for level, next_width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                downsamples.append(ResidualBlock(operations, width, next_width))
                width = next_width
            if level < len(config.temporal_downsample):
                downsamples.append(Downsample(operations, width, config.temporal_downsample[level]))
        self.downsamples = nn.Sequential(*downsamples)
        self.middle = middle_blocks(operations, width)
        self.head = head_blocks(operations, width, 2 * config.z_dim)

    def forward(self, frames: Tensor, memory: FrameMemory | None) -> Tensor:
        first, last = partial(causal_conv, self.conv1), partial(run_head, self.head)
        return run_blocks([first, *self.downsamples, *self.middle, last], frames, memory)


class Decoder(nn.Module):
    """Latent frames after the first 1x1 convolution -> image frames."""

    def __init__(self, config: WanVAEConfig, operations: ModuleType | type) -> None:
        super().__init__()
        widths = [config.dim * multiple for multiple in reversed(config.dim_mult)]
        temporal_upsample = tuple(reversed(config.temporal_downsample))
        width = widths[0]
        self.conv1 = conv3d(operations, config.z_dim, width, 3, padding=1)
        self.middle = middle_blocks(operations, width)
        upsamples: list[nn.Module] = []
        for level, next_width in enumerate(widths):
            for _ in range(config.num_res_blocks + 1):
                upsamples.append(ResidualBlock(operations, width, next_width))
                width = next_width
            if level < len(temporal_upsample):
                upsamples.append(Upsample(operations, width, temporal_upsample[level]))
                width //= 2
        self.upsamples = nn.Sequential(*upsamples)
        self.head = head_blocks(operations, width, config.channels)

    def forward(self, latents: Tensor, memory: FrameMemory | None) -> Tensor:
        first, last = partial(causal_conv, self.conv1), partial(run_head, self.head)
        return run_blocks([first, *self.middle, *self.upsamples, last], latents, memory)


def middle_blocks(operations: ModuleType | type, width: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(operations, width, width),
        AttentionBlock(operations, width),
        ResidualBlock(operations, width, width),
    )


def head_blocks(operations: ModuleType | type, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(RMSNorm(width), nn.SiLU(), conv3d(operations, width, outputs, 3, padding=1))


def run_head(head: nn.Sequential, frames: Tensor, memory: FrameMemory | None) -> Tensor:
    norm, _, conv = head
    return causal_conv(conv, norm.with_silu(frames), memory)


def run_blocks(blocks: Sequence[Block], frames: Tensor, memory: FrameMemory | None) -> Tensor:
    """Run blocks one after another on a batch of stills, or on a chunk of a clip in pieces of two time steps.

    Pieces are put together again behind each block that changes time. Two steps bound the memory, and a causal
    convolution does them with the least work.
    """
    if memory is None:
        return run_in_turn(blocks, frames, None)
    while blocks:
        changes = [n for n, block in enumerate(blocks) if getattr(block, "time_conv", None) is not None]
        count = changes[0] + 1 if changes else len(blocks)
        pieces = [run_in_turn(blocks[:count], piece, memory) for piece in frames.split(2 * memory.batch)]
        frames = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        blocks = blocks[count:]
    return frames


def run_in_turn(blocks: Sequence[Block], frames: Tensor, memory: FrameMemory | None) -> Tensor:
    for block in blocks:
        frames = block(frames, memory)
    return frames


class WanVAE(nn.Module):
    """Encode images or clips to latents and back.

    Args:
        config: widths and channels.
        operations: where Conv2d and Conv3d come from: torch.nn, or a namespace with the same names.

    Weights may be in another dtype or on another device than the input: they are cast as they are used.
    Gradients reach every parameter that the input uses (stills use a causal kernel's last time slice).
    """

    def __init__(self, config: WanVAEConfig, operations: ModuleType | type = nn) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, operations)
        self.conv1 = conv3d(operations, 2 * config.z_dim, 2 * config.z_dim, 1)
        self.conv2 = conv3d(operations, config.z_dim, config.z_dim, 1)
        self.decoder = Decoder(config, operations)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.conv1.weight.device

    @property
    def temporal(self) -> bool:
        """Whether it was trained on clips: one that only stills trained has zeros where its first kernel looks back."""
        return bool(self.encoder.conv1.weight[:, :, :-1].any())

    def encode(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] to the latent mean.

        Args:
            x: stills [B, C, H, W] or clips [B, C, T, H, W], T = 4n + 1; H and W multiples of 8.

        Returns:
            [B, z_dim, H/8, W/8] or [B, z_dim, n + 1, H/8, W/8].

        Raises:
            DelitError: a shape that does not fit; the message says how to pad.
        """
        self._check_images(x)
        if x.ndim == 4:
            return self._encode_frames(x, None)
        if x.shape[2] == 1:
            return self._encode_frames(x[:, :, 0], None).unsqueeze(2)
        check_clip_length(x.shape[2])
        return torch.cat(list(self.encode_stream([x])), dim=2)

    def decode(self, z: Tensor) -> Tensor:
        """Latents to images, nominally in [-1, 1] (not clamped).

        Args:
            z: [B, z_dim, h, w], or [B, z_dim, t, h, w] for clips.

        Returns:
            [B, C, 8h, 8w] or [B, C, 4(t - 1) + 1, 8h, 8w].

        Raises:
            DelitError: a shape that does not fit.
        """
        self._check_latents(z)
        if z.ndim == 4:
            return self._decode_frames(z, None)
        if z.shape[2] == 1:
            return self._decode_frames(z[:, :, 0], None).unsqueeze(2)
        return torch.cat(list(self.decode_stream([z])), dim=2)

    def encode_stream(self, clips: Iterable[Tensor]) -> Iterator[Tensor]:
        """Encode a clip that arrives in pieces, in memory that does not grow with its length.

        Args:
            clips: consecutive pieces [B, C, t, H, W] of one clip in [-1, 1], of any lengths t;
                4n + 1 frames altogether.

        Yields:
            Latents [B, z_dim, 1, H/8, W/8], one time step each; together equal to `encode` of the whole clip.

        Raises:
            DelitError: a shape that does not fit, or (at the end) a number of frames that is not 4n + 1.
        """
        memory = None
        for chunk in regroup(self._checked_clips(clips), first=1, rest=TEMPORAL_FACTOR):
            if memory is None:
                memory = FrameMemory(chunk.shape[0])
            latents = self._encode_frames(rearrange(chunk, "b c t h w -> (t b) c h w"), memory)
            yield rearrange(latents, "(t b) c h w -> b c t h w", b=memory.batch)

    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode a clip that arrives in pieces, in memory that does not grow with its length.

        Args:
            latents: consecutive pieces [B, z_dim, t, h, w] of one clip's latents, of any lengths t.

        Yields:
            Frames [B, C, 1, 8h, 8w], then [B, C, 4, 8h, 8w] for each further time step; together equal to
            `decode` of the whole clip.

        Raises:
            DelitError: a shape that does not fit.
        """
        memory = None
        for step in regroup(self._checked_latents(latents), first=1, rest=1):
            if memory is None:
                memory = FrameMemory(step.shape[0])
            frames = self._decode_frames(step[:, :, 0], memory)
            yield rearrange(frames, "(t b) c h w -> b c t h w", b=memory.batch)

    def _encode_frames(self, frames: Tensor, memory: FrameMemory | None) -> Tensor:
        # The memory keeps frames, so those of a clip are copied: whoever gave them may write to them afterwards.
        lay_out = frames.contiguous if memory is None else frames.clone
        hidden = self.encoder(lay_out(memory_format=torch.channels_last), memory)
        moments = causal_conv(self.conv1, hidden, None)
        return moments[:, : self.config.z_dim].contiguous()

    def _decode_frames(self, latents: Tensor, memory: FrameMemory | None) -> Tensor:
        hidden = causal_conv(self.conv2, latents.contiguous(memory_format=torch.channels_last), None)
        return self.decoder(hidden, memory)

    def _checked_clips(self, clips: Iterable[Tensor]) -> Iterator[Tensor]:
        for clip in clips:
            if clip.ndim != 5:
                raise DelitError(
                    f"A stream takes clips [B, C, t, H, W], not a tensor of shape {list(clip.shape)}."
                )
            self._check_images(clip)
            yield clip

    def _checked_latents(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        for piece in latents:
            if piece.ndim != 5:
                raise DelitError(
                    f"A stream takes latents [B, C, t, h, w], not a tensor of shape {list(piece.shape)}."
                )
            self._check_latents(piece)
            yield piece

    def _check_images(self, x: Tensor) -> None:
        channels = self.config.channels
        if x.ndim not in (4, 5) or x.shape[1] != channels or x.numel() == 0:
            raise DelitError(
                f"The VAE encodes stills [B, {channels}, H, W] or clips [B, {channels}, T, H, W], "
                f"not a tensor of shape {list(x.shape)}."
            )
        if not x.is_floating_point():
            raise DelitError(f"The VAE encodes floating-point images in [-1, 1], not {x.dtype}.")
        height, width = x.shape[-2:]
        if height % SPATIAL_FACTOR or width % SPATIAL_FACTOR:
            wanted_height, wanted_width = (
                -(-size // SPATIAL_FACTOR) * SPATIAL_FACTOR for size in (height, width)
            )
            raise DelitError(
                f"The image is {width} x {height}, but the VAE needs both to be multiples of "
                f"{SPATIAL_FACTOR}. Pad it to {wanted_width} x {wanted_height}, for example by reflection."
            )

    def _check_latents(self, z: Tensor) -> None:
        z_dim = self.config.z_dim
        if z.ndim not in (4, 5) or z.shape[1] != z_dim or z.numel() == 0:
            raise DelitError(
                f"The VAE decodes latents [B, {z_dim}, h, w] or [B, {z_dim}, t, h, w], not a tensor of shape "
                f"{list(z.shape)}. Use a latent made with a Wan 2.1 VAE."
            )
        if not z.is_floating_point():
            raise DelitError(f"The VAE decodes floating-point latents, not {z.dtype}.")


def check_clip_length(frames: int) -> None:
    """Raise DelitError unless a clip has 4n + 1 frames."""
    if frames < 1 or (frames - 1) % TEMPORAL_FACTOR:
        wanted = -(-max(frames - 1, 0) // TEMPORAL_FACTOR) * TEMPORAL_FACTOR + 1
        raise DelitError(
            f"The clip has {frames} frames, but the VAE needs 4n + 1 (1, 5, 9, 13, ...). "
            f"Pad it to {wanted} by repeating the last frame, and drop the extra frames after decoding."
        )


def regroup(pieces: Iterable[Tensor], first: int, rest: int) -> Iterator[Tensor]:
    """Cut consecutive pieces [B, C, t, H, W] into chunks of `first`, then `rest` time steps.

    Raises:
        DelitError: pieces that do not continue each other, or frames left over at the end.
    """
    waiting: list[Tensor] = []
    available = taken = 0
    size = first
    for piece in pieces:
        if waiting and (piece.shape[:2], piece.shape[3:]) != (waiting[0].shape[:2], waiting[0].shape[3:]):
            raise DelitError(
                f"The pieces of one clip must be alike, but {list(waiting[0].shape)} is followed by "
                f"{list(piece.shape)}. Start a new stream for another clip."
            )
        waiting.append(piece)
        available += piece.shape[2]
        while available >= size:
            buffer = waiting[0] if len(waiting) == 1 else torch.cat(waiting, dim=2)
            yield buffer[:, :, :size]
            taken += size
            available -= size
            waiting = [buffer[:, :, size:]]
            size = rest
    if available or not taken:
        check_clip_length(taken + available)
