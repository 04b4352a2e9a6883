"""An environment map as the viewer on the page gets it: its pixels as half floats, and what it says beside them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from .color import auto_exposure
from .env_map_files import LARGEST_HALF, check_env_map
from .key_lights import KeyLight, find_key_lights
from .lat_long import resample_env

MAX_VIEW_HEIGHT = 1024
"""Rows of a map on the page, at the most: 12 MB of half floats."""

LIGHT_HEIGHT = 256
"""Rows of the map in which the main light is read, at the most: a quarter of a second, whatever the map's size."""


def view_pixels(env: Tensor) -> np.ndarray:
    """A map [H, 2H, 3] (linear Rec.709, camera axes) as the viewer's texture: [h, 2h, 3] little-endian half floats.

    Row 0 is the zenith, column 0 straight behind the camera. A map with more than MAX_VIEW_HEIGHT rows is averaged down
    with its light kept; values over 65504, the largest half, become that.
    Raises DelitError for NaN, infinite or negative radiance and for a map that is not 2:1.
    """
    check_env_map(env)
    height = min(env.shape[0], MAX_VIEW_HEIGHT)
    pixels = resample_env(env.detach().cpu(), height, 2 * height).numpy()
    return np.minimum(pixels, LARGEST_HALF).astype("<f2")


def view_notes(env: Tensor) -> dict[str, Any]:
    """What the viewer says of a map [H, 2H, 3], in plain numbers for JSON.

    `auto_stops`: the exposure at which the map is well seen, in stops. `light`: the strongest of its dominant lights
    (key_lights.KeyLight: `direction` in camera axes, angles in degrees, `stops` over an even white light of radiance 1,
    `share` in [0, 1]); None in even light.
    Raises DelitError as `view_pixels` does.
    """
    check_env_map(env)
    height = min(env.shape[0], LIGHT_HEIGHT)
    small = resample_env(env.detach().cpu(), height, 2 * height)
    lights = find_key_lights(small, max_lights=1).lights
    return {
        "auto_stops": round(math.log2(auto_exposure(small).item()), 1),
        "light": _light_notes(lights[0]) if lights else None,
    }


def _light_notes(light: KeyLight) -> dict[str, Any]:
    return {
        "direction": [round(axis, 5) for axis in light.direction],
        "azimuth": round(light.azimuth, 1),
        "elevation": round(light.elevation, 1),
        "stops": round(light.stops, 1),
        "diameter": round(light.angular_diameter, 1),
        "share": round(light.share, 3),
    }
