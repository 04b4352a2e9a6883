"""The environment code: HDR radiance as four numbers in [0, 1] that a network can predict.

Shared exponent, with m = max(R, G, B) and epsilon = 2^-10 (DESIGN section 5):

    channel 3     (log2(m + epsilon) + 10) / 26        26 stops: 0 is black, 1 is 2^16
    channels 0-2  (RGB + epsilon) / (m + epsilon)      the colour, relative to its brightest channel

Precision of the stored code. Half a unit in the last place of channel 3 (near 1, the worst case) is
6e-8 in float32, 2.4e-4 in float16 and 2e-3 in bfloat16; times 26 stops, that is a relative error of the
radiance of 1e-6, 0.45% and 3.6%. So a code may be kept in float16, but not in bfloat16, if radiance
is to stay within 1%. Both functions compute in float32 whatever they are given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import DelitError

LOG2_EPSILON = -10.0
EPSILON = 2.0**LOG2_EPSILON
"""Added to radiance before the logarithm and the ratio, so that black has a code."""

MAX_RADIANCE = 65504.0
"""The brightest radiance the code holds: the largest half-precision number."""

STOPS = 26.0
"""Range of the exponent channel in powers of two, from EPSILON = 2^-10 to 2^16."""

CODE_CHANNELS = 4


def encode_env(radiance: Tensor) -> Tensor:
    """Linear radiance [..., 3, H, W] >= 0 -> code [..., 4, H, W] in [0, 1], float32. Differentiable.

    Pixels brighter than MAX_RADIANCE are scaled down to it, keeping their colour.
    Raises DelitError for NaN, infinite or negative radiance, or another number of channels.
    """
    _check_channels(radiance, 3, "radiance")
    radiance = radiance.float()
    _check_radiance(radiance)
    brightest = radiance.amax(dim=-3, keepdim=True)
    radiance = radiance * (MAX_RADIANCE / brightest.clamp(min=MAX_RADIANCE))
    brightest = brightest.clamp(max=MAX_RADIANCE)
    color = (radiance + EPSILON) / (brightest + EPSILON)
    exponent = (torch.log2(brightest + EPSILON) - LOG2_EPSILON) / STOPS
    return torch.cat([color, exponent], dim=-3).clamp(0.0, 1.0)


def decode_env(code: Tensor) -> Tensor:
    """Code [..., 4, H, W] -> linear radiance [..., 3, H, W] in [0, MAX_RADIANCE], float32. Differentiable.

    A network may overshoot: the code is clamped to [0, 1] first (its gradient there is zero).
    Raises DelitError for another number of channels or a code that is not a number.
    """
    _check_channels(code, CODE_CHANNELS, "environment code")
    if not torch.isfinite(code).all():
        raise DelitError(
            f"The environment code {tuple(code.shape)} holds NaN or Inf. The network that made it "
            "overflowed: run it in float32, or load undamaged weights."
        )
    return radiance_of_code(code)


def radiance_of_code(code: Tensor) -> Tensor:
    """`decode_env` without its checks, each of which waits for the device: for training, which looks at its loss."""
    code = code.float().clamp(0.0, 1.0)
    color, exponent = code[..., :3, :, :], code[..., 3:, :, :]
    brightest_plus_epsilon = torch.exp2(exponent * STOPS + LOG2_EPSILON)
    return (color * brightest_plus_epsilon - EPSILON).clamp(0.0, MAX_RADIANCE)


def _check_channels(tensor: Tensor, channels: int, name: str) -> None:
    if tensor.ndim < 3 or tensor.shape[-3] != channels:
        raise DelitError(
            f"Expected {name} of shape [..., {channels}, H, W] (channels before height), "
            f"got {list(tensor.shape)}. Permute the dimensions or pick the channels first."
        )


def _check_radiance(radiance: Tensor) -> None:
    unusable = ~torch.isfinite(radiance) | (radiance < 0)
    count = int(unusable.sum())
    if count:
        where = unusable.nonzero()[0].tolist()
        raise DelitError(
            f"{count} of {radiance.numel()} radiance values are NaN, infinite or negative; the first is "
            f"{radiance[tuple(where)].item()} at index {where}. Light is finite and not negative: repair "
            "or clamp the map first."
        )
