"""What the page's viewer gets of a map: its pixels to the last bit that a half has, and its main light."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from delit_models.color import EXPOSURE_TARGET
from delit_models.env_view import MAX_VIEW_HEIGHT, view_notes, view_pixels
from delit_models.errors import DelitError
from delit_models.key_lights import find_key_lights
from delit_models.lat_long import direction_grid, solid_angles


def lamp_map(radiance: float, height: int = 64) -> torch.Tensor:
    towards = F.normalize(torch.tensor([1.0, 0.5, 0.3]), dim=0)
    lobe = direction_grid(height, 2 * height) @ towards > math.cos(math.radians(10))
    return torch.where(lobe[..., None], radiance, 0.1).repeat(1, 1, 3)


def test_pixels_are_half_floats_row_by_row() -> None:
    env = torch.rand(8, 16, 3) * 1000
    pixels = view_pixels(env)
    assert pixels.dtype == np.dtype("<f2") and pixels.shape == (8, 16, 3)
    read = np.frombuffer(pixels.tobytes(), "<f2")
    # The order in which WebGL reads a texture: row, column, channel.
    assert read[(3 * 16 + 5) * 3 + 2] == env[3, 5, 2].half().item()
    np.testing.assert_array_equal(read.reshape(8, 16, 3), env.half().numpy())


def test_nothing_below_the_largest_half_is_clamped() -> None:
    env = torch.full((4, 8, 3), 65504.0)
    env[0, 0] = 1e6
    env[1, 1] = 2.0**-24
    pixels = view_pixels(env)
    assert pixels[0, 0].tolist() == [65504.0] * 3 and pixels[2, 2].tolist() == [65504.0] * 3
    assert pixels[1, 1].tolist() == [2.0**-24] * 3


def test_a_large_map_is_averaged_and_keeps_its_light() -> None:
    height = MAX_VIEW_HEIGHT + 16
    env = torch.full((height, 2 * height, 3), 0.5)
    env[height // 3, 100] = 4000.0
    pixels = torch.from_numpy(view_pixels(env).astype(np.float32))
    assert pixels.shape == (MAX_VIEW_HEIGHT, 2 * MAX_VIEW_HEIGHT, 3)
    light = [(m.double() * solid_angles(*m.shape[:2]).double()[..., None]).sum() for m in (env, pixels)]
    assert light[1].item() == pytest.approx(light[0].item(), rel=1e-3)
    assert pixels.max() > 1000, "the lamp got lost"


def test_notes_are_the_main_light_as_json() -> None:
    env = lamp_map(200.0)
    notes = json.loads(json.dumps(view_notes(env), allow_nan=False))
    light = find_key_lights(env).lights[0]
    said = notes["light"]
    assert said["direction"] == pytest.approx(light.direction, abs=1e-4)
    assert (said["azimuth"], said["elevation"]) == pytest.approx((light.azimuth, light.elevation), abs=0.06)
    assert said["stops"] == pytest.approx(light.stops, abs=0.06)
    assert said["azimuth"] == pytest.approx(math.degrees(math.atan2(1.0, 0.3)), abs=1)


@pytest.mark.parametrize("radiance", [0.0, 0.25])
def test_even_light_has_no_main_light(radiance: float) -> None:
    notes = view_notes(torch.full((32, 64, 3), radiance))
    assert notes["light"] is None
    assert notes["auto_stops"] == (
        0 if radiance == 0 else pytest.approx(math.log2(EXPOSURE_TARGET / radiance))
    )


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (torch.ones(32, 32, 3), "twice as wide"),
        (torch.full((32, 64, 3), math.nan), "NaN"),
        (torch.full((32, 64, 3), -1.0), "negative"),
        (torch.full((32, 64, 3), math.inf), "infinite"),
    ],
)
def test_what_is_no_map_is_refused(env: torch.Tensor, said: str) -> None:
    for look in (view_pixels, view_notes):
        with pytest.raises(DelitError, match=said):
            look(env)
