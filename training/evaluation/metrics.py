"""How good a flat-lit picture and a light are, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from delit_models.color import luminance
from delit_models.detail_transfer import transfer_detail
from delit_models.env_codec import decode_env
from delit_models.heads import DelitHeads
from delit_models.lat_long import direction_grid, solid_angles
from delit_models.wan_vae import WanVAE
from training.augment.variants import target_picture
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


@dataclass(frozen=True)
class Evaluation:
    """Held-out metrics, each the mean over pictures. All PSNR are in dB over RGB inside the subject's mask, against
    the picture that the heads are trained towards (`training.augment.variants.target_picture`).

    Attributes:
        flat_psnr: the flat-lit picture as the VAE decodes it.
        flat_psnr_detail: with detail transfer, which is what a user gets.
        input_psnr: the untouched relit picture: what doing nothing scores.
        ceiling_psnr: the true flat-lit picture through the VAE: what perfect heads would score.
        env_irradiance_error: mean |log2| error in stops of the light on surfaces of all orientations.
        mean_env_irradiance_error: the same for the training set's mean environment (`mean_environment`).
        light_direction_error: angle in degrees between the directions that light comes from on the whole.
        mean_env_direction_error: the same for the training set's mean environment.
        pictures: how many were measured.
    """

    flat_psnr: float
    flat_psnr_detail: float
    input_psnr: float
    ceiling_psnr: float
    env_irradiance_error: float
    mean_env_irradiance_error: float
    light_direction_error: float
    mean_env_direction_error: float
    pictures: int

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


@torch.inference_mode()
def evaluate_heads(
    vae: WanVAE,
    heads: DelitHeads,
    pairs: Pairs,
    mean_env: Tensor,
    limit: int | None = None,
    flat_vae: WanVAE | None = None,
) -> Evaluation:
    """Run heads on held-out pairs, spread evenly over the set, and measure.

    Args:
        flat_vae: what decodes flat-lit latents, where it is not `vae` (DelitPipeline).
        mean_env: what to compare the light with, [3, 128, 256]: see `mean_environment_of`.
        limit: measure on so many pairs at the most.
    """
    device = next(vae.parameters()).device
    count = min(len(pairs), limit or len(pairs))
    sums: dict[str, float] = {}
    for index in spread(len(pairs), count):
        pair = pairs[index]
        target = target_picture(pair)
        relit, flat, mask, env = (x[None].to(device) for x in (pair.relit, target, pair.mask, pair.env))
        z = vae.encode(relit * 2 - 1)
        z_flat, env_code, _ = heads(z)
        decoder = flat_vae or vae
        made, reconstruction, ceiling = (
            (way.decode(latent).clamp(-1, 1) + 1) / 2
            for way, latent in ((decoder, z_flat), (vae, z), (decoder, vae.encode(flat * 2 - 1)))
        )
        light = decode_env(env_code)
        scores = {
            "flat_psnr": psnr(made, flat, mask),
            "flat_psnr_detail": psnr(transfer_detail(relit, reconstruction, made), flat, mask),
            "input_psnr": psnr(relit, flat, mask),
            "ceiling_psnr": psnr(ceiling, flat, mask),
        }
        for name, guess in (("env", light), ("mean_env", mean_env[None].to(device))):
            scores[f"{name}_irradiance_error"] = irradiance_error(guess, env)
        scores["light_direction_error"] = direction_error(light, env)
        scores["mean_env_direction_error"] = direction_error(mean_env[None].to(device), env)
        for name, value in scores.items():
            sums[name] = sums.get(name, 0.0) + value.item()
    return Evaluation(**{name: total / count for name, total in sums.items()}, pictures=count)


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
