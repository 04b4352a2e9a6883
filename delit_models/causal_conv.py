"""Causal 3-D convolutions of the Wan VAE, on frames [N, C, H, W] in channels-last memory.

For stills N is the batch. For a clip the frames of a chunk are stacked time-major, N = (t b), and a `FrameMemory`
carries what the convolutions need from earlier chunks. A causal 3-D convolution is the sum of one 2-D convolution per
time slice of its kernel; where a slice would see only the zeros before the clip it is left out. So a single frame costs
one 2-D convolution, and a clip needs no zero padding in time. Two frames at once cost four 2-D convolutions, not six.
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Elements of a strip on the CPU: 4 MB in float32, so that a strip and what is made of it stay in the cache.
STRIP_ELEMENTS = 1 << 20
# Fewer rows would mostly compute each other's border.
FEWEST_ROWS = 8


class FrameMemory:
    """What a stream keeps between chunks: for each causal convolution, its last input frames.

    Args:
        batch: clips in the batch; the frames of one time step.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._past: dict[nn.Module, Tensor] = {}

    def __contains__(self, conv: nn.Module) -> bool:
        return conv in self._past

    def recall(self, conv: nn.Module, frames: Tensor) -> Tensor:
        """The remembered frames of `conv` followed by `frames`, [(k + t) b, C, H, W]."""
        past = self._past.get(conv)
        return frames if past is None or len(past) == 0 else torch.cat([past, frames])

    def recall_two(self, conv: nn.Module, frames: Tensor) -> Tensor:
        """The last two time steps that `conv` has seen, [2 b, C, H, W], zeros where the clip had not begun."""
        past = self._past.get(conv, frames[:0])
        lacking = 2 * self.batch - len(past)
        return torch.cat([torch.zeros_like(frames[:lacking]), past]) if lacking else past

    def remember(self, conv: nn.Module, frames: Tensor, steps: int) -> None:
        """Keep the last `steps` time steps of `frames` for `conv`.

        All frames are kept as they are, and must not be written to; fewer are copied, so that the rest can be freed.
        """
        count = min(steps * self.batch, len(frames))
        last = frames[len(frames) - count :]
        self._past[conv] = last if count == len(frames) else last.clone(memory_format=torch.preserve_format)


def lay_out_by_time(conv: nn.Module) -> nn.Module:
    """Store a 3-D kernel with time outermost and channels innermost, and return the module.

    Each time slice is then a channels-last 2-D kernel as it stands: a view that needs no copy, and no cache
    that could go stale when the weights change. The values and the shape do not change.
    """
    weight = getattr(conv, "weight", None)
    if weight is not None:
        by_time = weight.detach().permute(2, 0, 3, 4, 1).contiguous().permute(1, 4, 0, 2, 3)
        conv.weight = nn.Parameter(by_time, requires_grad=weight.requires_grad)
    return conv


def conv3d(
    operations: ModuleType | type,
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int, int],
    padding: int = 0,
) -> nn.Module:
    """A 3-D convolution to be run by `causal_conv`; `padding` is spatial only."""
    return lay_out_by_time(operations.Conv3d(inputs, outputs, kernel, padding=(0, padding, padding)))


def cast_parameter(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    """A parameter on the device and in the dtype of the activations (weights may be stored elsewhere)."""
    return None if parameter is None else parameter.to(device=like.device, dtype=like.dtype)


def causal_conv(conv: nn.Module, frames: Tensor, memory: FrameMemory | None) -> Tensor:
    """Run a causal 3-D convolution of time stride 1 on frames [(t b), C, H, W]; without memory, t is 1.

    The memory keeps `frames`: they must not be written to afterwards.
    """
    weight, bias = cast_parameter(conv.weight, frames), cast_parameter(conv.bias, frames)
    padding, time_size = conv.padding[1:], weight.shape[2]
    if memory is None or time_size == 1:
        return F.conv2d(frames, weight[:, :, -1], bias, padding=padding)
    if time_size == 3 and len(frames) == 2 * memory.batch and _saves_work(frames):
        past = memory.recall_two(conv, frames)
        memory.remember(conv, frames, 2)
        return _conv_two_steps(weight, bias, padding, past, frames)
    out = F.conv2d(frames, weight[:, :, -1], bias, padding=padding)
    seen = memory.recall(conv, frames)
    for steps_back in range(1, time_size):
        earlier = seen[: len(seen) - steps_back * memory.batch][-len(frames) :]
        if len(earlier) == len(frames):
            out += F.conv2d(earlier, weight[:, :, -1 - steps_back], padding=padding)
        elif len(earlier):
            out[-len(earlier) :] += F.conv2d(earlier, weight[:, :, -1 - steps_back], padding=padding)
    memory.remember(conv, seen, time_size - 1)
    return out


def _saves_work(frames: Tensor) -> bool:
    """Whether `_conv_two_steps` is for these frames: it has no gradients, and adds up more than 16 bits bear."""
    return frames.device.type == "cpu" and frames.dtype.itemsize >= 4 and not torch.is_grad_enabled()


def _conv_two_steps(
    weight: Tensor, bias: Tensor | None, padding: tuple[int, int], past: Tensor, frames: Tensor
) -> Tensor:
    """Two time steps of a causal convolution by four 2-D convolutions: Winograd's F(2, 3) in time.

    Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, equation 5. It goes by strips of rows, so
    that the sums and differences of frames stay in the cache.

    Args:
        weight: [outputs, C, 3, kernel height, kernel width], of an odd height, `padding` half of it.
        past: the two time steps before, [(2 b), C, H, W].
        frames: the two time steps, [(2 b), C, H, W].

    Returns:
        [(2 b), outputs, H, W]
    """
    first, middle, last = weight.unbind(2)
    outer = first + last
    kernels = first, (outer + middle) / 2, (outer - middle) / 2, last
    count, channels, height, width = frames.shape
    rows = max(FEWEST_ROWS, 2 * STRIP_ELEMENTS // (count * max(channels, len(first)) * width))
    result = frames.new_empty(count, height, width, len(first)).permute(0, 3, 1, 2)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        above, below = (padding[0] if edge else 0 for edge in (top == 0, bottom == height))
        seen = slice(top - padding[0] + above, bottom + padding[0] - below)
        a, b = past[:, :, seen].chunk(2)
        c, d = frames[:, :, seen].chunk(2)
        border = above, below, padding[1]
        of_sum = _conv_strip(b + c, kernels[1], None, *border)
        of_difference = _conv_strip(c - b, kernels[2], None, *border)
        earlier, later = result[:, :, top:bottom].chunk(2)
        torch.add(_conv_strip(a - c, kernels[0], bias, *border), of_sum, out=earlier).add_(of_difference)
        torch.add(_conv_strip(d - b, kernels[3], bias, *border), of_sum, out=later).sub_(of_difference)
    return result


def _conv_strip(
    strip: Tensor, kernel: Tensor, bias: Tensor | None, above: int, below: int, beside: int
) -> Tensor:
    """A 2-D convolution of a strip with so many rows of zeros above and below it, and columns at either side."""
    if above == below:
        return F.conv2d(strip, kernel, bias, padding=(above, beside))
    return F.conv2d(F.pad(strip, (0, 0, above, below)), kernel, bias, padding=(0, beside))
