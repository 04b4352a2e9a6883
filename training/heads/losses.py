"""What the heads are trained to make small."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from delit_models.env_codec import decode_env
from delit_models.heads import ENV_HEIGHT, ENV_WIDTH
from delit_models.lat_long import direction_grid, solid_angles
from delit_models.wan_vae import WanVAE

# How much the picture behind the subject counts: the heads should leave it alone, but it is not their job.
BACKGROUND_WEIGHT = 0.1
IRRADIANCE_HEIGHT = 16
NORMALS_HEIGHT = 8
# Weighted squared latent error below which a picture counts as solved.
SOLVED = 0.02
# Below this irradiance (linear, image-referred) errors are about noise, not light.
DARK = 0.02


@torch.no_grad()
def channel_weights(vae: WanVAE, z: Tensor) -> Tensor:
    """How much each latent channel matters to the picture, [16], with mean 1.

    Measured: the mean squared change of decoded pixels when a channel is nudged by a tenth of its deviation,
    divided by the nudge squared. A latent error weighted like this stands for a pixel error, at none of the cost
    of decoding.

    Args:
        z: some latents of the training data, [N, 16, h, w].
    """
    z = z[:2]
    base = vae.decode(z)
    weights = []
    for channel in range(z.shape[1]):
        nudge = 0.1 * z[:, channel].std().clamp(min=1e-4)
        nudged = z.clone()
        # Random signs, so that neighbours do not add up to a flat shift that the decoder treats alone.
        nudged[:, channel] += nudge * (torch.randint_like(z[:, channel], 2) * 2 - 1)
        weights.append((vae.decode(nudged) - base).square().mean() / nudge.square())
    stacked = torch.stack(weights)
    return stacked / stacked.mean()


def irradiance(radiance: Tensor) -> Tensor:
    """Light arriving at surfaces of all orientations.

    Args:
        radiance: lat-long [B, 3, 128, 256], linear.

    Returns:
        [B, 3, N]: what a white diffuse surface shows, (1/π) ∫ L · max(0, n · ω) dω, for N = 128 normals on a
        lat-long grid.
    """
    small = F.avg_pool2d(radiance, ENV_HEIGHT // IRRADIANCE_HEIGHT)
    normals = rearrange(direction_grid(NORMALS_HEIGHT, 2 * NORMALS_HEIGHT), "h w d -> (h w) d")
    directions = rearrange(direction_grid(IRRADIANCE_HEIGHT, 2 * IRRADIANCE_HEIGHT), "h w d -> (h w) d")
    areas = solid_angles(IRRADIANCE_HEIGHT, 2 * IRRADIANCE_HEIGHT).expand(-1, 2 * IRRADIANCE_HEIGHT)
    kernel = (normals @ directions.T).clamp(min=0) * areas.reshape(1, -1) / torch.pi
    return rearrange(small, "b c h w -> b c (h w)") @ kernel.T.to(small)


class HeadsLoss(nn.Module):
    """Flat-lit latent error (log, picture by picture), env code error and irradiance error."""

    def __init__(self, weights: Tensor, use_mask: bool) -> None:
        super().__init__()
        self.register_buffer("weights", weights[:, None, None])
        self.background = 0.0 if use_mask else BACKGROUND_WEIGHT
        areas = solid_angles(ENV_HEIGHT, ENV_WIDTH).expand(ENV_HEIGHT, ENV_WIDTH)
        self.register_buffer("areas", areas / areas.mean())

    def forward(
        self, z_flat: Tensor, z_target: Tensor, mask: Tensor, env_code: Tensor, code_target: Tensor
    ) -> dict[str, Tensor]:
        """Shapes as in latent_cache.LatentPair. Returns the named parts, to be summed."""
        where = mask + self.background * (1 - mask)
        squared = where * self.weights * (z_flat - z_target).square()
        area = where.sum(dim=(1, 2, 3)).clamp(min=1.0) * squared.shape[1]
        # The logarithm counts in decibels: a dark picture, whose errors are small, matters as much as a light one.
        flat = (squared.sum(dim=(1, 2, 3)) / area / SOLVED).log1p().mean()
        absolute = (env_code - code_target).abs().mean(dim=1)
        code = (self.areas * absolute).mean()
        shading, shading_target = (
            (irradiance(decode_env(x.clamp(0, 1))) + DARK).log() for x in (env_code, code_target)
        )
        light = (shading - shading_target).abs().mean()
        return {"flat": flat, "code": 4 * code, "light": light}
