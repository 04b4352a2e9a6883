"""The blocks of the Wan VAE, on batches of frames.

Everything here works on frames [N, C, H, W] in channels-last memory: a batch of stills, or a chunk of a clip, stacked
time-major (`causal_conv`).

Module and parameter names are those of the original Wan checkpoint (`residual.0.gamma`, `time_conv.weight`).
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .causal_conv import FrameMemory, cast_parameter, causal_conv, conv3d

# Elements of a piece of norm and SiLU on the CPU: 8 MB in float32, which stays in the cache between passes.
CACHED_ELEMENTS = 2 << 20


def conv2d(
    operations: ModuleType | type, inputs: int, outputs: int, kernel: int, **options: int
) -> nn.Module:
    """A 2-D convolution with its kernel in channels-last memory."""
    conv = operations.Conv2d(inputs, outputs, kernel, **options)
    if conv.weight is not None:
        conv.to(memory_format=torch.channels_last)
    return conv


def run_conv2d(conv: nn.Module, frames: Tensor, padding: int = 0) -> Tensor:
    weight, bias = cast_parameter(conv.weight, frames), cast_parameter(conv.bias, frames)
    return F.conv2d(frames, weight, bias, conv.stride, padding)


class RMSNorm(nn.Module):
    """Divide each pixel's channel vector by its root mean square and multiply by `gamma`.

    Args:
        channels: channels C.
        spatial_dims: trailing 1-dimensions of gamma, [C, 1, 1, 1] or [C, 1, 1] as in the checkpoint.
    """

    def __init__(self, channels: int, spatial_dims: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * spatial_dims))

    def forward(self, frames: Tensor) -> Tensor:
        pixels = rearrange(frames, "n c h w -> (n h w) c")
        return rearrange(
            self._normalize(pixels), "(n h w) c -> n c h w", n=frames.shape[0], h=frames.shape[2]
        )

    def with_silu(self, frames: Tensor) -> Tensor:
        """`silu(self(frames))`, in pieces that stay in the CPU's cache when no gradient is wanted."""
        if torch.is_grad_enabled() or frames.device.type != "cpu":
            return F.silu(self(frames))
        pixels = rearrange(frames, "n c h w -> (n h w) c")
        result = torch.empty_like(pixels)
        rows = max(1, CACHED_ELEMENTS // frames.shape[1])
        for source, target in zip(pixels.split(rows), result.split(rows), strict=True):
            F.silu(self._normalize(source, target), inplace=True)
        return rearrange(result, "(n h w) c -> n c h w", n=frames.shape[0], h=frames.shape[2])

    def _normalize(self, pixels: Tensor, out: Tensor | None = None) -> Tensor:
        """[pixels, C] -> the same, into `out` if given (then without gradients)."""
        gamma = cast_parameter(self.gamma, pixels).flatten() * pixels.shape[1] ** 0.5
        length = torch.linalg.vector_norm(pixels, dim=1, keepdim=True).clamp_min(1e-12)
        if out is None:
            return pixels / length * gamma
        return torch.div(pixels, length, out=out).mul_(gamma)


class ResidualBlock(nn.Module):
    """Norm, SiLU, causal convolution, twice; plus the input (a 1x1 convolution fits its channels)."""

    def __init__(self, operations: ModuleType | type, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            RMSNorm(inputs),
            nn.SiLU(),
            conv3d(operations, inputs, outputs, 3, padding=1),
            RMSNorm(outputs),
            nn.SiLU(),
            nn.Dropout(0.0),
            conv3d(operations, outputs, outputs, 3, padding=1),
        )
        self.shortcut = conv3d(operations, inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, frames: Tensor, memory: FrameMemory | None) -> Tensor:
        norm_1, _, conv_1, norm_2, _, _, conv_2 = self.residual
        hidden = causal_conv(conv_1, norm_1.with_silu(frames), memory)
        hidden = causal_conv(conv_2, norm_2.with_silu(hidden), memory)
        if isinstance(self.shortcut, nn.Identity):
            return hidden.add_(frames)
        return hidden.add_(causal_conv(self.shortcut, frames, None))


class AttentionBlock(nn.Module):
    """Single-head self-attention over the pixels of each frame."""

    def __init__(self, operations: ModuleType | type, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, spatial_dims=2)
        self.to_qkv = conv2d(operations, channels, channels * 3, 1)
        self.proj = conv2d(operations, channels, channels, 1)

    def forward(self, frames: Tensor, memory: FrameMemory | None = None) -> Tensor:
        height = frames.shape[2]
        qkv = run_conv2d(self.to_qkv, self.norm(frames))
        query, key, value = rearrange(qkv, "n (three c) h w -> three n 1 (h w) c", three=3)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return run_conv2d(self.proj, rearrange(mixed, "n 1 (h w) c -> n c h w", h=height)).add_(frames)


class Downsample(nn.Module):
    """Halve height and width; with `temporal`, also halve time after a clip's first frame."""

    def __init__(self, operations: ModuleType | type, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), conv2d(operations, channels, channels, 3, stride=2)
        )
        self.time_conv = conv3d(operations, channels, channels, (3, 1, 1)) if temporal else None

    def forward(self, frames: Tensor, memory: FrameMemory | None) -> Tensor:
        pad, conv = self.resample
        frames = run_conv2d(conv, pad(frames))
        if memory is None or self.time_conv is None:
            return frames
        if self.time_conv not in memory:
            memory.remember(self.time_conv, frames, 1)
            return frames
        seen = memory.recall(self.time_conv, frames)
        memory.remember(self.time_conv, frames, 1)
        return self._halve_time(seen, memory.batch)

    def _halve_time(self, seen: Tensor, batch: int) -> Tensor:
        """Time convolution of stride 2 on 1 + 2n time steps -> n."""
        steps = rearrange(seen, "(t b) c h w -> t b c h w", b=batch)
        weight, bias = cast_parameter(self.time_conv.weight, seen), cast_parameter(self.time_conv.bias, seen)
        taps = [
            F.conv2d(steps[first:last:2].flatten(0, 1), weight[:, :, tap], bias if tap == 2 else None)
            for tap, (first, last) in enumerate([(0, -2), (1, -1), (2, None)])
        ]
        return taps[0] + taps[1] + taps[2]


