"""Every effect of training.augment.photography against what it means, then all of them together."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.errors import DelitError
from training.augment.backgrounds import put_behind, what_is_behind
from training.augment.photography import (
    CONTRAST_PIVOT,
    FULL_WELL,
    READ_NOISE,
    Look,
    PhotographyConfig,
    defocus,
    motion_blur,
    photograph,
    resample,
    sensor_noise,
    sharpen,
    through_jpeg,
    tone_curve,
    vignette,
)

CONFIG = PhotographyConfig()
PLAIN = Look()
SIDES = st.integers(64, 131)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=seeded(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]


def disc_mask(height: int, width: int) -> torch.Tensor:
    """A subject with a soft edge in the middle."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return ((0.6 - torch.hypot(x, y)) * 10).clamp(0, 1)[None]


def point(side: int) -> torch.Tensor:
    light = torch.zeros(3, side, side)
    light[:, side // 2, side // 2] = 1.0
    return light


def variances(spot: torch.Tensor) -> tuple[float, float]:
    """Of a blurred point's light, across and down, in square pixels."""
    steps = torch.arange(spot.shape[-1]) - spot.shape[-1] // 2
    weights = spot[0] / spot[0].sum()
    return tuple((weights.sum(dim=axis) * steps**2).sum().item() for axis in (0, 1))


@given(height=SIDES, width=SIDES, seed=st.integers(0, 2**31))
def test_a_photograph_is_a_picture_of_the_same_size(height, width, seed):
    light = 3 * smooth_picture(height, width, seed)
    look = Look.draw(CONFIG, seeded(seed))
    taken = photograph(light, look, CONFIG, seeded(seed))
    assert taken.shape == light.shape and taken.dtype == light.dtype
    assert bool(torch.isfinite(taken).all()) and 0 <= taken.min() and taken.max() <= 1
    assert torch.equal(taken, photograph(light, look, CONFIG, seeded(seed)))
    assert not torch.equal(taken, linear_to_srgb(light.clamp(0, 1)))


def test_photographs_differ_and_show_what_the_render_shows():
    light = srgb_to_linear(smooth_picture(96, 80))
    taken = torch.stack([photograph(light, PLAIN, CONFIG, seeded(seed)) for seed in range(12)])
    assert len({picture.sum().item() for picture in taken}) == 12
    for picture in taken:
        stacked = torch.stack((picture.flatten(), linear_to_srgb(light).flatten()))
        assert torch.corrcoef(stacked)[0, 1] > 0.9


def test_a_plain_look_changes_nothing_and_saturation_leaves_grey_grey():
    picture = smooth_picture(32, 32)
    torch.testing.assert_close(PLAIN.of(picture), picture, atol=1e-6, rtol=0)
    grey = torch.linspace(0, 1, 16).expand(3, 4, 16)
    torch.testing.assert_close(Look(saturation=1.7).of(grey), grey, atol=1e-6, rtol=0)
    # Halfway to grey, before anything is clipped.
    half = Look(saturation=0.5).of(picture)
    spread = (picture.amax(0) - picture.amin(0)) / 2
    torch.testing.assert_close(half.amax(0) - half.amin(0), spread, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, "share"),
        ({"toe": 1.2}, "toe"),
        ({"defocus": -0.1}, "defocus"),
        ({"smallest_scale": 0.0}, "smallest_scale"),
        ({"iso": (3200.0, 100.0)}, "iso"),
        ({"jpeg_quality": (0, 95)}, "jpeg_quality"),
    ],
)
def test_impossible_strengths_are_refused(settings, message):
    with pytest.raises(DelitError, match=message):
        PhotographyConfig(**settings)


@given(light=st.floats(0, 1), iso=st.floats(100, 6400), seed=st.integers(0, 2**31))
def test_noise_has_the_variance_of_photons_and_reading(light, iso, seed):
    noise = sensor_noise(torch.full((20_000,), light), iso, seeded(seed)) - light
    electron = iso / 100 / FULL_WELL
    expected = light * electron + (READ_NOISE * electron) ** 2
    assert noise.var().item() == pytest.approx(expected, rel=0.07)
    assert abs(noise.mean().item()) < 5 * math.sqrt(expected / 20_000)


