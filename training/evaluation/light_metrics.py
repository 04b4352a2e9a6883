"""How close one light is to another, in the protocols of the lighting-estimation literature."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torchmetrics.functional.image import spectral_angle_mapper

from delit_models.color import luminance
from delit_models.lat_long import direction_grid, resample_env, solid_angles

from .metrics import direction_error, irradiance_error
from .spheres import SPHERES, legacy_light, render_spheres

# Below this radiance a pixel has no colour to speak of, and its angle is not counted.
BLACK = 1e-6
NORMALISED_QUANTILES = (0.001, 0.999)
_SEARCH_HEIGHT = 32
# A window or a softbox fits into a cap of this radius; a second lamp beside it mostly does not.
_CAP_RADIUS = 25.0


def compare_lights(light: Tensor, truth: Tensor, spheres: bool = True) -> dict[str, float]:
    """All metrics of a light against the true one; maps [128, 256, 3], linear. Names as in `tables.LIGHT_METRICS`.

    `spheres` False leaves out the three spheres of either protocol, which are most of the work.
    """
    batches = [rearrange(x, "h w c -> 1 c h w") for x in (light, truth)]
    areas = solid_angles(*truth.shape[:2]).to(truth)
    scores = {
        "irradiance_error": irradiance_error(*batches).item(),
        "env_si_rmse": relative_si_rmse(light, truth, areas[..., None]),
        "env_angle": rgb_angle(light, truth, areas),
        "peak_direction": angle_between(peak_direction(light), peak_direction(truth)),
        "dominant_direction": angle_between(dominant_direction(light), dominant_direction(truth)),
        "net_direction": direction_error(*batches).item(),
    }
    if not spheres:
        return scores
    return scores | compare_spheres(light, truth) | compare_legacy_spheres(light, truth)


def compare_spheres(light: Tensor, truth: Tensor) -> dict[str, float]:
    """The three spheres in plain linear light. The si-RMSE is a share of the true sphere's own root mean square,
    so that one picture with the sun in it does not outweigh a hundred without."""
    made, expected = render_spheres(light), render_spheres(truth)
    scores = {}
    for name in SPHERES:
        scores[f"{name}_si_rmse"] = relative_si_rmse(made[name], expected[name])
        scores[f"{name}_angle"] = rgb_angle(made[name], expected[name])
        scores[f"{name}_normalised_rmse"] = rmse(normalised(made[name]), normalised(expected[name]))
    return scores


def compare_legacy_spheres(light: Tensor, truth: Tensor) -> dict[str, float]:
    """The legacy protocol: gamma-compressed light, and errors summed over colours but divided by pixels, which makes
    them √3 times as large."""
    made, expected = (render_spheres(legacy_light(x)) for x in (light, truth))
    scores = {}
    for name in SPHERES:
        scores[f"legacy_{name}_si_rmse"] = 3**0.5 * si_rmse(made[name], expected[name])
        scores[f"legacy_{name}_angle"] = rgb_angle(made[name], expected[name])
        scores[f"legacy_{name}_normalised_rmse"] = 3**0.5 * rmse(
            normalised(made[name]), normalised(expected[name])
        )
    return scores


def rmse(values: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """Root of the (weighted) mean square difference. Tensors of one shape; weights broadcast to it."""
    squared = (values.double() - truth.double()).square()
    weights = torch.ones_like(squared) if weights is None else weights.double().expand_as(squared)
    return ((weights * squared).sum() / weights.sum()).sqrt().item()


def si_rmse(values: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """The RMSE after the one factor on `values` that makes it least."""
    return rmse(best_scale(values, truth, weights) * values.double(), truth, weights)


def relative_si_rmse(values: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """The si-RMSE as a share of the truth's root mean square: 0 is the same up to a factor, 1 has nothing in common
    with it (values of black score 1 too). NaN where the truth is black."""
    size = rmse(truth, torch.zeros_like(truth), weights)
    return si_rmse(values, truth, weights) / size if size > 0 else float("nan")


def best_scale(values: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """The factor on `values` with the least (weighted) squared difference to `truth`; 0 for values of black."""
    weights = torch.ones(1) if weights is None else weights
    values, truth, weights = (x.double() for x in (values, truth, weights))
    size = (weights * values.square()).sum()
    return ((weights * values * truth).sum() / size).item() if size > 0 else 0.0


def rgb_angle(values: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """Mean angle in degrees between the RGB vectors of [..., 3]: colour, whatever the brightness. Pixels that are
    black in either are left out; NaN if all are."""
    pairs = [rearrange(x.reshape(-1, 3).double(), "n c -> 1 c n 1") for x in (values, truth)]
    coloured = ((pairs[0].amax(dim=1) > BLACK) & (pairs[1].amax(dim=1) > BLACK)).flatten()
    angles = torch.rad2deg(spectral_angle_mapper(*pairs, reduction="none")).flatten()
    shares = torch.ones_like(angles) if weights is None else weights.flatten().to(angles)
    if not coloured.any():
        return float("nan")
    return ((angles * shares)[coloured].sum() / shares[coloured].sum()).item()


def normalised(values: Tensor) -> Tensor:
    """Bring the 0.1 and 99.9 percentiles of all values to 0 and 1, without clipping."""
    flat = values.double().flatten()
    low, high = torch.quantile(flat, torch.tensor(NORMALISED_QUANTILES, dtype=flat.dtype))
    return (values.double() - low) / (high - low).clamp(min=1e-12)


def peak_direction(env: Tensor) -> Tensor:
    """Direction [3] of the brightest pixel of a map [H, W, 3] by luminance: fragile, but what others report. Zero
    for a map of one brightness, which has no peak."""
    height, width = env.shape[:2]
    brightness = luminance(env.float()).cpu().flatten()
    direction = direction_grid(height, width).reshape(-1, 3)[brightness.argmax()]
    return direction if brightness.max() > brightness.min() else torch.zeros(3)


def dominant_direction(env: Tensor) -> Tensor:
    """Direction [3] that most light comes from, by energy rather than by the brightest pixel.

    Of all caps of the sphere 25° in radius, the one with the most energy above the map's median, and in it the
    energy-weighted mean direction. A few hot pixels without much energy do not move it, and neither does ambient.
    Zero for a map of one brightness.
    """
    size = (_SEARCH_HEIGHT, 2 * _SEARCH_HEIGHT)
    small = luminance(resample_env(env.float().cpu(), *size)).flatten()
    # A thousandth above it is rounding, not a lamp.
    energy = (small - 1.001 * small.median()).clamp(min=0) * solid_angles(*size).flatten()
    directions = direction_grid(*size).reshape(-1, 3)
    caps = _caps()
    cap = caps[(caps @ energy).argmax()]
    return F.normalize((directions * (cap * energy)[:, None]).sum(dim=0), dim=0)


def angle_between(first: Tensor, second: Tensor) -> float:
    """Angle in degrees between two directions [3]; NaN if one of them is none (a map of one brightness has no peak)."""
    if min(first.norm(), second.norm()) < 1e-6:
        return float("nan")
    # By both the sine and the cosine: the arc cosine alone is blind to angles below a fortieth of a degree.
    sine = torch.linalg.cross(first.double(), second.double()).norm()
    return torch.rad2deg(torch.atan2(sine, first.double() @ second.double())).item()


@lru_cache(maxsize=1)
def _caps() -> Tensor:
    """[M, M]: which pixels of the small map lie in the cap around each of its pixels."""
    directions = direction_grid(_SEARCH_HEIGHT, 2 * _SEARCH_HEIGHT).reshape(-1, 3)
    return (directions @ directions.T > torch.deg2rad(torch.tensor(_CAP_RADIUS)).cos()).float()