class Upsample(nn.Module):
    """Double height and width and halve the channels; with `temporal`, double time after the first frame."""

    def __init__(self, operations: ModuleType | type, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest-exact"),
            conv2d(operations, channels, channels // 2, 3, padding=1),
        )
        self.time_conv = conv3d(operations, channels, 2 * channels, (3, 1, 1)) if temporal else None

    def forward(self, frames: Tensor, memory: FrameMemory | None) -> Tensor:
        if memory is not None and self.time_conv is not None:
            if self.time_conv in memory:
                doubled = causal_conv(self.time_conv, frames, memory)
                frames = rearrange(doubled, "(t b) (two c) h w -> (t two b) c h w", two=2, b=memory.batch)
            else:
                # The first latent frame is one frame, and the time convolution never sees it.
                memory.remember(self.time_conv, frames, 0)
        return upsampled_conv(self.resample[1], frames)


def upsampled_conv(conv: nn.Module, frames: Tensor) -> Tensor:
    """Double the size by repeating pixels, then run a 3x3 convolution, without making the larger input.

    Each output pixel sees only 2x2 input pixels, with kernel rows and columns added up where they meet the same
    one: 4/9 of the work. Even outputs meet kernel rows (0), (1, 2) with an input row each, odd ones (0, 1), (2).
    """
    weight, bias = cast_parameter(conv.weight, frames), cast_parameter(conv.bias, frames)
    count, _, height, width = frames.shape
    outputs = weight.shape[0]
    padded = F.pad(frames, (1, 1, 1, 1))
    result = frames.new_empty(count, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)
    for row, kernel_rows in enumerate(_pairs_of_three(weight, dim=2)):
        # Both columns of outputs in one convolution; it computes one column more than either needs.
        kernel = torch.cat(_pairs_of_three(kernel_rows, dim=3)).contiguous(memory_format=torch.channels_last)
        columns = F.conv2d(padded[:, :, row : row + height + 1], kernel, bias.repeat(2))
        result[:, :, row::2, 0::2] = columns[:, :outputs, :, :width]
        result[:, :, row::2, 1::2] = columns[:, outputs:, :, 1:]
    return result


def _pairs_of_three(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Kernels of 3 along `dim` as seen by even and by odd pixels of a doubled image: of 2 along `dim`."""
    first, middle, last = weight.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)