@given(contrast=st.floats(0.5, 2), toe=st.floats(-0.99, 0.99), shoulder=st.floats(-0.99, 0.99))
def test_tone_curves_rise_from_black_to_white(contrast, toe, shoulder):
    curve = tone_curve(torch.linspace(0, 1, 1001, dtype=torch.float64), contrast, toe, shoulder)
    assert curve[0] == 0 and curve[-1] == pytest.approx(1)
    assert bool((curve.diff() >= -1e-12).all())


@given(toe=st.floats(-0.9, 0.9), shoulder=st.floats(-0.9, 0.9), contrast=st.floats(0.5, 2))
def test_tone_curves_have_the_slopes_they_are_named_after(toe, shoulder, contrast):
    step = 1e-5
    values = torch.tensor([0, step, 1 - step, 1], dtype=torch.float64)
    black, dark, bright, white = tone_curve(values, 1.0, toe, shoulder).tolist()
    assert (dark - black) / step == pytest.approx(1 - toe, abs=1e-3)
    assert (white - bright) / step == pytest.approx(1 - shoulder, abs=1e-3)
    around = torch.tensor([CONTRAST_PIVOT - step, CONTRAST_PIVOT, CONTRAST_PIVOT + step], dtype=torch.float64)
    below, pivot, above = tone_curve(around, contrast, 0.0, 0.0).tolist()
    assert pivot == pytest.approx(CONTRAST_PIVOT)
    assert (above - below) / (2 * step) == pytest.approx(contrast, rel=1e-3)


@given(radius=st.floats(2, 12))
def test_a_point_out_of_focus_is_a_disc_and_loses_no_light(radius):
    spot = defocus(point(81), radius)
    assert spot[0].sum().item() == pytest.approx(1, rel=1e-4)
    # A disc of radius r has the variance r² / 4 either way.
    assert variances(spot) == pytest.approx((radius**2 / 4,) * 2, rel=0.1, abs=0.2)


@given(length=st.floats(3, 14), angle=st.floats(0, math.pi))
def test_a_moving_point_is_a_line_in_its_direction(length, angle):
    across, down = variances(motion_blur(point(41), length, angle))
    # A line has the variance length² / 12 along itself.
    assert across == pytest.approx(length**2 / 12 * math.cos(angle) ** 2, abs=0.25 + 0.06 * length)
    assert down == pytest.approx(length**2 / 12 * math.sin(angle) ** 2, abs=0.25 + 0.06 * length)


@given(value=st.floats(0.05, 1), height=SIDES, width=SIDES)
def test_an_even_surface_shows_no_blur_sharpening_or_resampling(value, height, width):
    even = torch.full((3, height, width), value)
    for changed in (
        defocus(even, 2.0),
        defocus(even, 9.0),
        motion_blur(even, 5.0, 0.4),
        sharpen(even, 1.0, 1.0),
        resample(even, 0.6),
    ):
        torch.testing.assert_close(changed, even, atol=1e-5, rtol=1e-5)


def test_a_vignette_darkens_the_corners_by_its_stops():
    light = vignette(torch.ones(3, 65, 97), stops=0.8)[0]
    assert light[32, 48].item() == pytest.approx(1)
    for corner in (light[0, 0], light[0, -1], light[-1, 0], light[-1, -1]):
        assert corner.log2().item() == pytest.approx(-0.8, abs=1e-5)
    assert bool((light[32, 48:].diff() < 0).all())


def test_sharpening_overshoots_at_edges():
    edge = torch.full((3, 32, 32), 0.3)
    edge[..., 16:] = 0.7
    sharper = sharpen(edge, 0.6, 1.0)
    assert sharper.max() > 0.75 and sharper.min() < 0.25
    torch.testing.assert_close(sharpen(edge, 0.0, 1.0), edge)


