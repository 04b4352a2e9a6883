"""Taking the photograph: exposure of a rendered foreground with its light, and what stands behind the subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from delit_models.lat_long import direction_grid, sample_env, solid_angles
from training.synth.light.lights import ENV_HEIGHT, ENV_WIDTH

LARGEST_HALF = 65504.0
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class Photograph:
    """A picture as exposed, before what is behind the subject.

    Attributes:
        relit: [S, S, 3] linear, not clipped.
        radiance: the env in the picture's own units, [H, W, 3].
        exposure: what picture and env were multiplied by.
        background: "environment" or "backdrop".
    """

    relit: np.ndarray
    radiance: np.ndarray
    exposure: float
    background: str


def photograph(
    image: np.ndarray,
    flat: np.ndarray,
    radiance: np.ndarray,
    field_of_view: float,
    rng: np.random.Generator,
) -> Photograph:
    """Exposes a rendered foreground and its light together, and puts something behind it.

    image and flat: [S, S, 4], linear, multiplied by coverage, and the coverage; radiance: [H, W, 3].
    """
    exposure = choose_exposure(image, flat, radiance, rng)
    radiance = radiance * np.float32(exposure)
    # Exposure is of light; what the subject covers stays what it is.
    exposed = np.concatenate([image[..., :3] * np.float32(exposure), image[..., 3:]], axis=-1)
    relit, background = composite(exposed, radiance, field_of_view, rng)
    return Photograph(relit, radiance, exposure, background)


def choose_exposure(
    image: np.ndarray, flat: np.ndarray, radiance: np.ndarray, rng: np.random.Generator
) -> float:
    """A photographer's exposure for a rendered foreground: the factor on light and picture alike.

    The subject's mean luminance goes to about 0.18, less for dark and more for light subjects, with a spread of half
    a stop and a bit, within 0.04..0.5; bright parts are mostly kept below clipping. image and flat [S, S, 4] linear.
    """
    coverage = flat[..., 3]
    total = max(float(coverage.sum()), 1.0)
    lit = float((image[..., :3] @ _LUMINANCE).sum()) / total
    albedo = float((flat[..., :3] @ _LUMINANCE).sum()) / total
    target = 0.18 * (max(albedo, 0.02) / 0.25) ** 0.55 * 2.0 ** rng.normal(0.0, 0.6)
    exposure = np.clip(target, 0.04, 0.5) / max(lit, 1e-5)
    subject_pixels = (image[..., :3] @ _LUMINANCE)[coverage > 0.9]
    if subject_pixels.size:
        bright = float(np.quantile(subject_pixels, 0.97)) * exposure
        exposure *= min(1.0, rng.uniform(0.8, 1.6) / max(bright, 1e-5))
    return float(min(exposure, LARGEST_HALF / max(float(radiance.max()), 1e-6)))


def composite(
    image: np.ndarray, radiance: np.ndarray, field_of_view: float, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Puts a rendered foreground [S, S, 4] over what the camera sees behind it: the environment itself, or a backdrop
    that the same light falls on. Returns (linear [S, S, 3], kind of background)."""
    size = image.shape[0]
    if rng.random() < 0.62:
        behind = sample_env(torch.from_numpy(radiance), view_directions(size, field_of_view)).numpy()
        kind = "environment"
    else:
        behind = _backdrop(size, radiance, rng)
        kind = "backdrop"
    return image[..., :3] + (1.0 - np.clip(image[..., 3:], 0.0, 1.0)) * behind, kind


def view_directions(size: int, field_of_view: float) -> torch.Tensor:
    """Unit view direction [S, S, 3] of every pixel of a square camera, camera axes."""
    half = np.tan(np.radians(field_of_view) / 2)
    across = (torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1
    x, y = torch.meshgrid(across * half, -across * half, indexing="xy")
    return torch.nn.functional.normalize(torch.stack([x, y, -torch.ones_like(x)], dim=-1), dim=-1)


def _backdrop(size: int, radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A paper backdrop: its albedo times the irradiance on a wall that faces the camera, with soft unevenness."""
    cosine = direction_grid(ENV_HEIGHT, ENV_WIDTH)[..., 2].clamp(min=0) * solid_angles(ENV_HEIGHT, ENV_WIDTH)
    irradiance = (torch.from_numpy(radiance) * cosine[..., None]).sum((0, 1)).numpy()
    albedo = rng.uniform(0.05, 0.75) * rng.uniform(0.75, 1.15, 3)
    if rng.random() < 0.35:
        albedo = rng.uniform(0.05, 0.6, 3)
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    falloff = (
        1.0
        + rng.uniform(-0.35, 0.35) * x
        + rng.uniform(-0.35, 0.35) * y
        - rng.uniform(0, 0.25) * (x**2 + y**2)
    )
    return (np.clip(falloff, 0.1, 2.0)[..., None] * (albedo * irradiance / np.pi)).astype(np.float32)
