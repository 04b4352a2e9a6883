"""sRGB coding, luminance and the tone-mapped preview."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delit_models.color import KNEE, auto_exposure, linear_to_srgb, luminance, srgb_to_linear, tone_map


@pytest.mark.parametrize(
    ("srgb", "linear"),
    # IEC 61966-2-1: (x / 12.92) up to 0.04045, then ((x + 0.055) / 1.055) ** 2.4, by hand.
    [(0.0, 0.0), (0.04045, 0.0031308), (0.5, 0.2140411), (0.7353570, 0.5), (1.0, 1.0)],
)
def test_known_values_of_the_srgb_curve(srgb: float, linear: float) -> None:
    assert srgb_to_linear(torch.tensor(srgb)).item() == pytest.approx(linear, abs=2e-7)
    assert linear_to_srgb(torch.tensor(linear)).item() == pytest.approx(srgb, abs=2e-6)


@given(st.floats(-0.5, 4.0, width=32))
def test_srgb_round_trip_even_outside_the_unit_range(value: float) -> None:
    srgb = torch.tensor(value, dtype=torch.float64)
    assert linear_to_srgb(srgb_to_linear(srgb)).item() == pytest.approx(value, abs=1e-6)


def test_srgb_gradients_are_finite_from_black_to_white() -> None:
    for curve in (srgb_to_linear, linear_to_srgb):
        values = torch.linspace(-0.1, 1.0, 111, requires_grad=True)
        curve(values).sum().backward()
        assert torch.isfinite(values.grad).all() and (values.grad > 0).all()


def test_luminance_removes_the_colour_dimension() -> None:
    green = torch.zeros(2, 3, 4, 5)
    green[:, 1] = 2.0
    assert luminance(green, dim=1).shape == (2, 4, 5)
    assert torch.allclose(luminance(green, dim=1), torch.tensor(2 * 0.7152))
    assert luminance(torch.ones(7, 3)).tolist() == pytest.approx([1.0] * 7)


def lit_room(lamp: float = 5000.0) -> torch.Tensor:
    """A dim room with one small bright orange lamp."""
    env = torch.full((32, 64, 3), 0.05) * torch.linspace(0.5, 1.5, 64)[None, :, None]
    env[10:12, 20:22] = torch.tensor([1.0, 0.6, 0.2]) * lamp
    return env


def test_a_bright_lamp_does_not_blacken_the_room() -> None:
    preview = tone_map(lit_room())
    assert preview.min() >= 0.0 and preview.max() <= 1.0
    assert preview[0].mean() > 0.4
    assert preview[11, 21].max() > 0.99


def test_highlights_keep_their_hue() -> None:
    lamp = srgb_to_linear(tone_map(lit_room())[11, 21])
    assert (lamp / lamp.max()).tolist() == pytest.approx([1.0, 0.6, 0.2], abs=1e-3)


def test_exposure_does_not_depend_on_the_scale_of_the_map() -> None:
    assert torch.allclose(tone_map(lit_room() * 300.0), tone_map(lit_room()), atol=1e-4)


def test_a_fixed_exposure_is_kept() -> None:
    env = torch.full((4, 8, 3), KNEE / 2)
    assert torch.allclose(tone_map(env, exposure=2.0), linear_to_srgb(torch.tensor(KNEE)), atol=1e-6)
    assert tone_map(env, exposure=1.0).max() < tone_map(env, exposure=2.0).max()


def test_the_curve_is_smooth_and_rising_through_the_knee() -> None:
    ramp = torch.linspace(0, 8, 4001, dtype=torch.float64)[:, None, None].expand(-1, 1, 3)
    linear = srgb_to_linear(tone_map(ramp, exposure=1.0))[:, 0, 0]
    slope = linear.diff()
    assert (slope[:1000] > 0).all() and (slope >= -1e-6).all()
    # No jump of the slope at the knee: it changes by less than a hundredth of itself from step to step.
    knee = int(KNEE / 0.002)
    assert (slope[knee - 5 : knee + 5].diff().abs() < 0.01 * 0.002).all()


def test_each_map_of_a_batch_is_exposed_on_its_own() -> None:
    batch = torch.stack([lit_room(), lit_room() * 40, torch.zeros(32, 64, 3)])
    together = tone_map(batch)
    for one, preview in zip(batch, together, strict=True):
        assert torch.equal(tone_map(one), preview)
    assert auto_exposure(batch).shape == (3,)


def test_black_maps_and_lone_lamps() -> None:
    assert torch.equal(tone_map(torch.zeros(8, 16, 3)), torch.zeros(8, 16, 3))
    lone_lamp = torch.zeros(32, 64, 3)
    lone_lamp[5, 5] = 1e-3
    lone_lamp[5, 6] = 1e-5
    preview = tone_map(lone_lamp)
    assert preview[5, 5].min() > 0.99 and preview[5, 6].min() > 0.7 and preview[20].max() == 0.0


def test_a_preview_never_fails_on_damaged_pixels() -> None:
    env = lit_room()
    env[0, 0] = torch.tensor([torch.nan, torch.inf, -1.0])
    preview = tone_map(env.half())
    assert torch.isfinite(preview).all() and preview.dtype == torch.float32
    assert preview[0, 0].tolist() == [0.0, pytest.approx(1.0), 0.0]
