"""What the heads are trained to make small.

The flat-lit picture is judged in pixels, through the straight line from latents to pixels (`linear_code`): how it is
shaded, how bright and tinted it is on the whole, and what is left of shadows' edges. The light is judged on its
radiance: where its energy is, how much there is of it, and what it casts on balls from matte to glossy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from delit_models.color import luminance, srgb_to_linear
from delit_models.env_codec import radiance_of_code
from delit_models.heads import ENV_HEIGHT, ENV_WIDTH, HeadsOutput
from delit_models.lat_long import direction_grid, solid_angles

from .batches import LatentPair
from .linear_code import LinearCode

IRRADIANCE_HEIGHT = 16
NORMALS_HEIGHT = 8
LOBE_HEIGHT = 32
# Below this irradiance (linear, image-referred) errors are about noise, not light.
DARK = 0.02
# Logarithms of pixels are taken above this linear value: what is darker is noise.
BLACK = 0.02
# Charbonnier's knee: errors below it count by their square.
KNEE = 0.01
# Cosine powers whose half-widths are about 40° and 15°, what a half-glossy and a glossy ball mirror.
LOBE_POWERS = (2.6, 20.0)


@dataclass(frozen=True)
class LossWeights:
    """How much each part of the loss counts; docs/training.md tells what each has bought.

    Attributes:
        latent: error of the flat-lit latent, in deviations of its channels.
        picture: error of the coded picture inside the mask.
        shading: error of the logarithm of linear light inside the mask, after the best gain of each colour.
        exposure: that gain.
        edges: what is left of the light's own edges.
        matte: cross-entropy of the matte.
        energy: Kullback-Leibler divergence of the light's energy over directions.
        total: error of the logarithm of the light's total, colour by colour.
        lobes: error of the logarithm of what balls from matte to glossy show.
        code: error of the env code, which alone sees the map's fine detail and dark parts.
    """

    latent: float = 0.3
    picture: float = 4.0
    shading: float = 1.0
    exposure: float = 0.3
    edges: float = 1.0
    matte: float = 0.3
    energy: float = 0.25
    total: float = 0.2
    lobes: float = 0.6
    code: float = 1.5


def irradiance(radiance: Tensor) -> Tensor:
    """Light arriving at surfaces of all orientations.

    Args:
        radiance: lat-long [B, 3, 128, 256], linear.

    Returns:
        [B, 3, N]: what a white diffuse surface shows, (1/π) ∫ L · max(0, n · ω) dω, for N = 128 normals on a
        lat-long grid.
    """
    small = F.avg_pool2d(radiance, ENV_HEIGHT // IRRADIANCE_HEIGHT)
    kernel = lobe_kernel(1.0, NORMALS_HEIGHT, IRRADIANCE_HEIGHT).to(small)
    return rearrange(small, "b c h w -> b c (h w)") @ kernel.T


def lobe_kernel(power: float, rows: int, env_rows: int) -> Tensor:
    """[rows · 2 rows, env_rows · 2 env_rows]: weights of a lat-long's pixels in lobes max(0, n · ω)^power around the
    directions of a coarser lat-long; over an even light each lobe sums to 1, as irradiance over π does."""
    normals = rearrange(direction_grid(rows, 2 * rows), "h w d -> (h w) d")
    directions = rearrange(direction_grid(env_rows, 2 * env_rows), "h w d -> (h w) d")
    areas = solid_angles(env_rows, 2 * env_rows).expand(-1, 2 * env_rows).reshape(1, -1)
    return (normals @ directions.T).clamp(min=0) ** power * areas * (power + 1) / (2 * torch.pi)


class HeadsLoss(nn.Module):
    """The weighted parts of the loss, by name.

    code: the line from latents to pixels. latent_std: deviation of each latent channel, [16]. use_mask: judge the
    subject only, and not that what is behind it stays.
    """

    # What is behind the subject should stay; with a matte it does so by itself.
    BACKGROUND = 0.05

    def __init__(
        self,
        code: LinearCode,
        latent_std: Tensor,
        use_mask: bool = False,
        weights: LossWeights | None = None,
    ) -> None:
        super().__init__()
        self.weights = weights or LossWeights()
        self.background = 0.0 if use_mask else self.BACKGROUND
        self.register_buffer("latent_std", latent_std[:, None, None])
        self.register_buffer("decode_weight", code.decode_weight)
        self.register_buffer("decode_bias", code.decode_bias)
        areas = solid_angles(ENV_HEIGHT, ENV_WIDTH).expand(ENV_HEIGHT, ENV_WIDTH)
        self.register_buffer("areas", areas / areas.mean())
        lobe_areas = solid_angles(LOBE_HEIGHT, 2 * LOBE_HEIGHT).expand(-1, 2 * LOBE_HEIGHT)
        self.register_buffer("lobe_areas", lobe_areas.contiguous())
        self.register_buffer("matte_lobe", lobe_kernel(1.0, NORMALS_HEIGHT, IRRADIANCE_HEIGHT))
        rows = (NORMALS_HEIGHT, IRRADIANCE_HEIGHT)
        for number, (power, height) in enumerate(zip(LOBE_POWERS, rows, strict=True)):
            self.register_buffer(f"glossy_lobe_{number}", lobe_kernel(power, height, LOBE_HEIGHT))

    def forward(self, output: HeadsOutput, batch: LatentPair) -> dict[str, Tensor]:
        """Weighted parts, to be summed. Everything is computed in float32."""
        with torch.autocast(output.z_flat.device.type, enabled=False):
            output = HeadsOutput(*(x.float() for x in output))
            parts = self._flat(output.z_flat, batch) | self._light(output.env_code, batch.env_code)
            parts["matte"] = _cross_entropy(output.matte, batch.mask)
        return {name: getattr(self.weights, name) * value for name, value in parts.items()}

    def _flat(self, z_flat: Tensor, batch: LatentPair) -> dict[str, Tensor]:
        where = batch.mask + self.background * (1 - batch.mask)
        latent = charbonnier((z_flat - batch.z_flat) / self.latent_std, 0.1).mean(dim=1, keepdim=True)
        made, truth, source = (self._pixels(z) for z in (z_flat, batch.z_flat, batch.z))
        mask = F.interpolate(batch.mask, scale_factor=8.0, mode="bilinear", align_corners=False)
        pixels = mask + self.background * (1 - mask)
        coded = charbonnier(made - truth, KNEE).mean(dim=1, keepdim=True)
        off, changed = _logs(made) - _logs(truth), _logs(source) - _logs(truth)
        gain = _mean(off, mask)[..., None, None]
        return {
            "latent": _mean(latent, where).mean(),
            "picture": _mean(coded, pixels).mean(),
            "shading": _mean(charbonnier(off - gain, 0.05).mean(dim=1, keepdim=True), mask).mean(),
            "exposure": charbonnier(gain, 0.05).mean(),
            "edges": _left_over_edges(off, changed, mask),
        }

    def _light(self, env_code: Tensor, code_target: Tensor) -> dict[str, Tensor]:
        radiance, truth = (radiance_of_code(x) for x in (env_code, code_target))
        small, small_truth = (F.avg_pool2d(x, ENV_HEIGHT // LOBE_HEIGHT) for x in (radiance, truth))
        totals, true_totals = (
            (x * self.lobe_areas).sum(dim=(2, 3)).clamp(min=1e-4) for x in (small, small_truth)
        )
        return {
            "energy": self._energy_divergence(small, small_truth),
            "total": (totals.log() - true_totals.log()).abs().mean(),
            "lobes": self._lobes(small, small_truth),
            "code": (self.areas * (env_code - code_target).abs().mean(dim=1)).mean(),
        }

    def _energy_divergence(self, radiance: Tensor, truth: Tensor) -> Tensor:
        """Of the distributions of energy over directions; least, under doubt, where the guess is the mean over all
        that may be, so that no lamp is left out for want of knowing just where it is."""
        shares = []
        for env in (radiance, truth):
            energy = luminance(env, dim=1) * self.lobe_areas + 1e-7
            shares.append(energy / energy.sum(dim=(1, 2), keepdim=True))
        guess, known = shares
        return (known * (known.log() - guess.log())).sum(dim=(1, 2)).mean()

    def _lobes(self, radiance: Tensor, truth: Tensor) -> Tensor:
        difference = radiance.new_zeros(())
        for kernel in (self.matte_lobe, self.glossy_lobe_0, self.glossy_lobe_1):
            rows = round((kernel.shape[1] / 2) ** 0.5)
            seen = []
            for env in (radiance, truth):
                pooled = F.avg_pool2d(env, LOBE_HEIGHT // rows) if rows < LOBE_HEIGHT else env
                seen.append((rearrange(pooled, "b c h w -> b c (h w)") @ kernel.T + DARK).log())
            difference = difference + (seen[0] - seen[1]).abs().mean()
        return difference / 3

    def _pixels(self, z: Tensor) -> Tensor:
        """Coded pictures [B, 3, 8h, 8w], about in [0, 1]."""
        cells = rearrange(z, "b c h w -> b h w c") @ self.decode_weight.T + self.decode_bias
        return rearrange(cells, "b h w (c p q) -> b c (h p) (w q)", p=8, q=8) / 2 + 0.5


def _logs(coded: Tensor) -> Tensor:
    return (srgb_to_linear(coded.clamp(0, 1)) + BLACK).log()


def _left_over_edges(off: Tensor, changed: Tensor, mask: Tensor) -> Tensor:
    """Edges of the error [B, 3, H, W] of the logarithm of light, where the light itself has edges: what is left of a
    shadow, whose edges are wide to latents (8 pixels), not those of a face."""
    off, changed = (F.avg_pool2d(x.mean(dim=1, keepdim=True), 4) for x in (off, changed))
    inside = F.avg_pool2d(mask, 4)
    total = off.new_zeros(())
    for axis in (2, 3):
        steps, edges = (x.diff(dim=axis) for x in (off, changed))
        length = inside.shape[axis] - 1
        within = torch.minimum(inside.narrow(axis, 0, length), inside.narrow(axis, 1, length))
        weight = within * edges.abs().clamp(max=1.0)
        total = total + _mean(charbonnier(steps, 0.02), weight).mean()
    return total / 2


def _cross_entropy(guess: Tensor, truth: Tensor) -> Tensor:
    """Of shares in [0, 1]. torch's own refuses NaN with another word than the one that a user needs."""
    guess = guess.clamp(1e-4, 1 - 1e-4)
    return -(truth * guess.log() + (1 - truth) * (1 - guess).log()).mean()


def charbonnier(error: Tensor, knee: float) -> Tensor:
    """|error|, smooth within the knee; 0 at 0."""
    return (error.square() + knee**2).sqrt() - knee


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Means over pixels, [B, C]."""
    return (values * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1.0)
