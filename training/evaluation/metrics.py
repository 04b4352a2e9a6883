"""How good a flat-lit picture and a light are, in numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from delit_models.color import luminance
from delit_models.lat_long import direction_grid, solid_angles
from training.data.pairs import Pairs
from training.heads.losses import DARK, irradiance

# So many maps tell what light a data set has.
MEAN_ENV_MAPS = 400
# A map darker than this, in mean luminance, counts as this dark: black has no logarithm.
DARKEST_MAP = 1e-3


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each picture, over all colours, inside the mask.

    Args:
        image, truth: [B, C, H, W] in [0, 1]. mask: [B, 1, H, W] weights, or None for the whole picture.

    Returns:
        [B] in dB.
    """
    weight = torch.ones_like(truth[:, :1]) if mask is None else mask
    squared = (weight * (image - truth).square()).sum(dim=(1, 2, 3))
    mean = squared / (weight.sum(dim=(1, 2, 3)) * truth.shape[1]).clamp(min=1e-8)
    return -10 * torch.log10(mean.clamp(min=1e-12))


def spread(length: int, count: int) -> list[int]:
    """At most `count` places out of `length`, evenly spread from the first to the last."""
    return torch.linspace(0, length - 1, min(length, count)).long().tolist()


def mean_environment_of(pairs: Pairs) -> Tensor:
    """The `mean_environment` of a data set, over 400 of its maps at the most; [3, 128, 256]. Of the training pairs it
    is the baseline that knows no picture."""
    return mean_environment(torch.stack([pairs.light(index) for index in spread(len(pairs), MEAN_ENV_MAPS)]))


def mean_environment(envs: Tensor) -> Tensor:
    """The arithmetic mean of maps that were all brought to their typical brightness first: the best light to guess
    without looking at the picture.

    The typical brightness is the geometric mean over the maps of their mean luminance, which is also the mean
    irradiance over surfaces of all orientations. A plain arithmetic mean would be that of the few brightest maps, and
    a geometric mean pixel by pixel far too dark, as every map has its sun or lamp elsewhere: baselines that are too
    easily beaten.

    Args:
        envs: radiance [N, 3, H, W], linear.

    Returns:
        [3, H, W].
    """
    levels = mean_luminance(envs).clamp(min=DARKEST_MAP)
    typical = levels.log().mean().exp()
    return torch.einsum("n, n c h w -> c h w", typical / levels, envs) / len(envs)


def irradiance_error(light: Tensor, truth: Tensor) -> Tensor:
    """Mean |log2| difference in stops of the irradiance of lat-longs [B, 3, 128, 256]; [B]."""
    shading, expected = ((irradiance(x) + DARK).log2() for x in (light, truth))
    return (shading - expected).abs().mean(dim=(1, 2))


def direction_error(light: Tensor, truth: Tensor) -> Tensor:
    """Angle in degrees between the luminance-weighted mean directions of lat-longs [B, 3, 128, 256]; [B]."""
    directions = [net_direction(x) for x in (light, truth)]
    cosine = F.cosine_similarity(*directions, dim=-1)
    return torch.rad2deg(cosine.clamp(-1, 1).acos())


def mean_luminance(env: Tensor) -> Tensor:
    """Luminance of lat-longs [B, 3, H, W], averaged over the sphere; [B]."""
    return _energy(env).sum(dim=(1, 2)) / (4 * torch.pi)


def net_direction(env: Tensor) -> Tensor:
    """∫ Y(ω) · ω dω of lat-longs [B, 3, H, W], Y being luminance; [B, 3]."""
    height, width = env.shape[-2:]
    weights = _energy(env)
    return torch.einsum("b h w, h w d -> b d", weights, direction_grid(height, width).to(env))


def _energy(env: Tensor) -> Tensor:
    """Luminance times solid angle of each pixel of lat-longs [B, 3, H, W]; [B, H, W]."""
    height, width = env.shape[-2:]
    return luminance(env, dim=1) * solid_angles(height, width).expand(height, width).to(env)
