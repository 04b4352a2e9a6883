"""Skies: Mitsuba's, read as what they are, with the light that measured skies have."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("mitsuba") is None:
    pytest.skip(
        "Mitsuba is not installed (pip install mitsuba); skies are not tested", allow_module_level=True
    )

from delit_models.errors import DelitError
from delit_models.lat_long import direction_grid, solid_angles
from training.synth.light.skies import clear_sky
from training.synth.light.studios import studio
from training.synth.render import mitsuba_runtime
from training.synth.render.mitsuba_runtime import start_mitsuba

_DIRECTIONS = direction_grid(128, 256).numpy().astype(np.float64)


def _sun(elevation: float, azimuth: float = 40.0) -> np.ndarray:
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])


@pytest.mark.parametrize("elevation", [10, 30, 60])
def test_a_clear_sun_outshines_the_sky_as_it_does(elevation: float) -> None:
    """Facing the sun on a clear day, it gives several times the light of the whole sky on level ground (measured:
    direct normal to diffuse horizontal irradiance of 3 to 10)."""
    sky = clear_sky(_DIRECTIONS, _sun(elevation), 3.0, 0.2)
    from_sky = sky.horizontal_irradiance - sky.sun_irradiance * np.sin(np.radians(elevation))
    assert 3 < sky.sun_irradiance.mean() / from_sky.mean() < 10
    assert sky.sun_irradiance[0] > sky.sun_irradiance[2]
    assert from_sky[2] > from_sky[0]


def test_a_low_sun_is_redder() -> None:
    low, high = (clear_sky(_DIRECTIONS, _sun(e), 3.0, 0.2).sun_irradiance for e in (6, 60))
    assert low[0] / low[2] > 1.5 * high[0] / high[2]


def test_the_sky_is_brightest_towards_the_sun_and_black_below_the_horizon() -> None:
    sun = _sun(35)
    radiance = clear_sky(_DIRECTIONS, sun, 4.0, 0.2).radiance
    assert np.isfinite(radiance).all() and radiance.min() >= 0 and radiance[65:].max() == 0
    row = int((90 - 35) / 180 * 128)
    brightest = _DIRECTIONS[row, radiance[row].mean(-1).argmax()]
    assert np.degrees(np.arccos(brightest @ sun)) < 2


def test_the_irradiance_of_the_ground_is_that_of_the_map() -> None:
    sun = _sun(35)
    sky = clear_sky(_DIRECTIONS, sun, 4.0, 0.2)
    weight = np.maximum(_DIRECTIONS[..., 1], 0) * solid_angles(128, 256).numpy()
    expected = (sky.radiance * weight[..., None]).sum((0, 1)) + sky.sun_irradiance * sun[1]
    np.testing.assert_allclose(sky.horizontal_irradiance, expected, rtol=2e-3)


def test_the_studio_has_the_whole_sun() -> None:
    """The drawn map's light from around its sun is the sun's share: nothing is lost to a map of a few pixels."""
    for seed in range(4):
        radiance = studio("sun and sky", np.random.default_rng(seed))
        areas = solid_angles(128, 256).numpy()
        peak = _DIRECTIONS[np.unravel_index(radiance.mean(-1).argmax(), radiance.shape[:2])]
        near = np.degrees(np.arccos(np.clip(_DIRECTIONS @ peak, -1, 1))) < 5
        share = (radiance.mean(-1) * areas * near).sum() / (radiance.mean(-1) * areas).sum()
        assert peak[1] > 0 and 0.05 < share < 0.95


def test_the_renderer_stays_in_its_variant() -> None:
    mitsuba = start_mitsuba()
    before = mitsuba.variant()
    clear_sky(_DIRECTIONS, _sun(30), 3.0, 0.2)
    assert mitsuba.variant() == before


def test_a_missing_renderer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mitsuba_runtime.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DelitError, match="pip install mitsuba"):
        clear_sky(_DIRECTIONS, _sun(30), 3.0, 0.2)
