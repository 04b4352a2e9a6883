"""Clear skies with their sun, by Mitsuba's `sunsky` emitter: Hosek and Wilkie's models of the sky and of the sun
(SIGGRAPH 2012; IEEE CG&A 2013).

The emitter is always read in Mitsuba's scalar variant, so that a sky is the same on every machine, whatever renders.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from delit_models.lat_long import solid_angles
from training.synth.render.mitsuba_runtime import check_installed

_SUN_SOLID_ANGLE = 2 * np.pi * (1 - np.cos(np.radians(0.5358 / 2)))  # steradians


@dataclass(frozen=True)
class ClearSky:
    """A sky and its sun, in one arbitrary unit. Directions are unit vectors, +Y up.

    Attributes:
        radiance: [H, W, 3] of the sky without its sun, for the directions that were asked for; 0 below the horizon.
        sun_irradiance: [3], of a surface that faces the sun.
        horizontal_irradiance: [3], of level ground, from sky and sun together.
    """

    radiance: np.ndarray
    sun_irradiance: np.ndarray
    horizontal_irradiance: np.ndarray


def clear_sky(directions: np.ndarray, sun: np.ndarray, turbidity: float, ground: float) -> ClearSky:
    """The sky of directions [H, W, 3], a whole lat-long of rows of equal height, for a sun in direction [3].

    turbidity: how hazy the air is, 1 (none) to 10; ground: its albedo, 0..1, which brightens the lower sky.
    Raises DelitError where Mitsuba is not installed.
    """
    above = directions[..., 1] > 0
    with _scalar_mitsuba() as mi:
        common = {
            "type": "sunsky",
            "sun_direction": _z_up(sun).tolist(),
            "turbidity": turbidity,
            "albedo": {"type": "rgb", "value": ground},
        }
        sky = mi.load_dict(common | {"sun_scale": 0.0})
        disc = mi.load_dict(common | {"sky_scale": 0.0})
        radiance = np.zeros(directions.shape)
        radiance[above] = _radiance(mi, sky, _z_up(directions[above]))
        sun_irradiance = _radiance(mi, disc, _z_up(sun)[None])[0] * _SUN_SOLID_ANGLE
    areas = solid_angles(*directions.shape[:2]).numpy()
    cosine = np.maximum(directions[..., 1], 0)
    from_sky = (radiance * (cosine * areas)[..., None]).sum((0, 1))
    return ClearSky(radiance, sun_irradiance, from_sky + sun_irradiance * max(float(sun[1]), 0.0))


def _z_up(directions: np.ndarray) -> np.ndarray:
    """Directions [..., 3] with +Y up, in Mitsuba's frame for skies, with +Z up."""
    return np.stack([directions[..., 0], -directions[..., 2], directions[..., 1]], axis=-1)


def _radiance(mi: ModuleType, emitter: object, directions: np.ndarray) -> np.ndarray:
    """Radiance [N, 3] that arrives from directions [N, 3]."""
    seen, radiance_of = mi.SurfaceInteraction3f(), emitter.eval
    radiance = np.zeros(directions.shape)
    for number, direction in enumerate(-directions):
        seen.wi = mi.ScalarVector3f(*direction)
        radiance[number] = radiance_of(seen)
    return radiance


@contextmanager
def _scalar_mitsuba() -> Iterator[ModuleType]:
    """Mitsuba in its scalar variant; afterwards in the one that it was in."""
    check_installed()
    import mitsuba

    before = mitsuba.variant()
    mitsuba.set_variant("scalar_rgb")
    try:
        yield mitsuba
    finally:
        if before is not None:
            mitsuba.set_variant(before)
