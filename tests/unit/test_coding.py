"""Plates: linear pictures without an upper bound are exposed for the network and delit unclamped."""

import math

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from delit_models.coding import from_rec709, open_source, plate_exposure, roll_off, to_rec709
from delit_models.color import linear_to_srgb, luminance, srgb_to_linear
from delit_models.detail_transfer import resize_area
from delit_models.errors import DelitError
from delit_models.stages import finish


def _picture(seed: int = 0, top: float = 0.85, size: int = 96) -> torch.Tensor:
    """[1, size, size, 3], sRGB-coded, smooth with texture on it."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0.02, 1)
    texture = 0.05 * torch.rand(1, 3, size, size, generator=random)
    return rearrange(((smooth + texture) * top / 1.05).clamp(0, top), "b c h w -> b h w c")


def _network(display: torch.Tensor, factor: float = 0.6, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network that darkens the left half would decode: (flat, reconstruction) [B, 3, size, size]."""
    small = resize_area(rearrange(display, "b h w c -> b c h w"), (size, size))
    change = torch.ones(1, 1, 1, size)
    change[..., : size // 2] = factor
    return linear_to_srgb(srgb_to_linear(small) * change), small


def test_acescg_is_what_openimageio_makes_of_it():
    import numpy as np
    import OpenImageIO as oiio

    colors = np.random.default_rng(1).random((4, 4, 3), dtype=np.float32) * 4
    buffer = oiio.ImageBuf(np.ascontiguousarray(colors))
    config = oiio.ColorConfig("ocio://default")
    converted = oiio.ImageBufAlgo.colorconvert(
        buffer, "ACEScg", "Linear Rec.709 (sRGB)", colorconfig="ocio://default"
    )
    assert not converted.has_error, (converted.geterror(), config.getColorSpaceNames())
    expected = torch.from_numpy(converted.get_pixels(oiio.FLOAT))
    torch.testing.assert_close(to_rec709(torch.from_numpy(colors), "ACEScg"), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_primaries_there_and_back(seed):
    colors = torch.rand(5, 3, generator=torch.Generator().manual_seed(seed)) * 100
    torch.testing.assert_close(
        from_rec709(to_rec709(colors, "ACEScg"), "ACEScg"), colors, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(to_rec709(torch.ones(3), "ACEScg"), torch.ones(3), rtol=1e-5, atol=1e-5)


def test_a_display_picture_in_linear_light_is_delit_as_the_picture_itself():
    picture = _picture()
    plate = open_source(srgb_to_linear(picture), "linear Rec.709")
    torch.testing.assert_close(plate.display, picture, rtol=0, atol=1e-5)
    flat, reconstruction = _network(picture)
    as_picture = finish(flat, picture, reconstruction)
    as_plate = finish(flat, plate, reconstruction)
    torch.testing.assert_close(linear_to_srgb(as_plate.flat), as_picture.flat, rtol=0, atol=2e-3)
    torch.testing.assert_close(as_plate.gain, as_picture.gain, rtol=2e-3, atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(stops=st.floats(-8, 8), coding=st.sampled_from(["linear Rec.709", "ACEScg"]))
def test_exposure_of_a_plate_changes_nothing_but_itself(stops, coding):
    """The same shot, some stops brighter, gives the same gain; and the flat plate is plate times gain."""
    linear = from_rec709(srgb_to_linear(_picture(3)), coding) * 0.8
    metered = open_source(linear, coding)
    shifted = open_source(linear * 2**stops, coding, metered=metered.exposure * 2**-stops)
    torch.testing.assert_close(shifted.display, metered.display, rtol=0, atol=1e-4)
    flat, reconstruction = _network(metered.display)
    one, two = finish(flat, metered, reconstruction), finish(flat, shifted, reconstruction)
    torch.testing.assert_close(one.gain, two.gain, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(two.flat, linear * 2**stops * two.gain, rtol=1e-5, atol=1e-6)


def test_metering_leaves_what_is_well_exposed_and_mends_the_rest():
    picture = srgb_to_linear(_picture(5, top=0.95))
    assert plate_exposure(picture) == 1
    for factor in (1e-3, 1e3):
        exposed = picture * factor * plate_exposure(picture * factor)
        assert 0.2 < luminance(exposed).flatten().quantile(0.95) < 1.01
    assert plate_exposure(torch.zeros(1, 64, 64, 3)) == 1


def test_highlights_keep_their_range_and_their_detail():
    plate = srgb_to_linear(_picture(7))
    plate[:, 20:40, 60:80] = 12.0
    plate[:, 20:40:2, 60:80] = 9.0
    opened = open_source(plate, "linear Rec.709", metered=torch.ones(1))
    assert opened.display.max() <= 1
    _, reconstruction = _network(opened.display)
    unchanged = finish(reconstruction, opened, reconstruction)
    stripes = unchanged.flat[0, 24:36, 66:74, 0]
    assert (stripes[1::2] / stripes[::2]).mean() == pytest.approx(12 / 9, rel=0.03)
    # What the network sees as white comes out as bright as it sees it, not twelve times as bright.
    assert stripes.mean() < 2
    masked = finish(reconstruction, opened, reconstruction, torch.zeros(1, 96, 96))
    assert torch.equal(masked.flat, plate)
    assert torch.equal(masked.gain, torch.ones_like(plate))


def test_colours_outside_of_rec709_and_black_stay_finite():
    plate = torch.zeros(1, 64, 64, 3)
    plate[:, :32] = torch.tensor([0.0, 0.9, 0.0])
    opened = open_source(plate, "ACEScg")
    assert (to_rec709(plate, "ACEScg") < -0.05).any()
    flat, reconstruction = _network(opened.display, 1.4, 64)
    done = finish(flat, opened, reconstruction)
    assert torch.isfinite(done.flat).all() and torch.isfinite(done.gain).all()
    assert (done.gain >= 0).all() and (done.flat[:, 32:] == 0).all()


def test_roll_off_is_the_identity_below_its_knee_and_never_past_one():
    ramp = torch.logspace(-3, 4, 200)[:, None] * torch.tensor([1.0, 0.5, 0.1])
    rolled = roll_off(ramp)
    assert torch.equal(rolled[ramp[:, 0] <= 0.8], ramp[ramp[:, 0] <= 0.8])
    assert rolled.max() <= 1 and (rolled.diff(dim=0) >= -1e-6).all()
    torch.testing.assert_close(rolled[:, 1] / rolled[:, 0], torch.full((200,), 0.5), rtol=1e-4, atol=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(DelitError, match="coding"):
        open_source(torch.zeros(1, 64, 64, 3), "Rec.2020")
    with pytest.raises(DelitError, match="linear Rec.709"):
        open_source(torch.full((1, 64, 64, 3), 3.0))
    with pytest.raises(DelitError, match="NaN"):
        open_source(torch.full((1, 64, 64, 3), float("nan")), "ACEScg")


@pytest.mark.parametrize("stops", [math.nan, math.inf, -65, 1e6])
def test_exposures_without_bounds_are_refused(stops):
    with pytest.raises(DelitError, match="exposure is"):
        open_source(_picture(1), "ACEScg", stops)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_plates_are_exposed_by_a_factor_over_zero(factor):
    with pytest.raises(DelitError, match="a factor over 0"):
        open_source(_picture(1), "ACEScg", metered=torch.tensor([factor]))


def test_of_a_shot_all_frames_are_exposed_alike():
    frames = torch.cat((_picture(1), _picture(2))) * torch.tensor([1.0, 0.05])[:, None, None, None]
    assert open_source(frames, "linear Rec.709", together=True).exposure.unique().numel() == 1
    assert open_source(frames, "linear Rec.709").exposure.unique().numel() == 2