def test_resampling_keeps_the_coarse_and_loses_the_fine():
    x = torch.arange(96, dtype=torch.float32)
    for period, kept in ((32, True), (2.5, False)):
        wave = (0.5 + 0.4 * torch.sin(2 * math.pi * x / period)).expand(3, 96, 96)
        amplitude = resample(wave, 0.5)[:, 16:-16, 16:-16].std() / wave.std()
        assert amplitude > 0.9 if kept else amplitude < 0.25


@given(quality=st.integers(30, 95), subsampling=st.integers(0, 2), height=SIDES, width=SIDES)
def test_jpeg_keeps_the_mean_and_a_second_time_changes_little(quality, subsampling, height, width):
    noisy = (smooth_picture(height, width) + 0.1 * torch.randn(3, height, width)).clamp(0, 1)
    once = through_jpeg(noisy, quality, subsampling)
    torch.testing.assert_close(once.mean(dim=(1, 2)), noisy.mean(dim=(1, 2)), atol=0.01, rtol=0)
    again = through_jpeg(once, quality, subsampling)
    assert (again - once).square().mean() < 0.3 * (once - noisy).square().mean()


def test_jpeg_works_in_blocks_and_on_coarser_colour():
    noisy = (smooth_picture(128, 128) + 0.15 * torch.randn(3, 128, 128)).clamp(0, 1)
    changed_in_one_place = noisy.clone()
    changed_in_one_place[:, 20, 20] = 1.0
    difference = through_jpeg(noisy, 40, 0) - through_jpeg(changed_in_one_place, 40, 0)
    outside = difference.clone()
    outside[:, 16:24, 16:24] = 0
    assert difference.abs().max() > 0.05 and outside.abs().max() == 0
    errors = [(through_jpeg(noisy, quality, 0) - noisy).square().mean() for quality in (95, 70, 40)]
    assert errors == sorted(errors)
    stripes = torch.zeros(3, 64, 64)
    stripes[0, :, ::2], stripes[2, :, 1::2] = 1.0, 1.0
    colour = [through_jpeg(stripes, 95, subsampling) for subsampling in (0, 2)]
    red_against_blue = [(picture[0] - picture[2]).std() for picture in colour]
    assert red_against_blue[1] < 0.5 * red_against_blue[0]
    with pytest.raises(DelitError, match="0, 1 or 2"):
        through_jpeg(noisy, 90, 3)


@given(height=SIDES, width=SIDES, seed=st.integers(0, 2**31))
def test_the_hole_of_the_subject_is_filled_from_around(height, width, seed):
    light, mask = smooth_picture(height, width, seed), disc_mask(height, width)
    behind = what_is_behind(light, mask)
    uncovered = (mask == 0).expand_as(light)
    assert torch.equal(behind[uncovered], light[uncovered])
    assert bool((behind.amax((1, 2)) <= light[uncovered].view(3, -1).amax(1) + 1e-6).all())
    assert bool((behind.amin((1, 2)) >= light[uncovered].view(3, -1).amin(1) - 1e-6).all())


def test_a_picture_full_of_subject_has_nothing_behind():
    light = smooth_picture(64, 64)
    assert torch.equal(what_is_behind(light, torch.ones(1, 64, 64)), light)
    torch.testing.assert_close(put_behind(light, torch.ones(1, 64, 64), torch.zeros_like(light)), light)


@given(height=SIDES, width=SIDES, colour=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_a_new_background_leaves_the_subject_and_its_soft_edge(height, width, colour, seed):
    """In front of an even wall what the edge shows of it is known, and so is what it shows of the new one."""
    mask, subject = disc_mask(height, width), smooth_picture(height, width, seed)
    new = smooth_picture(height, width, seed + 1)
    picture = mask * subject + (1 - mask) * colour
    torch.testing.assert_close(
        put_behind(picture, mask, new), mask * subject + (1 - mask) * new, atol=0.004, rtol=0
    )
